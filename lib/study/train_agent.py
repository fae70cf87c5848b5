"""An agent's networks of one split, trained from its patients: what notebook 03 calls.

Also the ways of learning that only variants have (lib.study.variants): one-shot regression of the residual, a 13th output
that says "arrived", and boosting, that is more samples from where another agent fails on *training* patients.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib import mdp, network, rigid, train
from lib.augment import Stream
from lib.base.errors import UserError
from lib.base.sections import build, hint, merge
from lib.loss import q_loss
from lib.network import Stage, Windows
from lib.study import config, pairs

WITHIN = 0.75  # window voxels: a state with every parameter within it has arrived, for the 13th output
FAILED = 10.0  # a walk that ends at a larger D has failed, for boosting
JITTER = 2.0  # mm and degrees about the states of failed walks
STARTS = 4  # walks a training pair in the search for failures


@dataclass(frozen=True)
class Own:
    """What one agent has of its own: overrides of two sections."""

    stream: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PerAgentSettings:
    """What differs between the agents of Table 1. `dsl` is the paper's: it trains on what the paper trains on."""

    dsl: Own = Own(stream={"perturb": False, "mirror": False})
    dsl_two_channel: Own = Own()
    dsl_three_channel: Own = Own()


def own(cfg, name: str):
    """`cfg` with what agent `name` has of its own in its sections; what a variant changes stays changed. Raises UserError
    for a name that is none."""
    if name not in train.AGENTS:
        raise UserError(f"There is no agent {name!r}; {hint(str(name), train.AGENTS)}")
    settings = cfg.per_agent or config.load(cfg.profile, ("per_agent",)).per_agent
    changed = {}
    for section in ("stream", "training"):
        values = getattr(getattr(settings, name), section) | (getattr(cfg.change, section) if cfg.change else {})
        if values:
            merged = merge(dataclasses.asdict(getattr(cfg, section)), values)
            changed[section] = build(section, merged, f"configs/{cfg.profile}.yaml (per_agent.{name})")
    return dataclasses.replace(cfg, **changed)


def stages(cfg) -> list[str]:
    """The networks of an agent: coarse, and fine for E1 or where asked for; a variant may have fewer."""
    both = ["coarse"] + (["fine"] if cfg.experiment == "spine" or cfg.training.heart_fine else [])
    return both if cfg.change is None else [stage for stage in both if stage in cfg.change.stages]


def agent(cfg, name: str, say=print) -> dict[str, Path]:
    """Train the networks of agent `name` (those of `cfg.variant` where there is one): stage -> weights.

    What is trained already is not trained again; what was interrupted goes on. `cfg` as `own` gives it.
    """
    folders, trained = pairs.split_folders(cfg), {}
    few = cfg.change.pairs if cfg.change else 0
    sides = {"train": folders["train"][: few or None], "validation": folders["validation"]}
    for stage in stages(cfg):
        data = [pairs.load_pairs(pairs.prepare_pairs(sides[s], stage, cfg.stream)) for s in sides]
        lesson = train.Lesson(
            cfg.stream, cfg.training, cfg.experiment, stage, name, objective(cfg, name, stage, data[0], say)
        )
        trained[stage] = train.train(lesson, *data, config.agents_dir(cfg), say=say)
    return trained


def shape(cfg, name: str) -> network.NetworkSettings:
    """The network that `agent` trains."""
    t, outputs = cfg.training, _outputs(cfg)
    return network.NetworkSettings(cfg.stream.window, train.AGENTS[name], t.padding, t.stem, t.filters, outputs)


def _outputs(cfg) -> int:
    return {"parameters": 6, "stop": 13}.get(cfg.change and cfg.change.learns, 12)


