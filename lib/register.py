"""Register one CT to one cone-beam CT with a trained agent: files or volumes in, pose, path and confidence
out.

    result = register("cbct.nii.gz", "ct.nii.gz")
    result.pose           # (4, 4), maps moving (CT) points to fixed (CBCT) points, LPS mm
    result.trust.verdict  # "good" or "do not trust"

Several starts are rolled out together; the place where most of them end, and where the images are most
alike, wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib import rigid, trust
from lib.errors import UserError
from lib.normalise import field_of_view, field_of_view_centre
from lib.provenance import ROOT
from lib.register_images import overlap, shrink, similarity
from lib.volume import Volume

AGENTS = ROOT / "results" / "agents"  # the released agents: <experiment>/<agent>_<stage>.safetensors


@dataclass(frozen=True)
class RegisterSettings:
    """How a pair of one's own is registered."""

    agent: str = "dsl_two_channel"  # the agent that is released (dsl is the paper's)
    starts: int = 4  # roll-outs from different poses; their agreement is part of the confidence
    spread_mm: float = 20.0  # half range of the other starts' translations
    spread_degrees: float = 10.0  # half range of their rotations
    working_mm: float = 2.0  # images are averaged down to about this spacing before anything else
    coarse_steps: int = 200  # N1
    fine_steps: int = 100  # N2
    fine_limit: float = 25.0  # mm: a fine path that leads further away is not followed
    seed: int = 0
    trust: trust.TrustThresholds = field(default_factory=trust.TrustThresholds)


@dataclass
class Registration:
    """The answer. `pose` and `trajectory` (steps + 1, 4, 4) map moving to fixed world points (LPS mm)."""

    pose: np.ndarray
    trajectory: np.ndarray
    values: np.ndarray  # (steps, 12) action values along the trajectory
    centre: np.ndarray  # (3,) rotation centre: the middle of the fixed field of view
    trust: trust.Trust
    ends: np.ndarray  # (starts, 4, 4) where each start ended
    seconds: dict[str, float]
    polished: bool = False
    note: str = ""

    def parameters(self) -> np.ndarray:
        """The six parameters (mm, degrees, about `centre`) of each pose of the path, (steps + 1, 6)."""
        return rigid.matrix_to_params(rigid.centred(self.trajectory, self.centre))


def register(fixed, moving, experiment: str = "spine", initial=None, agent=None, polish: bool = False,
             settings: RegisterSettings | None = None, series: tuple[str | None, str | None] = (None, None),
             say: Callable[[str], None] = lambda line: None) -> Registration:  # fmt: skip
    """Register `moving` (CT) to `fixed` (CBCT): paths or Volumes. `initial` is a pose (4, 4), a .tfm path,
    or None.

    agent: a folder with trained networks, or a loaded `lib.agent.Agent`; None means the released one. Raises
    UserError
    for anything that cannot be read or registered, fields of view that do not overlap, an agent of another
    experiment.
    """
    settings, clock = settings or RegisterSettings(), {}
    started = time.perf_counter()
    player = load_agent(agent, experiment, settings.agent)
    fixed, moving = (
        _volume(v, kind, s) for v, kind, s in zip((fixed, moving), ("cbct", "ct"), series, strict=True)
    )
    clock["reading"] = time.perf_counter() - started
    begin = time.perf_counter()
    small_fixed, small_moving = (
        shrink(fixed, settings.working_mm, True),
        shrink(moving, settings.working_mm, False),
    )
    centre = field_of_view_centre(small_fixed)
    poses = starting_poses(small_fixed, small_moving, initial, centre, experiment, settings)
    clock["preparing"] = time.perf_counter() - begin
    say(f"{len(poses)} starts, {settings.coarse_steps} coarse and {settings.fine_steps} fine steps")
    begin = time.perf_counter()
    result = _roll_out(player, small_fixed, small_moving, poses, centre, settings)
    clock["agent"] = time.perf_counter() - begin
    if polish:
        begin = time.perf_counter()
        _polish(result, small_fixed, small_moving)
        clock["polish"] = time.perf_counter() - begin
    clock["total"] = time.perf_counter() - started
    result.seconds = {name: round(value, 2) for name, value in clock.items()}
    return result


