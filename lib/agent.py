"""The agent at work: roll-outs of greedy actions, coarse then fine around its own attention (Hierarchical Image Registration).

At each step the agent sees the fixed window and the moved image, and takes the action of largest value: T <- a T, about
the fixed window's centre. N1 = 200 coarse steps; the coarse network's saliency says where; N2 = 100 fine steps there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lib import rigid, saliency
from lib.base.errors import UserError
from lib.base.limits import Count, Number, Percent, Share, Size
from lib.images.normalise import field_of_view_centre
from lib.images.volume import Volume
from lib.network import Stage, Windows
from lib.train import AGENTS

UNTRAINED = "agent.moves: jumps and agent.stop need networks that were trained for them."


@dataclass(frozen=True)
class AgentSettings:
    """Roll-out and attention."""

    coarse_steps: Count = 200  # N1
    fine_steps: Number = 100  # N2
    best_three: Share = 0.0  # probability of a random choice among the best three actions (the paper gives none)
    adaptive: bool = False  # large steps far away, +-1 near: a variant beside the paper's agent
    refine: Literal["saliency", "saliency_first", "centre", "object", "none"] = "saliency"  # centre of the fine window
    fine_limit: Size = 0.0  # mm: a fine path that leads further away is not followed; 0: always followed (the paper)
    saliency_percentile: Percent = 95.0  # threshold of the saliency map
    moves: Literal["steps", "jumps"] = "steps"  # the paper; jumps: all that a regression network says is left, at once
    stop: Share = 0.0  # a 13th output stops the walk from this probability on; 0: it takes every step
    seed: Number = 0


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
        coarse, fine = (Path(folder) / f"{name}_{stage}.safetensors" for stage in ("coarse", "fine"))
        return cls(name, Stage.load(coarse, device), Stage.load(fine, device) if fine.exists() else None)


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

    @property
    def pose(self) -> np.ndarray:
        return (self.fine or self.coarse).poses[-1]

    @property
    def trajectory(self) -> np.ndarray:
        parts = [self.coarse.poses] + ([self.fine.poses[1:]] if self.fine else [])
        return np.concatenate(parts)


class Steps:
    """How the paper's agent moves: one unit along the action of largest value. A new object for each roll-out of n."""

    def __init__(self, settings: AgentSettings, n: int):
        self.settings, self.unit = settings, torch.as_tensor(rigid.action_params())
        self.generator = torch.Generator().manual_seed(settings.seed)
        # A path that comes back to a pose goes round from there, if what is done depends on the pose alone.
        self.goes_round = settings.best_three == 0 and settings.stop == 0

    def choose(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers (m,) of the actions taken: of largest value, or at times any of the best three. values (m, 12)."""
        best = values.argmax(1)
        if self.settings.best_three == 0:
            return best
        draw = torch.randint(3, (len(values), 1), generator=self.generator)
        other = values.topk(3, dim=1).indices.gather(1, draw)[:, 0]
        return torch.where(torch.rand(len(values), generator=self.generator) < self.settings.best_three, other, best)

    def move(self, values, left, walking: np.ndarray) -> torch.Tensor:
        """Parameters (m, 6), mm and degrees, by which the cases `walking` (m,) move. left (m, 6): what a regression
        network says is left, None of others."""
        return self.unit[self.choose(values)]

    def as_before(self, walking: np.ndarray, period: np.ndarray) -> np.ndarray:
        """Whether the next move of each case, if it was at its pose `period` steps ago (0: it was not), will be what
        it was then. bool (m,)."""
        return period > 0


class LongSteps(Steps):
    """Steps of 1 to 8 units: half as long where the last two actions cancelled, twice as long after four equal ones."""

    def __init__(self, settings: AgentSettings, n: int):
        super().__init__(settings, n)
        self.chosen: list[torch.Tensor] = []  # of each step the actions (n,) ...
        self.lengths = [torch.full((n,), 4.0, dtype=torch.float64)]  # ... and the lengths after it

    def move(self, values, left, walking: np.ndarray) -> torch.Tensor:
        """As `Steps.move`, times the present length."""
        chosen, length = torch.full_like(self.lengths[0], -1, dtype=torch.long), self.lengths[-1].clone()
        chosen[walking] = self.choose(values)
        self.chosen.append(chosen)
        length[walking] = step_sizes([c[walking] for c in self.chosen[-4:]], length[walking])
        self.lengths.append(length)
        return self.unit[chosen[walking]] * length[walking, None]

    def as_before(self, walking: np.ndarray, period: np.ndarray) -> np.ndarray:
        """Also the length must be what it was, and the last three actions, on which the next length depends."""
        same = period > 0
        for k in np.flatnonzero(same):
            i, p = walking[k], int(period[k])
            mine = [int(c[i]) for c in self.chosen[-3 - p :]]
            same[k] = (
                len(mine) == p + 3 and mine[-3:] == mine[:3] and bool(self.lengths[-1][i] == self.lengths[-1 - p][i])
            )
        return same


class Jumps(Steps):
    """All that a regression network says is left, at once."""

    def __init__(self, settings: AgentSettings, n: int):
        super().__init__(settings, n)
        self.goes_round = False

    def move(self, values, left, walking: np.ndarray) -> torch.Tensor:
        if left is None:
            raise UserError(UNTRAINED)
        return left.double()


def step_sizes(recent: list[torch.Tensor], step: torch.Tensor) -> torch.Tensor:
    """Lengths (n,) of `LongSteps` after the actions `recent`, up to four (n,), the last one last; `step`: so far."""
    if len(recent) >= 2:
        back = (recent[-1] ^ 1) == recent[-2]
        step = torch.where(back, (step / 2).clamp(min=1.0), step)
    if len(recent) >= 4:
        same = (recent[-1] == recent[-2]) & (recent[-1] == recent[-3]) & (recent[-1] == recent[-4])
        step = torch.where(same, (step * 2).clamp(max=8.0), step)
    return step


def period(path: np.ndarray, longest: int = 24) -> np.ndarray:
    """How many steps ago each of n paths (steps, n, 4, 4) was at its last pose; 0 where it was not."""
    before = path[-2 : -2 - longest : -1]
    again = np.abs(before - path[-1]).max(axis=(2, 3)) < 1e-6  # any action moves an entry by a thousand times that
    return np.where(again.any(axis=0), again.argmax(axis=0) + 1, 0)


@torch.no_grad()
def roll_out(windows: Windows, poses: np.ndarray, steps: int, settings: AgentSettings) -> tuple[np.ndarray, np.ndarray]:
    """Walk `steps` steps from poses (n, 4, 4), world. Returns poses (steps + 1, n, 4, 4) and values (steps, n, 12).

    A path that returns to an earlier pose repeats itself from there, so its rest is copied, not computed. With
    `settings.stop` a case that has arrived stays where it is. Raises UserError where the network cannot do what is asked.
    """
    poses = np.asarray(poses, dtype=np.float64)
    path, values = np.empty((steps + 1, *poses.shape)), np.empty((steps, len(poses), 12), np.float32)
    path[0], going = poses, torch.ones(len(poses), dtype=torch.bool)
    kind = Jumps if settings.moves == "jumps" else LongSteps if settings.adaptive else Steps
    policy, walking, view = kind(settings, len(poses)), np.arange(len(poses)), windows
    for step in range(steps):
        pose = torch.as_tensor(path[step, walking])
        q, left, arrived = view.stage.read(view.stage.outputs(view.observe(pose)).cpu())
        moved = view.act(rigid.params_to_matrix(policy.move(q, left, walking)), pose)
        if settings.stop > 0:  # nothing is copied then: all cases are still walking
            if arrived is None:
                raise UserError(UNTRAINED)
            going &= arrived < settings.stop
            moved = torch.where(going[:, None, None], moved, pose)
        path[step + 1, walking], values[step, walking] = moved.numpy(), q.numpy()
        if policy.goes_round:
            on = _copied(path, values, step + 1, walking, policy)
            if not len(on):
                break
            if len(on) < len(walking):
                walking, view = on, windows.only(on)
    return path, values


def _copied(path, values, done: int, walking: np.ndarray, policy: Steps) -> np.ndarray:
    """Fill the paths that go round after `done` steps with repetitions of their loop; returns the cases that do not."""
    loops = period(path[: done + 1, walking])
    loops[~policy.as_before(walking, loops)] = 0
    for i, loop in zip(walking[loops > 0], loops[loops > 0], strict=True):
        for step in range(done, len(values)):
            path[step + 1, i], values[step, i] = path[step + 1 - loop, i], values[step - loop, i]
    return walking[loops == 0]


def _within(poses: np.ndarray, rois: np.ndarray, limit: float) -> np.ndarray:
    """Fine paths (steps + 1, n, 4, 4), those that move the region's centre by more than `limit` mm undone.

    So far off the network sees what it was not trained on, and runs away. limit 0: no path is undone.
    """
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
    distinct = list({id(volume): volume for volume in volumes}.values())
    place = {id(volume): i for i, volume in enumerate(distinct)}
    return distinct, [place[id(volume)] for volume in volumes]


def _regions(agent, view, poses, settings, centres, objects) -> np.ndarray:
    """Centres (n, 3) of the fine windows, fixed world, by `settings.refine`. Raises UserError for an unknown name."""
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
        still, other = [stage.source_of(v, True) for v in fixed_set], [stage.source_of(v, False) for v in moving_set]
        return Windows(stage, still, other, centres, fixed_of, moving_of)

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
