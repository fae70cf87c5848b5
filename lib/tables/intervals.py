"""The interval of a claim: of what, in which unit, and whether it covers what another training would do.

The spread between patients says how far other patients would move a number, not how far another seed would. That was measured:
trainings that differ in their seed alone were tried on the same cases (`Evidence.tables["seeds"]`). Their pooled
variance s², with its degrees of freedom, is added to the patients': a number from k trainings gets

    half width² = (that of patients)² + (t · s)² / k        t: Student's, 97.5 %, with the degrees of freedom of s²

and a difference of two such numbers the sum over both. Methods that learn nothing add nothing (k is left out). The spread
was measured in each experiment; where it was not, that of the spine stands for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lib import metrics

UNITS = {"%": 100.0, "points": 100.0, "mm": 1.0}  # a number times this is what is shown
BOUNDS = {"%": (0.0, 1.0), "points": (-1.0, 1.0), "mm": (-np.inf, np.inf)}


class Spread(NamedTuple):
    """How much a training's number differs from another's with nothing changed but the seed."""

    sd: float = np.nan  # of one training
    freedom: int = 0

    def half_width(self, *trainings: int) -> float:
        """Of the 95 % interval that chance in training alone gives a sum or difference of numbers from so many each."""
        if not self.freedom:
            return np.nan
        return float(stats.t.ppf(0.975, self.freedom) * self.sd * np.sqrt(sum(1 / k for k in trainings)))


class Interval(NamedTuple):
    """A number (a share, or mm) with its 95 % interval, what it is a number of, and over what it goes."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    unit: str = ""  # a name of UNITS
    of: str = ""

    def widened(self, spread: Spread, *trainings: int) -> Interval:
        """The same with the chance of training in it; unchanged where that was not measured, which `of` then shows."""
        half, known = spread.half_width(*trainings), np.isfinite([self.low, self.high]).all()
        if not (trainings and known and np.isfinite(half)):
            return self
        least, most = BOUNDS[self.unit]
        low = max(least, self.value - np.hypot(self.value - self.low, half))
        high = min(most, self.value + np.hypot(self.high - self.value, half))
        return self._replace(low=float(low), high=float(high), of=f"{self.of}, trainings")

    @property
    def covers_trainings(self) -> bool:
        return self.of.endswith(", trainings")


def rate(ok, clusters, what: str = "success") -> Interval:
    """A share of cases, over patients."""
    return Interval(float(np.mean(ok)), *metrics.success_interval(ok, clusters), "%", f"{what}: patients")


def difference(first, second, clusters) -> Interval:
    """Success of the first minus that of the second on the same cases, over patients."""
    d = metrics.paired(first, second, clusters)
    return _points(d["difference"], d["low"], d["high"])


def _points(value, low, high) -> Interval:
    """A difference of success, which is at most all."""
    low, high = np.clip([low, high], -1.0, 1.0)
    return Interval(float(value), float(low), float(high), "points", "difference: patients")


def median(values, clusters, what: str) -> Interval:
    """A median in mm, over patients."""
    return Interval(
        float(np.median(values)), *metrics.bootstrap(values, clusters, np.median), "mm", f"{what}: patients"
    )


def between(values, flag, clusters, n: int = 20_000, seed: int = 2017) -> Interval:
    """Mean of the flagged cases minus that of the others, over patients; a patient may have cases of both kinds."""
    values, flag = np.asarray(values, dtype=np.float64), np.asarray(flag, dtype=bool)
    lines = pd.DataFrame({"a": values * flag, "na": flag, "b": values * ~flag, "nb": ~flag})
    sums = lines.astype(float).groupby(np.asarray(clusters)).sum().to_numpy()
    value = values[flag].mean() - values[~flag].mean()
    if len(sums) < 2:
        return _points(value, np.nan, np.nan)
    draws = np.random.default_rng(seed).integers(len(sums), size=(n, len(sums)))
    a, na, b, nb = sums[draws].sum(axis=1).T
    there = (na > 0) & (nb > 0)
    low, high = np.percentile(a[there] / na[there] - b[there] / nb[there], metrics.expanded(len(sums)))
    bounds = (low, high) if low or high else (np.nan, np.nan)  # where no patient shows any difference, none is known
    return _points(value, *bounds)


def success_difference(both: pd.DataFrame) -> float:
    """Success of one training minus that of another, of rows side by side."""
    return float(both["success"].astype(float).mean() - both["success_other"].astype(float).mean())


def error_gain(both: pd.DataFrame) -> float:
    """By how many mm a case (median) one training ends nearer than another, of rows side by side."""
    return float((both["final_error_mm_other"] - both["final_error_mm"]).median())


def spread(seeds: pd.DataFrame, number: Callable[[pd.DataFrame], float]) -> Spread:
    """The pooled spread of trainings with nothing changed but the seed.

    seeds: rows with `recipe` (what trains), `training` (which of its trainings), `range` and `key` (which case). Half the
    mean square of `number` over the pairs of one recipe's trainings is their variance; the mean over ranges counts once,
    since they are the same trainings. Of k trainings k - 1 degrees of freedom come.
    """
    squares, freedom = 0.0, 0
    for _, mine in seeds.groupby("recipe") if len(seeds) else ():
        found = [_variance(some, number) for _, some in mine.groupby("range") if some["training"].nunique() > 1]
        degrees = mine["training"].nunique() - 1 if found else 0
        squares, freedom = squares + degrees * float(np.mean(found or [0.0])), freedom + degrees
    return Spread(float(np.sqrt(squares / freedom)), freedom) if freedom else Spread()


def spreads(seeds: pd.DataFrame, experiments) -> dict[str, dict[str, Spread]]:
    """The spread of each unit in each experiment; that of the spine where `seeds` has no two trainings alike but for it, and
    of successes where all of them always succeed: at the ceiling nothing is seen of chance."""
    found = {}
    for experiment in sorted(experiments, key=lambda name: name != "spine"):
        mine = seeds[seeds["experiment"] == experiment] if len(seeds) else seeds
        success, error = spread(mine, success_difference), spread(mine, error_gain)
        if experiment != "spine" and not success.freedom:
            found[experiment] = found["spine"]
            continue
        success = success if success.sd > 0 or experiment == "spine" else found["spine"]["%"]
        found[experiment] = {"%": success, "points": success, "mm": error}
    return found


def _variance(rows: pd.DataFrame, number) -> float:
    """Half the mean square of `number` over all pairs of trainings, on the cases of both."""
    parts = [some.set_index("key") for _, some in rows.groupby("training")]
    pairs = [a.join(b, rsuffix="_other", how="inner") for a, b in itertools.combinations(parts, 2)]
    return float(np.mean([number(both) ** 2 / 2 for both in pairs]))
