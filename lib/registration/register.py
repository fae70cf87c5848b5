"""Register one CT to one cone-beam CT with a trained agent: files or volumes in, pose, path and confidence
out.

    result = lib.register("cbct.nii.gz", "ct.nii.gz")
    result.pose           # (4, 4), maps moving (CT) points to fixed (CBCT) points, LPS mm
    result.trust.verdict  # "good" or "do not trust"

Several starts, spread along the body, are rolled out together; the place where most of them end, and where the images
are most alike, wins. `lib.registration.trust` says when to believe it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.base.limits import AgentName, Count, Number, Positive, Size, Turn
from lib.base.provenance import ROOT
from lib.images import values
from lib.images.normalise import field_of_view, field_of_view_centre
from lib.images.pair import Likeness, overlap, shrink
from lib.images.transforms import read_transform
from lib.images.volume import Volume
from lib.registration import trust
from lib.registration.couch import Couch, couch
from lib.registration.fair import check_size, doubts, within

AGENTS = ROOT / "results" / "agents"  # the released agents: <experiment>/<agent>_<stage>.safetensors


@dataclass(frozen=True)
class RegisterSettings:
    """How a pair of one's own is registered."""

    agent: AgentName = "dsl_two_channel"  # the agent that is released (dsl is the paper's)
    starts: Count = 5  # roll-outs from different poses; their agreement is part of the confidence
    spread_mm: Size = 20.0  # half range of the other starts' shifts across the body
    spread_along: Size = 40.0  # mm, half range along the body: a vertebra or two
    spread_degrees: Turn = 10.0  # half range of their rotations
    working_mm: Positive = 2.0  # images are averaged down to about this spacing before anything else
    coarse_steps: Count = 200  # N1
    fine_steps: Number = 100  # N2
    adaptive: bool = True  # long steps far away, ±1 near: as good on patients made to choose it, in 2/3 of the time
    fine_limit: Size = 25.0  # mm: a fine path that leads further away is not followed
    seed: Number = 0


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
    agent_pose: np.ndarray | None = None  # where the agent ended, before any polish
    agent_trust: trust.Trust | None = None  # the verdict on that
    before: np.ndarray = field(
        default_factory=lambda: np.eye(4)
    )  # how the scans came, or the initial pose that was given
    settings: RegisterSettings = RegisterSettings()
    couch: Couch | None = None  # the six numbers of the couch
    notes: list[str] = field(default_factory=list)  # what the files left to be said

    def parameters(self) -> np.ndarray:
        """The six parameters (mm, degrees, about `centre`) of each pose of the path, (steps + 1, 6)."""
        return rigid.matrix_to_params(rigid.centred(self.trajectory, self.centre))

    def summary(self) -> dict:
        """Pose, six numbers, verdict, reasons and settings in plain types: what `--json` writes."""
        six = rigid.matrix_to_params(rigid.centred(self.pose, self.centre))
        return {
            "pose_moving_to_fixed_lps_mm": self.pose.tolist(),
            "six_numbers": dict(zip(("tx", "ty", "tz", "rx", "ry", "rz"), six.tolist(), strict=True)),
            "centre_lps_mm": np.asarray(self.centre).tolist(),
            "couch": None if self.couch is None else asdict(self.couch),
            "verdict": self.trust.verdict,
            "reasons": self.trust.reasons,
            "numbers": {name: float(value) for name, value in self.trust.numbers().items()},
            "calibrated": self.trust.calibration.n > 0,
            "starts": len(self.ends),
            "settings": asdict(self.settings),
            "polished": self.polished,
            "seconds": self.seconds,
            "notes": [*self.notes, *([self.note] if self.note else [])],
        }