def objective(cfg, name, stage, data, say=print) -> train.Objective:
    """What a network is to learn: the paper's action values, or what the change in `cfg` has instead of them."""
    change, stream = cfg.change, Stream
    if change is None:
        return train.Objective()
    words = {"name": "", "outputs": _outputs(cfg)}
    if change.learns == "parameters":
        scale = torch.tensor(cfg.stream.range(cfg.experiment, stage))
        words |= {"name": "parameters", "mean": 0.0, "loss": partial(regression_loss, scale=scale)}
    elif change.learns == "stop":
        within = WITHIN * cfg.stream.voxel(stage)
        loss = partial(stop_loss, within=within, value_weight=cfg.training.value_weight)
        words |= {"name": f"stop {within:g}", "mean": (7.0,) * 12 + (0.0,), "loss": loss}
    if change.boost and stage == "coarse":
        hard = failures(cfg, name, data, say)
        stream = partial(BoostedStream, hard=hard, share=change.boost)
        words["name"] = f"boost {change.boost:g} of {len(hard)}"
    return train.Objective(**words, stream=stream)


def regression_loss(prediction, targets, v, scale):
    """Mean square of the residual's six parameters, each in units of its range."""
    return (prediction - v / scale.to(v.device)).square().mean()


def stop_loss(prediction, targets, v, within: float, value_weight: float):
    """Eq. 5 for the twelve actions; the 13th output learns the bonus R where the state has arrived, else 0.

    Its mean square is least at R times the probability of having arrived; in units of R it weighs as one action.
    """
    arrived = (v.abs().amax(dim=1) <= within).to(prediction)
    stop = (prediction[:, 12] - mdp.BONUS * arrived).square().mean() / mdp.BONUS**2
    return q_loss(prediction[:, :12], targets, value_weight) + stop


class BoostedStream(Stream):
    """A stream with a share of residuals near the states `hard` (m, 6)."""

    def __init__(self, *words, hard: torch.Tensor, share: float):
        super().__init__(*words)
        self.hard, self.share = hard, share

    def residuals(self, n: int) -> torch.Tensor:
        v = super().residuals(n)
        if not len(self.hard):
            return v
        near = self.hard[torch.randint(len(self.hard), (n,), generator=self.generator)]
        near = near + JITTER * (2 * torch.rand(n, 6, generator=self.generator) - 1)
        limits = torch.as_tensor(self.limits, dtype=v.dtype)
        near = torch.maximum(torch.minimum(near.to(v), limits), -limits)
        return torch.where(torch.rand(n, 1, generator=self.generator) < self.share, near, v)


def failures(cfg, name: str, data, say=print) -> torch.Tensor:
    """States (m, 6) along the walks on which the reference's coarse network fails, from training patients.

    The reference is trained first where it is not there yet. `STARTS` random starts a pair, drawn as in training.
    """
    from lib.agent import roll_out

    reference = config.load(
        cfg.profile,
        ("stream", "training", "agent", "patients"),
        variant="reference",
        experiment=cfg.experiment,
        split=cfg.split,
    )
    stage = Stage.load(agent(own(reference, name), name, say)["coarse"])
    stream = Stream(data, cfg.stream, cfg.experiment, "coarse", seed=17)
    which = torch.arange(len(data)).repeat_interleave(STARTS)
    centres = np.stack([data[i].anchors[0] for i in which.tolist()])
    frames = torch.as_tensor(np.stack([rigid.translation(c) for c in centres]))
    v = (2 * torch.rand(len(which), 6, generator=stream.generator) - 1) * torch.tensor(stream.limits)
    v = stream.bounded(v, which, frames).double().numpy()
    truth = np.stack([data[i].truth for i in which.tolist()])
    away = rigid.invert(rigid.params_to_matrix(v))
    initial = np.stack([rigid.about(a, c) @ t for a, c, t in zip(away, centres, truth, strict=True)])
    hard = []
    for a in range(0, len(which), 50):
        part = slice(a, a + 50)
        view = Windows(
            stage,
            [p.fixed for p in data],
            [p.moving for p in data],
            centres[part],
            which[part].tolist(),
            which[part].tolist(),
        )
        poses, _ = roll_out(view, initial[part], reference.agent.coarse_steps, reference.agent)
        for path, t, c in zip(poses.swapaxes(0, 1), truth[part], centres[part], strict=True):
            states = rigid.state(t, path, c)
            if np.linalg.norm(states[-1]) > FAILED:
                hard.append(states)
    say(f"boosting: {len(hard)} of {len(which)} walks on training patients fail")
    return torch.as_tensor(np.concatenate(hard) if hard else np.zeros((0, 6)), dtype=torch.float32)
