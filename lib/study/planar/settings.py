"""Settings of Figure 4's comparison, and the names of its curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lib.base.limits import ONCE, Count, Number, Positive, Rate, Reach, Rule, Share, Size

SHORT = ("dsl", "dsl_weighted", "dqn", "double_dqn", "dsl_refined")  # notebook 09's
METHODS = (*SHORT, "dqn_today")
# What a network sees, by the end of its curve's name; without one it is `observation`.
SEES = {"_two_channel": "two_channel", "_moved_alone": "moved"}
CURVES = tuple(method + end for end in ("", *SEES) for method in METHODS)
# Five convolutions and two poolings leave one pixel of 36.
Window = Annotated[int, Rule(lambda n: n >= 36, "36 or more")]


@dataclass(frozen=True)
class DrlSettings:
    """Notebook 09. The defaults are the smoke profile: they prove the plumbing and claim nothing."""

    # Curves of the figure.
    methods: Annotated[tuple[Literal[CURVES], ...], ONCE] = (*SHORT, *(f"{method}_two_channel" for method in SHORT))
    seeds: Annotated[tuple[Number, ...], ONCE] = (0,)  # one training of each method a seed; the shading
    pairs: Count = 48  # image pairs for training (paper: 2000)
    cases: Count = 16  # unseen pairs, from test patients, one start each (paper: 100)
    window: Window = 36  # pixels along an edge (paper: 128)
    spacing: Positive = 5.0  # mm a pixel (the paper does not say)
    # What curves see whose name does not say it: difference (the paper). moved: the moved image alone, a control.
    observation: Literal["difference", "two_channel", "moved"] = "difference"
    ranges: Reach = (30.0, 30.0, 30.0)  # starts: mm, mm, degrees
    steps: Count = 20  # training steps of every method
    batch: Count = 32  # samples a step (paper: 32)
    evaluate_every: Count = 10  # steps between two points of the curve
    actions: Count = 100  # actions of an agent at test; the farthest start needs about 90
    success_mm: Positive = 10.0  # mean displacement over the inner window that counts as success
    near_share: Share = 0.0  # DSL: share of samples within 5 mm and 5 degrees of the truth
    learning_rate: Rate = 1.0e-3  # DSL: RMSprop without momentum (paper: 6e-5 over far more steps)
    value_weight: Size = 0.05  # dsl_weighted: `training.value_weight`
    decay: Share = 0.7  # factor on the learning rate, both methods ...
    decay_every: Count = 10000  # ... every so many steps
    dqn_learning_rate: Rate = 2.0e-3  # DQN: RMSprop
    dqn_norm: Literal["batch", "none"] = "batch"  # DQN's normalisation: batch: the paper's network
    memory: Count = 1_000_000  # transitions in the replay memory (Mnih: 1 M)
    warmup: Number = 512  # random transitions before the first training step
    explore: Count = 32  # exploration steps a training step; = batch: as many images as DSL sees (Mnih: 4)
    episode: Count = 60  # an exploring agent begins again after so many steps
    epsilon_end: Share = 0.1  # exploration falls from 1 to this (Mnih) ...
    epsilon_share: Share = 0.3  # ... over this share of the training
    target_every: Count = 100  # steps between two copies into the target network
    n_steps: Count = 3  # dqn_today: rewards of so many steps before the target network is asked
    precision: Literal["auto", "bf16", "fp32"] = "fp32"  # auto: bf16 where the processor is fast at it
    keep_every: Size = 60.0  # seconds between two checkpoints, beside those at every point of the curve
    workers: Number = 1  # processes side by side, one training each
    device: Literal["auto", "cpu", "cuda"] = "auto"  # the GPU where there is one
