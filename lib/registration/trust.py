"""When to believe a registration: numbers from the agent's own paths and from the images, and a verdict in words.

Seven things are looked at. Of the agent: how many of its starts, which are spread over a vertebra or two along the body,
ended at one place; whether it came to rest there; how clearly it preferred its actions. Of the images at that place: how
much of the cone-beam scan lies inside the CT; how alike they are (for the spine: at and beside bone); whether they would
be more alike a little further along the body (the agent is wrong together with all its starts there); whether they are
as alike a vertebra further, or where another start ended (nothing tells this place from that one).

The limits belong to an agent: the study `trust_calibration` finds them on patients that are not tested and leaves them
beside the networks as trust.json. Without that file the limits below are guesses, and the sentence says so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from lib.rigid import displacement

GOOD, BAD = "good", "do not trust"
FILE = "trust.json"  # beside an agent's networks
SHIFTS = np.arange(-48.0, 49.0, 4.0)  # mm along the body at which likeness is looked at
NUMBERS = ("overlap", "agreement", "wander", "margin", "likeness", "shift", "lead")
LOOK = "Look at the overlay before you use it"
NEXT = 16.0  # mm from which on a shift is another place: half a lumbar vertebra and more


@dataclass(frozen=True)
class TrustLimits:
    """Below (or above) these the verdict is "do not trust"."""

    min_overlap: float = 0.35  # share of the CBCT's field of view inside the CT
    min_agreement: float = 0.6  # share of the starts that end within `same_place`
    max_wander: float = 8.0  # mm, reach of the last 20 steps
    min_margin: float = 0.15  # mean margin of the last 20 steps, in standard deviations
    min_likeness: float = 0.3  # correlation of local contrast, E1: at and beside bone
    max_shift: float = 6.0  # mm along the body to where the images are most alike
    min_lead: float = 0.0  # likeness here less that of the best other place
    same_place: float = 10.0  # mm, mean displacement of points 50 mm from the centre
    tail: int = 20  # steps that count as the end of the path


@dataclass(frozen=True)
class Calibration:
    """Limits and what they were worth on the patients that they were found on, each judged without its own cases."""

    limits: TrustLimits = TrustLimits()  # or `judged.JudgedLimits`
    n: int = 0  # cases; 0: not calibrated
    called_good: float = float("nan")  # share of them
    right_when_good: float = float("nan")  # share within 10 mm (E1) or 20 mm (E2), of those called good
    right_when_not: float = float("nan")
    networks: str = ""  # SHA-256 of the coarse network that walked
    bodies: int = 0  # bodies with a case called good, a scan and what grew from it being one; 0: not counted
    bodies_wrong: int = 0  # of them, bodies with a wrong case called good


@dataclass
class Trust:
    """The numbers behind a verdict; `reasons` holds a sentence for each that is bad."""

    overlap: float
    agreement: float
    wander: float
    margin: float
    likeness: float
    shift: float = 0.0
    lead: float = 1.0
    reasons: list[str] = field(default_factory=list)
    calibration: Calibration = Calibration()

    @property
    def verdict(self) -> str:
        return BAD if self.reasons else GOOD

    def numbers(self) -> dict[str, float]:
        """What `judge` judges by."""
        return {name: getattr(self, name) for name in NUMBERS}

    def lines(self, starts: int) -> list[tuple[str, str, str]]:
        """What was looked at, what it was, and from where on it is good; for a table. starts: how many walked."""
        limits = self.calibration.limits
        return [
            ("CBCT inside the CT", f"{self.overlap:.0%}", f"at least {limits.min_overlap:.0%}"),
            ("starts that agree", f"{self.agreement:.0%} of {starts}", f"at least {limits.min_agreement:.0%}"),
            ("wandering at the end", f"{self.wander:.1f} mm", f"at most {limits.max_wander:g} mm"),
            (
                "action-value margin at the end",
                f"{self.margin:.2f} standard deviations",
                f"at least {limits.min_margin:g}",
            ),
            ("likeness (correlation of local contrast)", f"{self.likeness:.2f}", f"at least {limits.min_likeness:g}"),
            ("most alike when moved along the body by", f"{self.shift:+.0f} mm", f"at most {limits.max_shift:g} mm"),
            ("lead over any other place", f"{self.lead:+.2f}", f"at least {limits.min_lead:+g}"),
        ]

    def sentence(self) -> str:
        """The verdict in one line, with what such a verdict was worth so far."""
        if self.reasons:
            return f"{BAD}: " + "; ".join(self.reasons)
        return f"{GOOD}: the starts agree and the images support it; {worth(self.calibration)}. {LOOK}"


def worth(c: Calibration) -> str:
    """What the verdict "good" was worth so far, in words."""
    if c.n and c.called_good == 1 and c.right_when_good == 1:
        return f"none of the {c.n} calibration cases was wrong, so how well it tells is not known"
    if not c.n * c.called_good > 0:
        return "the verdict is not calibrated for this agent"
    judged = round(c.n * c.called_good)
    wrong = judged - round(judged * c.right_when_good)
    if not c.bodies:
        return f"of {judged} calibration cases so judged {wrong} wrong (exact 95 % interval: up to {at_most(wrong, judged):.0%})"
    most = f"exact 95 % interval over bodies: up to {at_most(c.bodies_wrong, c.bodies):.0%}"  # cases of one are not independent
    return f"of {judged} calibration cases of {c.bodies} bodies so judged {wrong} wrong ({most})"


def at_most(wrong: int, n: int) -> float:
    """Upper end of the exact (Clopper-Pearson) 95 % interval of a share that was `wrong` of `n`."""
    from scipy.special import betaincinv  # scipy.stats has it, too, and takes half a second to load

    return 1.0 if wrong == n else float(betaincinv(wrong + 1, n - wrong, 0.975))


def wander(poses: np.ndarray, centre, tail: int = 20) -> float:
    """How far (mm) the poses of the last `tail` steps lie from the last one, at most. poses (steps + 1, 4, 4)."""
    return float(max(displacement(poses[-1], pose, centre) for pose in poses[-tail:]))


def margins(values: np.ndarray) -> np.ndarray:
    """Action-value margin of each step: (best - mean) / standard deviation of the 12 values. (steps, 12) -> (steps,)."""
    spread = np.maximum(values.std(axis=-1), 1e-6)
    return (values.max(axis=-1) - values.mean(axis=-1)) / spread


def largest_group(poses: np.ndarray, support: np.ndarray, centre, same_place: float) -> np.ndarray:
    """Indices of the poses (n, 4, 4) that ended at one place: the group with most members plus best support."""
    n = len(poses)
    near = np.array([[displacement(poses[i], poses[j], centre) <= same_place for j in range(n)] for i in range(n)])
    scores = [near[i].mean() + support[near[i]].max() for i in range(n)]
    return np.flatnonzero(near[int(np.argmax(scores))])


def second_look(profile: np.ndarray, elsewhere: np.ndarray) -> tuple[float, float]:
    """(shift, lead) from the likeness (25,) of the pose moved along the body by `SHIFTS`, NaN where it leaves the CT,
    and from the likeness (m,) of the ends of starts that went elsewhere.

    shift: mm to where the images are most alike. lead: likeness near the pose less that of the best other place.
    """
    profile = np.where(np.isfinite(profile), profile, -1.0)
    here = profile[np.abs(SHIFTS) < NEXT].max()
    others = np.concatenate([profile[np.abs(SHIFTS) >= NEXT], np.asarray(elsewhere, dtype=float)])
    return float(SHIFTS[np.argmax(profile)]), float(here - others.max())


def judge(numbers: dict[str, float], calibration: Calibration | None = None) -> Trust:
    """A Trust from overlap, agreement, wander, margin, likeness, shift and lead."""
    calibration, n = calibration or Calibration(), numbers
    sentences = {
        "overlap": f"only {n['overlap']:.0%} of the CBCT lies inside the CT",
        "agreement": f"only {n['agreement']:.0%} of the starts ended at the same place",
        "wander": f"the agent still wandered by {n['wander']:.0f} mm at the end",
        "margin": f"the agent hardly preferred any action (margin {n['margin']:.2f})",
        "likeness": f"the images are alike by {n['likeness']:.2f} only",
        "shift": f"moved {n['shift']:+.0f} mm along the body they are more alike",
        "lead": f"another place is as likely (lead {n['lead']:.2f})",
    }
    reasons = [sentences[name] for name, bad in failed(n, calibration.limits).items() if bad]
    return Trust(**n, reasons=reasons, calibration=calibration)


def failed(n, limits: TrustLimits) -> dict:
    """Which of `NUMBERS` are beyond their limits: name -> bool, or a bool array where the numbers are arrays."""
    return {
        "overlap": n["overlap"] < limits.min_overlap,
        "agreement": n["agreement"] < limits.min_agreement,
        "wander": n["wander"] > limits.max_wander,
        "margin": n["margin"] < limits.min_margin,
        "likeness": n["likeness"] < limits.min_likeness,
        "shift": abs(n["shift"]) > limits.max_shift,
        "lead": n["lead"] < limits.min_lead,
    }


def save(calibration: Calibration, folder, file: str = FILE) -> Path:
    """Write `trust.json` (or `file`) beside an agent's networks."""
    from lib.base.provenance import write_json

    write_json(Path(folder) / file, asdict(calibration))
    return Path(folder) / file


def load(folder, network: Path, file: str = FILE, kind: type = TrustLimits) -> Calibration:
    """The calibration beside the agent's `network`; the uncalibrated default where there is none, or it is another's.
    kind: the class of its limits."""
    from lib.base.provenance import sha256

    path = Path(folder) / file
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        limits = kind(**value.pop("limits"))
        known = {f.name for f in fields(Calibration)}
        found = Calibration(limits=limits, **{k: v for k, v in value.items() if k in known})
    except (OSError, ValueError, TypeError, KeyError):
        return Calibration(kind())
    return found if found.networks == sha256(network) else Calibration(kind())
