"""What a curve of Figure 4 comes to: one number at its end, one for all of it, and what it had reached in a given time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.study.planar.settings import SEES

LAST = 5  # checkpoints whose mean stands for the end of a training: a single one jumps by ten points
CONTROL = "moved"  # what a network sees that can only guess


def parts(curve: str) -> tuple[str, str]:
    """(method, what its network sees) of a curve's name; "" is the study's own, the difference image."""
    end = next((end for end in SEES if curve.endswith(end)), "")
    return curve.removesuffix(end), SEES.get(end, "")


def split(points: pd.DataFrame) -> pd.DataFrame:
    """Points with the columns `sees` and `method` (without the ending) in place of the curve's name."""
    found = [parts(curve) for curve in points["method"]]
    return points.assign(method=[m for m, _ in found], sees=[s for _, s in found])


def measures(points: pd.DataFrame, last: int = LAST) -> pd.DataFrame:
    """One row a training: window, sees, method, seed; `end` and `median_mm`: means of its last checkpoints; `area`: mean
    success over the training, the area under its curve; `steps`; `hours` of its processor."""
    made, seen = [], split(points) if len(points) else pd.DataFrame(columns=["window", "sees", "method", "seed"])
    for key, some in seen.groupby(["window", "sees", "method", "seed"], sort=False):
        some = some.sort_values("step")
        tail, steps = some.tail(last), some["step"].to_numpy(dtype=float)
        made.append(
            {
                **dict(zip(("window", "sees", "method", "seed"), key, strict=True)),
                "end": tail["success"].mean(),
                "area": float(np.trapezoid(some["success"], steps) / (steps[-1] - steps[0])),
                "median_mm": tail["median_mm"].mean(),
                "steps": int(steps[-1]),
                "hours": some["processor_seconds"].iloc[-1] / 3600,
            }
        )
    columns = ["window", "sees", "method", "seed", "end", "area", "median_mm", "steps", "hours"]
    return pd.DataFrame(made, columns=columns)


def by_then(points: pd.DataFrame, hours: float, last: int = LAST) -> float:
    """Mean success of the last checkpoints that trainings had reached after so many hours of their processor."""
    found = []
    for _, some in points.groupby(["window", "method", "seed"]):
        early = some[some["processor_seconds"] <= 3600 * hours].sort_values("step")
        found.append(early["success"].tail(last).mean())
    return float(np.mean(found))


def comparable(points: pd.DataFrame) -> pd.DataFrame:
    """The points of what can be compared: a size and an input for which both a supervised and a reinforcement learner are
    there, and the control at those sizes. Empty until then."""
    if points.empty:
        return points
    seen = split(points)
    supervised = seen.assign(dsl=seen["method"].str.startswith("dsl")).groupby(["window", "sees"])["dsl"]
    both = {key for key, some in supervised if some.any() and not some.all()}
    sizes = {window for window, _ in both}
    keys = zip(seen["window"], seen["sees"], strict=True)
    return points[[key in both or (key[1] == CONTROL and key[0] in sizes) for key in keys]]


def compared(points: pd.DataFrame) -> set[str]:
    """The inputs ("" the difference image) of which something can be compared."""
    found = comparable(points)
    return {sees for sees in (split(found)["sees"] if len(found) else ()) if sees != CONTROL}


def beside(long: pd.DataFrame, short: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What Figure 4 shows: the curves over the paper's number of steps that can be compared, and notebook 09's (36 pixels)
    of the inputs of which there are none."""
    there = compared(long)
    rest = short[[parts(curve)[1] not in there for curve in short["method"]]] if len(short) else short
    return comparable(long), rest.assign(window=36, processor_seconds=np.nan)