def load_agent(agent, experiment: str, name: str):
    """The agent to use. Raises UserError: no such folder, no network in it, trained for the other
    experiment."""
    from lib import weights
    from lib.agent import Agent

    if experiment not in ("spine", "heart"):
        raise UserError(f"There is no experiment '{experiment}'; choose spine or heart.")
    if isinstance(agent, Agent):
        return agent
    folder = Path(agent) if agent is not None else AGENTS / experiment
    if not any(folder.glob(f"{name}_coarse.safetensors")):
        others = sorted(
            p.name.removesuffix("_coarse.safetensors") for p in folder.glob("*_coarse.safetensors")
        )
        if not others:
            raise UserError(
                f"{folder}: no trained agent here; give a folder of agents with --agent, or "
                f"run `make reproduce`."
            )
        name = others[-1]
    trained_for = weights.load(folder / f"{name}_coarse.safetensors")[1].get("experiment", experiment)
    if trained_for != experiment:
        raise UserError(
            f"{folder}: this agent was trained for the {trained_for}, not the {experiment}; "
            f"choose the "
            f"experiment {trained_for} or another agent."
        )
    return Agent.load(folder, name)


def _volume(source, kind: str, series: str | None) -> Volume:
    if isinstance(source, Volume):
        return source
    from lib import io

    return io.read_image(source, series, kind)


def starting_poses(fixed: Volume, moving: Volume, initial, centre, experiment: str, settings) -> np.ndarray:
    """(starts, 4, 4): `initial` and poses around it. Without one: the scanners' own coordinates if the
    images overlap
    there, else the middles of the two on each other. Raises UserError where the fields of view do not
    meet."""
    if isinstance(initial, str | Path):
        from lib.volume import read_transform

        initial = read_transform(initial)
    given, spread_z = initial is not None, settings.spread_mm
    if given and overlap(fixed, moving, np.asarray(initial)) < 0.05:
        raise UserError(
            "The fields of view do not overlap at the initial transform; does it map fixed to moving points?"
        )
    if not given:
        initial = np.eye(4)
        if overlap(fixed, moving, initial) < 0.25:
            initial = rigid.translation(np.asarray(centre) - moving.centre)
            length = moving.size[2] * moving.spacing[2]
            spread_z = max(spread_z, min(120.0, length / 2 - 60)) if experiment == "spine" else spread_z
        if overlap(fixed, moving, initial) < 0.05:
            raise UserError(
                "The fields of view do not overlap, not even with their middles on each "
                "other; is this the "
                "same part of the body?"
            )
    rng = np.random.default_rng(settings.seed)
    spread = np.array([settings.spread_mm] * 2 + [spread_z] + [settings.spread_degrees] * 3)
    offsets = rng.uniform(-1, 1, (max(settings.starts, 1), 6)) * spread
    offsets[:, 2] = np.linspace(-1, 1, len(offsets)) * spread_z  # even along the body
    offsets[0] = 0.0
    return np.stack([rigid.about(rigid.params_to_matrix(v), centre) @ initial for v in offsets])


def _roll_out(
    player, fixed: Volume, moving: Volume, poses, centre, settings: RegisterSettings
) -> Registration:
    """All starts together; the group of ends with most members and most alike images wins."""
    from lib import agent as agents

    steps = agents.AgentSettings(
        coarse_steps=settings.coarse_steps, fine_steps=settings.fine_steps, fine_limit=settings.fine_limit
    )
    n = len(poses)
    results = agents.run(player, [fixed] * n, [moving] * n, poses, steps, np.tile(centre, (n, 1)))
    ends = np.stack([r.pose for r in results])
    alike = similarity(fixed, moving, ends, centre)
    limits = settings.trust
    group = trust.largest_group(ends, alike, centre, limits.same_place)
    best = int(group[np.argmax(alike[group])])
    chosen = results[best]
    values = np.concatenate([chosen.coarse.values] + ([chosen.fine.values] if chosen.fine else []))
    verdict = trust.judge(overlap(fixed, moving, ends[best]), len(group) / n, chosen.trajectory, values,
                          float(alike[best]), centre, limits)  # fmt: skip
    return Registration(ends[best], chosen.trajectory, values, np.asarray(centre), verdict, ends, {})


def _polish(result: Registration, fixed: Volume, moving: Volume) -> None:
    """End with tuned mutual information (`lib.baselines.polish`), kept only where it is better supported."""
    from lib.baselines import polish
    from lib.baselines.settings import BaselineSettings

    pose = polish.register(fixed, moving, result.pose, BaselineSettings(), field_of_view(fixed)).pose
    moved = float(trust.displacement(result.pose, pose, result.centre))
    result.polished = moved > 1e-6
    if not result.polished:
        result.note = "polish not kept: it was not better supported"
        return
    result.pose = pose
    result.trust.similarity = float(similarity(fixed, moving, pose[None], result.centre)[0])
    result.note = f"polished by {moved:.1f} mm"
