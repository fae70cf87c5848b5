"""The limits of the verdict, found on rows of patients that no test sees (study `trust_calibration`), and their worth there.

The limits are those that keep 95 % of the "good" cases right and call most of the right ones good; their worth is told by
leaving each patient (and what grew from one scan) out in turn.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base import provenance
from lib.registration import trust
from lib.study import rows as study_rows

WANTED = 0.95  # of the cases called good, so many should be right
FEW = 5  # wrong registrations below which no limit is moved
GRID = {
    "min_likeness": np.round(np.arange(0.0, 0.61, 0.02), 2),
    "max_shift": np.array([2.0, 6.0, 10.0, 14.0, 60.0]),  # shifts come in steps of 4 mm
    "min_lead": np.round(np.arange(-0.2, 0.31, 0.02), 2),
    "min_agreement": np.array([0.0, 0.4, 0.6, 0.8, 1.0]),
}


def read(results, study: str = "trust_calibration") -> pd.DataFrame:
    """The study's rows with the numbers behind the verdict as columns; `group`: the patient, or the scan it grew from."""
    rows = study_rows.read(results, study)
    rows = pd.concat([rows, study_rows.numbers(rows)], axis=1)
    return rows.assign(group=rows["group"].where(rows["group"] != "", rows["case"]))


def called_good(rows: pd.DataFrame, limits: trust.TrustLimits) -> np.ndarray:
    """What these limits say of the rows: bool (n,)."""
    numbers = {name: rows[name].to_numpy(float) for name in trust.NUMBERS}
    return ~np.any(list(trust.failed(numbers, limits).values()), axis=0)


def fit(rows: pd.DataFrame) -> trust.TrustLimits:
    """The limits that call most right cases good while `WANTED` of those called good are right; the likeness' first."""
    right, best = rows["success"].to_numpy(bool), trust.TrustLimits()
    if (~right).sum() < FEW:  # nothing tells right from wrong where nothing is wrong: the limits set by hand stand
        return best
    for _ in range(2):
        for name, grid in GRID.items():
            options = [dataclasses.replace(best, **{name: float(value)}) for value in grid]
            best = max(options, key=lambda limits: _score(called_good(rows, limits), right))
    return best


def _score(good: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Few good cases prove little: at least five, or a tenth, must be called good."""
    if good.sum() < max(5, 0.1 * len(good)):
        return 0.0, float(good.sum())
    worth = right[good].mean()
    return min(worth, WANTED), float(good[right].mean()) if right.any() else 0.0


def left_out(rows: pd.DataFrame) -> np.ndarray:
    """What is called good if the limits are found without the patient (or scan) judged: bool (n,)."""
    good = np.zeros(len(rows), dtype=bool)
    for group in rows["group"].unique():
        mine = (rows["group"] == group).to_numpy()
        if (~mine).any():
            good[mine] = called_good(rows[mine], fit(rows[~mine]))
    return good


def calibrate(rows: pd.DataFrame, network: Path) -> trust.Calibration:
    """Limits from all rows, their worth from `left_out`; they belong to the coarse network that walked."""
    good, right = left_out(rows), rows["success"].to_numpy(bool)

    def share(part) -> float:
        return float(right[part].mean()) if part.any() else float("nan")

    worth = (float(good.mean()), share(good), share(~good))
    return trust.Calibration(fit(rows), len(rows), *worth, provenance.sha256(network))
