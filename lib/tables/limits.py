"""The limits of a verdict, found on rows of patients that no test sees, and their worth there: of the agent alone (studies
`trust_calibration` and, of the heart, `heart_calibration`), and of the judge's choice (`judged_calibration`, and the same
of the heart).

The limits are those that keep the wanted share of the "good" cases right and call most of the right ones good; their worth
is told by leaving each patient (and what grew from one scan) out in turn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from lib import cases
from lib.base import provenance
from lib.registration import judged, trust
from lib.study import rows as study_rows

ALIGNED = 10.0  # mm of `cases.displaced`: from there on a heart is not aligned
FEW = 5  # wrong registrations below which no limit is moved
SHIFTS = np.array([2.0, 6.0, 10.0, 14.0, 60.0])  # mm; shifts come in steps of 4


@dataclass(frozen=True)
class Kind:
    """A verdict: the study with its rows, which of them are its own, the file of its limits, their class, what fails them,
    what is tried for each."""

    study: str
    methods: tuple[str, ...]
    file: str
    limits: type
    module: ModuleType  # has NUMBERS and failed(numbers, limits)
    grid: dict[str, np.ndarray]
    wanted: float  # of the cases called good, this share should be right
    experiment: str = "spine"


LEADS = np.round(np.arange(-0.2, 0.31, 0.02), 2)
AGENT = Kind(
    "trust_calibration",
    ("register",),
    trust.FILE,
    trust.TrustLimits,
    trust,
    {
        "min_likeness": np.round(np.arange(0.0, 0.61, 0.02), 2),
        "max_shift": SHIFTS,
        "min_lead": LEADS,
        "min_agreement": np.array([0.0, 0.4, 0.6, 0.8, 1.0]),
    },
    0.95,
)
HEART = dataclasses.replace(AGENT, study="heart_calibration", experiment="heart")
BOTH = Kind(
    "judged_calibration",
    ("register_both", "register_search"),
    judged.FILE,
    judged.JudgedLimits,
    judged,
    {
        # The strictest first: of two limits that tell as well it is taken.
        "min_lead": np.round(np.arange(0.0, 0.41, 0.02), 2)[::-1],
        "min_lead_alone": np.round(np.arange(0.0, 0.41, 0.02), 2)[::-1],
        "min_likeness": np.round(np.arange(0.0, 0.61, 0.02), 2)[::-1],
        "max_shift": SHIFTS[1:],
        "min_beside": LEADS[::-1],
    },
    1.0,  # none: with 0.99 four of 205 left-out cases called good are wrong, with 1.0 none of 197
)


# A heart of another patient fits well enough that to call none of them good would leave hardly any. Likeness tells most
# here, so its limit is found first.
HEART_BOTH = dataclasses.replace(
    BOTH,
    study="heart_calibration",
    experiment="heart",
    wanted=0.95,
    grid={"min_likeness": BOTH.grid["min_likeness"]} | BOTH.grid,
)


def read(results, kind: Kind = AGENT) -> pd.DataFrame:
    """The rows of a verdict's study with the numbers behind it as columns; of hearts `success` asks for the pose. `group`:
    the drawn patient, or the scan that a case shows or grew from."""
    rows = study_rows.read(results, kind.study)
    rows = rows[rows["method"].isin(kind.methods)].reset_index(drop=True)
    rows = pd.concat([rows, study_rows.numbers(rows)], axis=1)
    if kind.experiment == "heart":
        rows["success"] = cases.displaced(rows) <= ALIGNED  # an MME hardly sees rotation
    own = rows["case"].where(rows["dataset"].str.startswith("virtual_"), rows["dataset"])
    return rows.assign(group=rows["group"].where(rows["group"] != "", own))


def called_good(rows: pd.DataFrame, limits, kind: Kind = AGENT) -> np.ndarray:
    """What these limits say of the rows: bool (n,). What is doubted for another reason is never good."""
    numbers = {name: rows[name].to_numpy(float) for name in kind.module.NUMBERS}
    doubted = rows["doubts"].to_numpy(float) > 0 if "doubts" in rows else np.zeros(len(rows), dtype=bool)
    return ~np.any([doubted, *kind.module.failed(numbers, limits).values()], axis=0)


def fit(rows: pd.DataFrame, kind: Kind = AGENT):
    """The limits that call most right cases good while the wanted share of those called good is right; of limits that do
    so equally the first tried, in the order of the grid."""
    right, best = rows["success"].to_numpy(bool), kind.limits()
    if (~right).sum() < FEW:  # nothing tells right from wrong where nothing is wrong: the limits set by hand stand
        return best
    for _ in range(2):
        for name, grid in kind.grid.items():
            options = [dataclasses.replace(best, **{name: float(value)}) for value in grid]
            best = max(options, key=lambda limits: _score(called_good(rows, limits, kind), right, kind.wanted))
    return best


def _score(good: np.ndarray, right: np.ndarray, wanted: float) -> tuple[float, float]:
    """Few good cases prove little: at least five, or a tenth, must be called good."""
    if good.sum() < max(5, 0.1 * len(good)):
        return 0.0, float(good.sum())
    worth = right[good].mean()
    return min(worth, wanted), float(good[right].mean()) if right.any() else 0.0


def left_out(rows: pd.DataFrame, kind: Kind = AGENT) -> np.ndarray:
    """What is called good if the limits are found without the patient (or scan) judged: bool (n,)."""
    good = np.zeros(len(rows), dtype=bool)
    for group in rows["group"].unique():
        mine = (rows["group"] == group).to_numpy()
        if (~mine).any():
            good[mine] = called_good(rows[mine], fit(rows[~mine], kind), kind)
    return good


def calibrate(rows: pd.DataFrame, network: Path, kind: Kind = AGENT) -> trust.Calibration:
    """Limits from all rows, their worth from `left_out`; they belong to the coarse network that walked."""
    good, right = left_out(rows, kind), rows["success"].to_numpy(bool)

    def share(part) -> float:
        return float(right[part].mean()) if part.any() else float("nan")

    worth = (float(good.mean()), share(good), share(~good))
    bodies = (rows.loc[part, "group"].nunique() for part in (good, good & ~right))
    return trust.Calibration(fit(rows, kind), len(rows), *worth, provenance.sha256(network), *bodies)
