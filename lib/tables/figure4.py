"""Figure 4 over the paper's own number of steps, from `fig4_long.csv`: the lines of C6 (DSL against DRL); and Figure 4
as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.baselines.methods import label, order
from lib.study.planar import curves
from lib.tables.intervals import Interval
from lib.tables.rules import ENOUGH, EXTENSION, PAPER, by_rule, line, of_trainings
from lib.tables.words import percent, table

FILE, COMMAND = "fig4_long.csv", "python -m lib study figure4"
LEARNT = 0.1  # success below which the curves say nothing yet
THEN = ("dqn", "double_dqn")  # DRL as of the paper; what else there is of it has come since
COMPARISONS = (  # who, against whom, in words
    ("dsl", THEN, ""),
    ("dsl_weighted", THEN, ", the loss of our 3-D agents"),
    ("dsl", ("dqn_today",), ", DRL as of today"),
)
STATEMENT, PAPER_SAYS = "DSL learns far faster than DRL at equal steps (2-D)", "Fig. 4: far above at every step"
SEES = {"": "difference", "two_channel": "both images", curves.CONTROL: "the moved image alone (control)"}


def over_seeds(first, second) -> Interval:
    """Mean of the first trainings' success minus that of the second's, with Welch's interval over the seeds (one side may
    scatter more than the other); the test images are the same. NaN bounds where a side has one training, or neither
    scatters."""
    value, known = float(np.mean(first) - np.mean(second)), min(len(first), len(second)) > 1
    low, high = np.nan, np.nan
    if known and np.ptp(first) + np.ptp(second) > 0:
        low, high = np.clip(stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95), -1.0, 1.0)
    return Interval(value, float(low), float(high), "points", "difference: same test, trainings")


def lines(points: pd.DataFrame):
    """C6's lines, an input and a size each (`COMPARISONS`). None where nothing can be compared yet."""
    found = curves.comparable(points)
    if found.empty:
        return
    for (sees, window), some in curves.measures(found).groupby(["sees", "window"], sort=True):
        mine = curves.split(found).query("sees == @sees and window == @window")
        for method, rivals, words in COMPARISONS:
            dsl, drl = some[some["method"] == method], some[some["method"].isin(rivals)]
            if len(dsl) and len(drl):
                whose = EXTENSION if sees or words else PAPER
                seen = ", both images as input" if sees else ""
                yield _line(dsl, drl, mine, f"{STATEMENT}{seen}{words}, {window} pixels", whose)


def _line(dsl: pd.DataFrame, drl: pd.DataFrame, points: pd.DataFrame, statement: str, whose: str):
    """One comparison, by the means of the last checkpoints. Reproduced: DSL's worst seed beats DRL's best at the end and in
    the area under the curve, by 20 points on average at the end; partly: better on average in both."""
    best = drl.groupby("method")["end"].mean().idxmax()
    other, k = drl[drl["method"] == best], int(min(len(dsl), drl["method"].eq(best).sum()))
    end, d = (dsl["end"], other["end"]), over_seeds(dsl["end"], other["end"])
    above = dsl["area"].mean() > other["area"].mean()
    surely = end[0].min() > end[1].max() and dsl["area"].min() > other["area"].max()
    verdict = of_trainings(by_rule(surely and d.value >= 0.2, above and d.value > 0), d, 0.0, k)
    then = curves.by_then(points[points["method"] == best], dsl["hours"].mean())
    ours = (
        f"{percent(end[0].mean())} against {percent(end[1].mean())} ({best}) after {dsl['steps'].max()} steps, "
        f"area {percent(dsl['area'].mean())} against {percent(other['area'].mean())}; {best} in DSL's time: {percent(then)}"
    )
    if max(end[0].mean(), end[1].mean()) < LEARNT:
        verdict, ours = "untested", f"{ours}: too few for either"
    elif k < ENOUGH:
        each = (
            f"{k} training{'s' * (k > 1)} each" if len(dsl) == len(other) else f"{len(dsl)} and {len(other)} trainings"
        )
        ours += f"; {each}"
    return line("C6", statement, PAPER_SAYS, ours, d, 0, k, verdict, COMMAND, whose, FILE)


def curve(name: str) -> str:
    """A curve's name in words: its method, and what it sees."""
    method, sees = curves.parts(name)
    return f"{method_name(method)}, {SEES[sees]}"


def method_name(method: str) -> str:
    """Beside DRL, `dsl` is no agent on a difference image but a way to learn."""
    return "DSL" if method == "dsl" else label(method)


def block(folder: Path) -> str:
    """Figure 4 as a table, a line a curve and size, of the long curves where they can be compared, else of notebook 09's; in
    brackets the lowest and highest seed."""
    long, short = curves.beside(*(_points(folder / name) for name in (FILE, "fig4.csv")))
    # Of notebook 09 eleven points are too few for a mean of the last ones, and only the clock was read.
    measured, rows = pd.concat([curves.measures(long), curves.measures(short, 1)], ignore_index=True), []
    for (window, sees), some in measured.groupby(["window", "sees"], sort=True):
        for method in order(some["method"]):
            mine = some[some["method"] == method]
            end, area = (_spread(mine[name]) for name in ("end", "area"))
            median, hours = (mine[name].mean() for name in ("median_mm", "hours"))
            who = (window, SEES[sees], method_name(method), len(mine), mine["steps"].max())
            spent = "" if np.isnan(hours) else f"{hours:.2f}"
            rows.append([*who, end, area, f"{median:.1f}", *([spent] if len(long) else [])])
    what = f"success at the end (%), mean of the last {curves.LAST} checkpoints where it is long"
    what = what if len(long) else "success at the end (%)"
    head = ["pixels", "sees", "method", "seeds", "steps", what, "area under the curve (%)", "median (mm)"]
    return table([*head, "processor hours"] if len(long) else head, rows)


def _points(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["method", "step"])


def _spread(values: pd.Series) -> str:
    """Mean over the seeds, and the lowest and the highest where there are several."""
    mean, low, high = (f"{100 * value:.0f}" for value in (values.mean(), values.min(), values.max()))
    return f"{mean} [{low}, {high}]" if len(values) > 1 else mean
