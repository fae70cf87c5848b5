"""Register one CT to one cone-beam CT: files or volumes in, pose, path and confidence out.

    result = lib.register("cbct.nii.gz", "ct.nii.gz")
    result.pose           # (4, 4), maps moving (CT) points to fixed (CBCT) points, LPS mm
    result.trust.verdict  # "good" or "do not trust"

Two scouts look for the place: a search of all shifts, and a trained agent from several starts, spread along the body. One
judge brings their ends to the nearest optimum of the likeness, of the spine at bone, and takes the most alike
(`lib.registration.scouts`); `lib.registration.judged` says when to believe it. The agent alone: `scouts="agent"`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.base.limits import AgentName, Count, Number, Positive, Size, Turn
from lib.base.pools import one_thread_each, side_by_side
from lib.base.provenance import ROOT
from lib.images import values
from lib.images.normalise import field_of_view_centre
from lib.images.pair import shrink
from lib.images.transforms import as_pose
from lib.images.volume import Volume
from lib.registration import judged, trust
from lib.registration.chosen import Look, choose, roll_out, values_of
from lib.registration.couch import Couch, check_points, couch
from lib.registration.fair import check_size, doubts, notes, within
from lib.registration.starts import apart, starting_poses

AGENTS = ROOT / "results" / "agents"  # the released agents: <experiment>/<agent>_<stage>.safetensors

ELSEWHERE = {
    "search": "the search found this place; the path shown is the agent's, which ended elsewhere",
    "judge": "the judge found this place, next to where the scouts ended; the path shown is the agent's",
}


@dataclass(frozen=True)
class RegisterSettings:
    """How a pair of one's own is registered."""

    scouts: Literal["both", "agent", "search"] = "both"  # under one judge, or one alone
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
    """The answer. `pose` and `trajectory` (steps + 1, 4, 4) map moving to fixed world points (LPS mm).

    The path is the agent's, of the start that ended nearest to the pose; where none ended there, the one that the agent
    alone would answer; where no agent walked, from the start to the answer in one step.
    """

    pose: np.ndarray
    trajectory: np.ndarray
    values: np.ndarray  # (steps, 12) action values along the trajectory
    centre: np.ndarray  # (3,) rotation centre: the middle of the fixed field of view
    trust: trust.Trust | judged.Judged
    ends: np.ndarray  # (starts, 4, 4) where each start ended
    seconds: dict[str, float]
    found_by: str = "agent"  # of `judged.FOUND`
    note: str = ""
    # How the scans came, or the initial pose that was given.
    before: np.ndarray = field(default_factory=lambda: np.eye(4))
    settings: RegisterSettings = RegisterSettings()
    experiment: str = "spine"
    couch: Couch | None = None  # the six numbers of the couch
    notes: list[str] = field(default_factory=list)  # what the files left to be said
    walked: tuple[list[bool], int] = ([], 0)  # of the agent alone: which paths were stopped, and how many starts

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
            "found_by": self.found_by,
            "seconds": self.seconds,
            "notes": [*self.notes, *([self.note] if self.note else [])],
        }


def register(
    fixed,
    moving,
    experiment: str = "spine",
    initial=None,
    agent=None,
    settings: RegisterSettings | None = None,
    series: tuple[str | None, str | None] = (None, None),
    isocentres: tuple = (None, None),
    say: Callable[[str], None] = lambda line: None,
) -> Registration:
    """Register `moving` (CT) to `fixed` (CBCT): paths or Volumes. `initial`: a pose (4, 4), a .tfm path, or None.

    agent: a folder with trained networks, or a loaded `lib.agent.Agent` (its verdict is not calibrated); None means the
    released one. isocentres: of the CBCT and of the plan, for the couch's numbers (`lib.registration.couch`). Raises
    UserError for anything that cannot be read or registered, fields of view that do not overlap or are too small, an agent
    of another experiment, scouts that are none.
    """
    settings, clock = settings or RegisterSettings(), {}
    _check(settings.scouts)
    started = time.perf_counter()
    played = load_agent(agent, experiment, settings.agent, settings.scouts)
    initial = as_pose(initial)
    fixed, moving = read_both(fixed, moving, series)
    check_points(fixed, moving, isocentres)
    clock["reading"] = time.perf_counter() - started
    begin = time.perf_counter()
    small = shrink(fixed, settings.working_mm, True), shrink(moving, settings.working_mm, False)
    check_size(small[0])
    centre = field_of_view_centre(small[0])
    poses = starting_poses(*small, initial, centre, experiment, settings)
    clock["preparing"] = time.perf_counter() - begin
    with one_thread_each() as threads:
        whole = initial is None and apart(*small)
        result = _look_for_it(small, poses, whole, centre, experiment, settings, played, clock, say, threads)
    result.trust.reasons += doubts(fixed, moving, result.trust, *result.walked, experiment)
    result.before = np.eye(4) if initial is None else initial
    result.couch, result.settings, result.experiment = couch(result.pose, fixed, *isocentres), settings, experiment
    result.notes = notes(fixed, moving, small, initial)
    clock["total"] = time.perf_counter() - started
    result.seconds = {name: round(value, 2) for name, value in clock.items()}
    return result


def _check(scouts: str) -> None:
    """Raises UserError for scouts that are none."""
    from lib.registration.scouts import SCOUTS

    if scouts not in SCOUTS:
        raise UserError(f"There is no scout '{scouts}'; choose agent or search, or leave it out for both.")


