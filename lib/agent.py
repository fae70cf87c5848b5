"""The agent at work: roll-outs of greedy actions, coarse then fine around its own attention (Hierarchical Image Registration).

At each step the agent sees the fixed window and the moving image at its present pose, and takes the action of largest
value: T <- a T, in coordinates centred at the fixed window. N1 = 200 coarse steps, then the saliency of the coarse
network gives the centre of the region of interest, then N2 = 100 fine steps there. Batched over cases.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lib import network as networks
from lib import rigid, saliency, walks
from lib.base.errors import UserError
from lib.images.normalise import Source, field_of_view_centre
from lib.images.volume import Volume
from lib.images.windows import SourceBank, cut
from lib.stage import Stage
from lib.train import AGENTS


@dataclass(frozen=True)
class AgentSettings:
    """Roll-out and attention."""

    coarse_steps: int = 200  # N1
    fine_steps: int = 100  # N2
    best_three: float = 0.0  # probability of a random choice among the best three actions (the paper gives none)
    adaptive: bool = False  # large steps far away, +-1 near: a variant beside the paper's agent
    refine: str = (
        "saliency"  # where the fine window is centred: saliency (the paper) | saliency_first | centre | object | none
    )
    fine_limit: float = 0.0  # mm: a fine path that leads further away is not followed; 0: always followed (the paper)
    saliency_percentile: float = 95.0  # threshold of the saliency map
    moves: str = "steps"  # steps (the paper) | jumps: all that a regression network says is left, at once
    stop: float = 0.0  # a 13th output stops the walk from this probability on; 0: it takes every step
    seed: int = 0


@dataclass
class Agent:
    """A trained agent: its coarse network and, where there is one, its fine network."""

    name: str
    coarse: Stage
    fine: Stage | None = None

    @classmethod
    def load(cls, folder, name: str, device: str = "auto") -> Agent:
        """From `folder/<name>_coarse.safetensors` and `_fine`. Raises UserError where the coarse one is missing."""
        if name not in AGENTS:
            raise UserError(f"there is no agent {name!r}; choose one of {', '.join(AGENTS)}.")
        fine = Path(folder) / f"{name}_fine.safetensors"
        return cls(
            name,
            Stage.load(Path(folder) / f"{name}_coarse.safetensors", device),
            Stage.load(fine, device) if fine.exists() else None,
        )


@dataclass
class RollOut:
    """What one roll-out leaves. poses (steps + 1, 4, 4) world moving -> fixed; values (steps, 12)."""

    poses: np.ndarray
    values: np.ndarray
    centre: np.ndarray


@dataclass
class AgentResult:
    """Coarse and fine paths of one case; `pose` is the last. roi is the centre of attention (fixed world)."""

    coarse: RollOut
    fine: RollOut | None = None
    roi: np.ndarray | None = None
    seconds: float = 0.0
    note: str = ""
    saliency: dict = field(default_factory=dict)

    @property
    def pose(self) -> np.ndarray:
        return (self.fine or self.coarse).poses[-1]

    @property
    def trajectory(self) -> np.ndarray:
        parts = [self.coarse.poses] + ([self.fine.poses[1:]] if self.fine else [])
        return np.concatenate(parts)


class Windows:
    """Fixed windows (cut once) and moving sources of a batch of cases; gives the observation at any poses."""

    def __init__(
        self,
        stage: Stage,
        fixed: list[Source],
        moving: list[Source],
        centres: np.ndarray,
        fixed_of=None,
        moving_of=None,
    ):
        n = len(centres)
        self.stage, self.centres = stage, torch.as_tensor(np.asarray(centres))
        self.moving = SourceBank.of(moving, stage.device)
        self.moving_of = torch.arange(n) if moving_of is None else torch.as_tensor(moving_of)
        bank, which = (
            SourceBank.of(fixed, stage.device),
            torch.arange(n) if fixed_of is None else torch.as_tensor(fixed_of),
        )
        frames = bank.to_index.cpu()[which] @ self._shift(self.centres)
        self.fixed, self.fixed_ok = cut(
            bank, which.to(stage.device), frames.to(stage.device), stage.window, stage.voxel, stage.linear
        )

    @staticmethod
    def _shift(centres):
        shift = torch.eye(4, dtype=torch.float64).repeat(len(centres), 1, 1)
        shift[:, :3, 3] = centres
        return shift

    def windows(self, poses: torch.Tensor):
        """poses (n, 4, 4) float64, world. Returns fixed, moved, valid."""
        frames = self.moving.to_index.cpu()[self.moving_of] @ rigid.invert(poses) @ self._shift(self.centres)
        device = self.stage.device
        stage = self.stage
        moved, ok = cut(
            self.moving, self.moving_of.to(device), frames.to(device), stage.window, stage.voxel, stage.linear
        )
        return self.fixed, moved, ok & self.fixed_ok

    def only(self, which) -> Windows:
        """The same windows for some of the cases."""
        part, which = copy(self), torch.as_tensor(which)
        part.centres, part.moving_of = self.centres[which], self.moving_of[which]
        on_device = which.to(self.fixed.device)
        part.fixed, part.fixed_ok = self.fixed[on_device], self.fixed_ok[on_device]
        return part

    def observe(self, poses):
        return networks.observe(*self.windows(poses), self.stage.observation)


@torch.no_grad()
def roll_out(windows: Windows, poses: np.ndarray, steps: int, settings: AgentSettings) -> tuple[np.ndarray, np.ndarray]:
    """Follow the largest action value for `steps` steps. poses (n, 4, 4) -> poses (steps + 1, n, 4, 4), values (steps, n, 12).

    A greedy path that comes back to a pose where it has been goes round for ever: the rest of it is copied, not computed.
    Who has stopped (`settings.stop`) stays where it is. Raises UserError where the network cannot do what is asked.
    """
    poses = np.asarray(poses, dtype=np.float64)
    path, values = np.empty((steps + 1, *poses.shape)), np.empty((steps, len(poses), 12), np.float32)
    path[0], unit = poses, torch.as_tensor(rigid.action_params())
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.full((steps, len(poses)), -1)
    lengths = torch.full((steps + 1, len(poses)), 4.0 if settings.adaptive else 1.0, dtype=torch.float64)
    going = torch.ones(len(poses), dtype=torch.bool)
    jumps = settings.moves == "jumps"
    greedy = settings.best_three == 0 and settings.stop == 0 and not jumps
    walking, view, period = np.arange(len(poses)), windows, np.zeros(len(poses), int)
    for step in range(steps):
        pose = torch.as_tensor(path[step, walking])
        q, left, arrived = view.stage.read(view.stage.outputs(view.observe(pose)).cpu())
        if (jumps and left is None) or (settings.stop > 0 and arrived is None):
            raise UserError("agent.moves: jumps and agent.stop need networks that were trained for them.")
        best = q.argmax(1)
        if settings.best_three > 0:
            other = q.topk(3, dim=1).indices.gather(1, torch.randint(3, (len(q), 1), generator=generator))[:, 0]
            best = torch.where(torch.rand(len(q), generator=generator) < settings.best_three, other, best)
        chosen[step, walking] = best
        if settings.adaptive:
            lengths[step + 1, walking] = walks.step_sizes(
                chosen[max(0, step - 3) : step + 1, walking], lengths[step, walking]
            )
        action = rigid.params_to_matrix(left.double() if jumps else unit[best] * lengths[step + 1, walking, None])
        shift = windows._shift(view.centres)
        moved = shift @ action @ rigid.invert(shift) @ pose
        if settings.stop > 0:  # everybody walks on here: `greedy` is false
            going &= arrived < settings.stop
            moved = torch.where(going[:, None, None], moved, pose)
        path[step + 1, walking] = moved.numpy()
        values[step, walking] = q.numpy()
        if greedy:
            period[walking] = walks.period(path[: step + 2, walking])
            if settings.adaptive:
                part = chosen[: step + 1, walking], lengths[: step + 2, walking]
                period[walking] *= walks.as_before(*part, period[walking])
            on = np.flatnonzero(period == 0)
            for i in np.setdiff1d(walking, on):
                walks.repeat(path[:, i], values[:, i], step + 1, period[i])
            if len(on) == 0:
                break
            if len(on) < len(walking):
                walking, view = on, windows.only(on)
    return path, values


def _within(poses: np.ndarray, rois: np.ndarray, limit: float) -> np.ndarray:
    """Fine paths (steps + 1, n, 4, 4) that end with the region's centre further than `limit` mm from where they began
    stay at their beginning: there the network is far outside what it was trained on, and runs away. 0: as they are."""
    if limit <= 0:
        return poses
    poses = poses.copy()
    for i, roi in enumerate(rois):
        at_start = rigid.apply(rigid.invert(poses[0, i]), roi[None])
        if np.linalg.norm(rigid.apply(poses[-1, i], at_start)[0] - roi) > limit:
            poses[:, i] = poses[0, i]
    return poses


def _unique(volumes: list[Volume]):
    """Distinct volumes (by identity) and the index of each case's volume among them."""
    order: dict[int, int] = {}
    index = [order.setdefault(id(v), len(order)) for v in volumes]
    distinct = [None] * len(order)
    for v, i in zip(volumes, index, strict=False):
        distinct[i] = v
    return distinct, index