def register(
    fixed,
    moving,
    experiment: str = "spine",
    initial=None,
    agent=None,
    polish: bool = False,
    settings: RegisterSettings | None = None,
    series: tuple[str | None, str | None] = (None, None),
    isocentres: tuple = (None, None),
    say: Callable[[str], None] = lambda line: None,
) -> Registration:
    """Register `moving` (CT) to `fixed` (CBCT): paths or Volumes. `initial` is a pose (4, 4), a .tfm path,
    or None.

    agent: a folder with trained networks, or a loaded `lib.agent.Agent` (its verdict is not calibrated); None means the
    released one. polish: end with mutual information, kept where it is better supported. isocentres: of the CBCT and of
    the plan, for the couch's numbers (`lib.registration.couch`). Raises UserError for anything that cannot be read or
    registered, fields of view that do not overlap or are too small, an agent of another experiment.
    """
    settings, clock = settings or RegisterSettings(), {}
    started = time.perf_counter()
    player, calibration = load_agent(agent, experiment, settings.agent)
    fixed, moving = (_volume(v, kind, s) for v, kind, s in zip((fixed, moving), ("cbct", "ct"), series, strict=True))
    clock["reading"] = time.perf_counter() - started
    begin = time.perf_counter()
    small_fixed, small_moving = (
        shrink(fixed, settings.working_mm, True),
        shrink(moving, settings.working_mm, False),
    )
    check_size(small_fixed)
    if isinstance(initial, str | Path):
        initial = read_transform(initial)
    centre = field_of_view_centre(small_fixed)
    poses = starting_poses(small_fixed, small_moving, initial, centre, experiment, settings)
    clock["preparing"] = time.perf_counter() - begin
    say(f"{len(poses)} starts, {settings.coarse_steps} coarse and {settings.fine_steps} fine steps")
    begin = time.perf_counter()
    results = _roll_out(player, small_fixed, small_moving, poses, centre, settings)
    cut = within(results, experiment, centre)
    clock["agent"] = time.perf_counter() - begin
    begin = time.perf_counter()
    look = Look(small_fixed, small_moving, centre, experiment)
    result = _choose(results, look, calibration)
    clock["judging"] = time.perf_counter() - begin
    if polish:
        begin = time.perf_counter()
        _polish(result, look)
        clock["polish"] = time.perf_counter() - begin
    result.trust.reasons += doubts(fixed, moving, result.trust, cut, len(poses))
    result.before = np.eye(4) if initial is None else np.asarray(initial, dtype=float)
    result.couch, result.settings = couch(result.pose, fixed, *isocentres), settings
    result.notes = [f"{v.given.name}: {note}" for v in (fixed, moving) if v.given is not None for note in v.given.notes]
    clock["total"] = time.perf_counter() - started
    result.seconds = {name: round(value, 2) for name, value in clock.items()}
    return result


def load_agent(agent, experiment: str, name: str):
    """(the agent to use, its `trust.Calibration`). Raises UserError: no such folder, no network in it, trained for the
    other experiment."""
    from lib.agent import Agent
    from lib.base import weights

    if experiment not in ("spine", "heart"):
        raise UserError(f"There is no experiment '{experiment}'; choose spine or heart.")
    if isinstance(agent, tuple):  # what this function gave
        return agent
    if isinstance(agent, Agent):
        return agent, trust.Calibration()
    folder = Path(agent) if agent is not None else AGENTS / experiment
    if not any(folder.glob(f"{name}_coarse.safetensors")):
        others = sorted(p.name.removesuffix("_coarse.safetensors") for p in folder.glob("*_coarse.safetensors"))
        if not others:
            raise UserError(
                f"{folder}: no trained agent here; give a folder of agents with --agent, or run `make reproduce`."
            )
        name = others[-1]
    network = folder / f"{name}_coarse.safetensors"
    trained_for = weights.load(network)[1].get("experiment", experiment)
    if trained_for != experiment:
        raise UserError(
            f"{folder}: this agent was trained for the {trained_for}, not the {experiment}; choose the "
            f"experiment {trained_for} or another agent."
        )
    return Agent.load(folder, name), trust.load(folder, network)


def _volume(source, kind: str, series: str | None) -> Volume:
    if isinstance(source, Volume):
        return (
            source
            if source.given is not None
            else values.settle(source, kind, "The CBCT" if kind == "cbct" else "The CT")[0]
        )
    from lib.images import read

    return read.read_image(source, series, kind, compact=True)