def _look_for_it(small, poses, whole, centre, experiment, settings, played, clock, say, threads) -> Registration:
    """Both scouts side by side, or one, and who judges them; seconds go into `clock`. whole: the search looks all along the CT."""
    player, calibration = played
    walkers = max(1, min(threads - (settings.scouts == "both"), len(poses)))  # the search takes the other threads

    def agent():
        if settings.scouts == "search":
            return [], []
        say(f"{len(poses)} starts, {settings.coarse_steps} coarse and {settings.fine_steps} fine steps")
        with _timed(clock, "agent"):
            results = roll_out(player, *small, poses, centre, settings, walkers)
            return results, within(results, experiment, centre)

    def search():
        if settings.scouts == "agent":
            return np.empty((0, 4, 4))
        from lib.registration import scouts

        say("search of all shifts at a lattice of rotations")
        with _timed(clock, "search"):
            return scouts.search(*small, poses[0], experiment == "spine", max(1, threads - walkers), whole)

    (results, cut), found = side_by_side(agent, search, threads=threads)
    with _timed(clock, "judging"):
        look = Look(*small, centre, experiment)
        if settings.scouts == "agent":
            return _of_the_agent(results, look, calibration, cut)
        return _judged(small, poses, look, found, results, calibration, cut)


def _of_the_agent(results, look: Look, calibration, cut) -> Registration:
    """What the agent alone answers."""
    if not isinstance(calibration.limits, trust.TrustLimits):
        calibration = trust.Calibration()
    best, verdict = choose(results, look, calibration)
    ends, path = np.stack([r.pose for r in results]), results[best]
    answer = Registration(path.pose, path.trajectory, values_of(path), np.asarray(look.centre), verdict, ends, {})
    answer.walked = cut, len(ends)
    return answer


def _judged(small, poses, look: Look, found, results, calibration, cut) -> Registration:
    """What the judge answers. Where nothing can be judged, the agent's answer, which is then not to be trusted."""
    from lib.registration import scouts

    if not isinstance(calibration.limits, judged.JudgedLimits):
        calibration = trust.Calibration(judged.JudgedLimits())
    ends = np.stack([r.pose for r in results]) if results else np.empty((0, 4, 4))
    try:
        place = scouts.choose(*small, look, found, ends, calibration)
    except UserError as problem:
        if not results:
            raise
        answer = _of_the_agent(results, look, calibration, cut)
        answer.trust.reasons.append(f"search and agent could not be compared: {problem}")
        return answer
    centre, by = np.asarray(look.centre), place.trust.found_by
    if not results:
        path = np.stack([poses[0], place.pose]), np.zeros((1, 12))
        return Registration(place.pose, *path, centre, place.trust, ends, {}, by)
    nearest = choose(results, look, trust.Calibration())[0] if place.nearest is None else place.nearest
    path = results[nearest]
    answer = Registration(place.pose, path.trajectory, values_of(path), centre, place.trust, ends, {}, by)
    if place.nearest is None:
        answer.note = ELSEWHERE.get(by, "the judge climbed further than 10 mm from where the agent ended")
    return answer


@contextmanager
def _timed(clock: dict, name: str):
    begin = time.perf_counter()
    yield
    clock[name] = time.perf_counter() - begin


def load_agent(agent, experiment: str, name: str, scouts: str = "both"):
    """(the agent to use, the `trust.Calibration` of its verdict: alone, or under the judge with the search). Without an
    agent among the `scouts`, (None, nothing calibrated). Raises UserError: no such folder, no network in it, trained for
    the other experiment."""
    from lib.agent import Agent
    from lib.base import weights

    if experiment not in ("spine", "heart"):
        raise UserError(f"There is no experiment '{experiment}'; choose spine or heart.")
    if isinstance(agent, tuple):  # what this function gave
        return agent
    if isinstance(agent, Agent):
        return agent, calibration_of(None, None, scouts)
    if scouts == "search":
        return None, calibration_of(None, None, scouts)
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
    return Agent.load(folder, name), calibration_of(folder, network, scouts)


def calibration_of(folder, network, scouts: str) -> trust.Calibration:
    """What the verdict of these scouts was worth, as it stands beside a network; None: of no network."""
    file, kind = (trust.FILE, trust.TrustLimits) if scouts == "agent" else (judged.FILE, judged.JudgedLimits)
    return trust.Calibration(kind()) if network is None else trust.load(folder, network, file, kind)


def read_both(fixed, moving, series: tuple[str | None, str | None] = (None, None)) -> tuple[Volume, Volume]:
    """CBCT and CT in HU, from paths (read side by side: unpacking lets other threads work) or Volumes. Raises UserError;
    of two bad files the CBCT's."""
    loading = partial(importlib.import_module, "lib.registration.scouts")  # takes a while itself; not needed before
    read = [partial(_volume, *one) for one in zip((fixed, moving), ("cbct", "ct"), series, strict=True)]
    still, moved, _ = side_by_side(*read, loading)
    return still, moved


def _volume(source, kind: str, series: str | None) -> Volume:
    if not isinstance(source, Volume):
        from lib.images import read

        return read.read_image(source, series, kind, compact=True)
    if source.given is not None:  # it was read from a file
        return source
    name = "The CBCT" if kind == "cbct" else "The CT"
    values.check_range(float(source.array.min()), float(source.array.max()), name)
    return values.settle(source, kind, name)[0]
