"""Settings of Figure 4's comparison, and the names of its curves."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("dsl", "dsl_weighted", "dqn", "double_dqn", "dsl_refined")
CURVES = (*METHODS, *(f"{method}_two_channel" for method in METHODS))  # lib.study.planar.runs: who sees what


@dataclass(frozen=True)
class DrlSettings:
    """Notebook 06. The defaults are the smoke profile: they prove the plumbing and claim nothing."""

    methods: tuple[str, ...] = CURVES  # curves of the figure
    seeds: tuple[int, ...] = (0,)  # one training of each method a seed; the shading
    pairs: int = 48  # image pairs for training (paper: 2000)
    cases: int = 16  # unseen pairs, from test patients, one start each (paper: 100)
    window: int = 36  # pixels along an edge (paper: 128)
    spacing: float = 5.0  # mm a pixel (the paper does not say)
    observation: str = "difference"  # what curves without _two_channel see: difference (the paper)
    ranges: tuple[float, float, float] = (30.0, 30.0, 30.0)  # starts: mm, mm, degrees
    steps: int = 20  # training steps of every method
    batch: int = 32  # samples a step (paper: 32)
    evaluate_every: int = 10  # steps between two points of the curve
    actions: int = 100  # actions of an agent at test; the farthest start needs about 90
    success_mm: float = 10.0  # mean displacement over the inner window that counts as success
    near_share: float = 0.0  # DSL: share of samples within 5 mm and 5 degrees of the truth
    learning_rate: float = 1.0e-3  # DSL: RMSprop without momentum (paper: 6e-5 over far more steps)
    value_weight: float = 0.05  # dsl_weighted: `training.value_weight`
    decay: float = 0.7  # factor on the learning rate, both methods ...
    decay_every: int = 10000  # ... every so many steps
    dqn_learning_rate: float = 2.0e-3  # DQN: RMSprop
    dqn_norm: str = "batch"  # DQN's normalisation: batch (the paper's network) | none
    memory: int = 1_000_000  # transitions in the replay memory (Mnih: 1 M)
    warmup: int = 512  # random transitions before the first training step
    explore: int = 32  # exploration steps a training step; = batch: as many images as DSL sees (Mnih: 4)
    episode: int = 60  # an exploring agent begins again after so many steps
    epsilon_end: float = 0.1  # exploration falls from 1 to this (Mnih) ...
    epsilon_share: float = 0.3  # ... over this share of the training
    target_every: int = 100  # steps between two copies into the target network
    workers: int = 1  # processes side by side, one training each
    device: str = "auto"  # auto | cpu | cuda