def _regions(agent, view, poses, settings, centres, objects) -> np.ndarray:
    """Centres (n, 3) of the fine windows, fixed world, by `settings.refine`. Raises UserError for a name that is none."""
    if settings.refine in ("saliency", "saliency_first"):
        at = poses[-1] if settings.refine == "saliency" else poses[0]
        maps = saliency.maps(view, at, agent.coarse)
        return saliency.centres(maps, centres, agent.coarse.voxel, settings.saliency_percentile)
    given = {"centre": centres, "object": objects}.get(settings.refine)
    if given is None:
        raise UserError(
            f"agent.refine is {settings.refine!r}; use saliency, saliency_first, centre, object (where it is known) or none."
        )
    return np.array(given, dtype=float)


def run(
    agent: Agent,
    fixed: list[Volume],
    moving: list[Volume],
    initial: np.ndarray,
    settings: AgentSettings,
    centres: np.ndarray | None = None,
    objects: np.ndarray | None = None,
) -> list[AgentResult]:
    """Register a batch of cases: volumes (n), initial poses (n, 4, 4), world, moving -> fixed.

    centres (n, 3): centres of the coarse windows; the fields of view's by default. objects (n, 3): where the object
    really is, for `refine: object` alone. Seconds are the batch's, shared: of the processor, on a GPU of the clock.
    """
    clock = time.process_time if agent.coarse.device.type == "cpu" else time.time
    started = clock()
    fixed_set, fixed_of = _unique(fixed)
    moving_set, moving_of = _unique(moving)
    if centres is None:
        middle = [field_of_view_centre(v) for v in fixed_set]
        centres = np.stack([middle[i] for i in fixed_of])

    def windows(stage, centres):
        return Windows(
            stage,
            [stage.source_of(v, True) for v in fixed_set],
            [stage.source_of(v, False) for v in moving_set],
            centres,
            fixed_of,
            moving_of,
        )

    view = windows(agent.coarse, centres)
    poses, values = roll_out(view, initial, settings.coarse_steps, settings)
    results = [AgentResult(RollOut(poses[:, i], values[:, i], centres[i])) for i in range(len(fixed))]
    if agent.fine is not None and settings.refine != "none":
        rois = _regions(agent, view, poses, settings, centres, objects)
        near = windows(agent.fine, rois)
        poses, values = roll_out(near, poses[-1], settings.fine_steps, settings)
        poses = _within(poses, rois, settings.fine_limit)
        for i, result in enumerate(results):
            result.fine, result.roi = RollOut(poses[:, i], values[:, i], rois[i]), rois[i]
    for result in results:
        result.seconds = (clock() - started) / len(results)
    return results


def register(
    fixed: Volume, moving: Volume, initial: np.ndarray, agent: Agent, settings: AgentSettings | None = None
) -> AgentResult:
    """Register one pair. `initial` and the result's `pose` map moving to fixed world points."""
    return run(agent, [fixed], [moving], np.asarray(initial)[None], settings or AgentSettings())[0]