def starting_poses(fixed: Volume, moving: Volume, initial, centre, experiment: str, settings) -> np.ndarray:
    """(starts, 4, 4): `initial` (4, 4) and poses around it. Without one: the scanners' own coordinates if the
    images overlap
    there, else the middles of the two on each other. Raises UserError where the fields of view do not
    meet."""
    given, along = initial is not None, settings.spread_along
    if given and overlap(fixed, moving, np.asarray(initial)) < 0.05:
        raise UserError(
            "The fields of view do not overlap at the initial transform; does it map fixed to moving points?"
        )
    if not given:
        initial = np.eye(4)
        if overlap(fixed, moving, initial) < 0.25:
            initial = rigid.translation(np.asarray(centre) - moving.centre)
            length = moving.size[2] * moving.spacing[2]
            along = max(along, min(120.0, length / 2 - 60)) if experiment == "spine" else along
        if overlap(fixed, moving, initial) < 0.05:
            raise UserError(
                "The fields of view do not overlap, not even with their middles on each "
                "other; is this the "
                "same part of the body?"
            )
    rng, n = np.random.default_rng(settings.seed), max(settings.starts, 1)
    offsets = rng.uniform(-1, 1, (n, 6)) * np.repeat([settings.spread_mm, settings.spread_degrees], 3)
    even = np.linspace(-along, along, n + 1 - n % 2)  # with 0 among them
    offsets[:, 2] = even[np.argsort(np.abs(even), kind="stable")][:n]
    offsets[0] = 0.0
    return np.stack([rigid.about(rigid.params_to_matrix(v), centre) @ initial for v in offsets])


def _roll_out(player, fixed: Volume, moving: Volume, poses, centre, settings: RegisterSettings) -> list:
    """All starts together: a `lib.agent.AgentResult` each."""
    from lib import agent as agents

    steps = agents.AgentSettings(
        coarse_steps=settings.coarse_steps,
        fine_steps=settings.fine_steps,
        fine_limit=settings.fine_limit,
        adaptive=settings.adaptive,
    )
    n = len(poses)
    return agents.run(player, [fixed] * n, [moving] * n, poses, steps, np.tile(centre, (n, 1)))


class Look:
    """What the images say of a pose: overlap, likeness, shift and lead (`lib.registration.trust`)."""

    def __init__(self, fixed: Volume, moving: Volume, centre, experiment: str = "spine"):
        self.fixed, self.moving, self.centre = fixed, moving, centre
        self.likeness, self.elsewhere = Likeness(fixed, moving, centre, experiment == "spine"), np.empty(0)

    def __call__(self, pose: np.ndarray) -> dict[str, float]:
        moved = np.stack([rigid.translation([0, 0, z]) @ pose for z in trust.SHIFTS])
        profile = self.likeness(moved, 0.3)
        shift, lead = trust.second_look(profile, self.elsewhere)
        here = float(np.nan_to_num(profile[trust.SHIFTS == 0][0], nan=-1.0))
        return {"overlap": overlap(self.fixed, self.moving, pose), "likeness": here, "shift": shift, "lead": lead}


def _choose(results, look: Look, calibration: trust.Calibration) -> Registration:
    """The group of ends with most members and most alike images wins; its most alike member is the answer.

    `look.elsewhere` becomes the likeness of the ends outside the group.
    """
    ends, limits, centre = np.stack([r.pose for r in results]), calibration.limits, look.centre
    alike = np.nan_to_num(look.likeness(ends), nan=-1.0)
    group = trust.largest_group(ends, alike, centre, limits.same_place)
    best = int(group[np.argmax(alike[group])])
    chosen, pose, look.elsewhere = results[best], ends[best], np.delete(alike, group)
    values = np.concatenate([chosen.coarse.values] + ([chosen.fine.values] if chosen.fine else []))
    walked = {
        "agreement": len(group) / len(ends),
        "wander": trust.wander(chosen.trajectory, centre, limits.tail),
        "margin": float(trust.margins(values)[-limits.tail :].mean()),
    }
    verdict = trust.judge(walked | look(pose), calibration)
    return Registration(
        pose, chosen.trajectory, values, np.asarray(centre), verdict, ends, {}, agent_pose=pose, agent_trust=verdict
    )


def _polish(result: Registration, look: Look) -> None:
    """End with tuned mutual information (`lib.baselines.polish`), kept only where it is better supported.

    The images are judged again where it ended; if that is another place than the agent's, one of the two is wrong.
    """
    from lib.baselines import polish
    from lib.baselines.settings import BaselineSettings

    fixed, before = look.fixed, result.agent_trust
    pose = polish.register(fixed, look.moving, result.pose, BaselineSettings(), field_of_view(fixed)).pose
    moved = float(trust.displacement(result.pose, pose, result.centre))
    result.polished = moved > 1e-6
    if not result.polished:
        result.note = "polish not kept: it was not better supported"
        return
    result.pose, result.note = pose, f"polished by {moved:.1f} mm"
    result.trust = trust.judge(before.numbers() | look(pose), before.calibration)
    if moved > before.calibration.limits.same_place:
        result.trust.reasons.append(f"the agent and mutual information end {moved:.0f} mm apart")
