"""What the paper says of its rivals, and why: C15 (quasi-global search and rotations), C16 (semantic registration starves),
C17 (searching everything costs too much)."""

from __future__ import annotations

import numpy as np

from lib.baselines.methods import label, learnt_on, order
from lib.metrics import PAPER
from lib.tables import intervals
from lib.tables.claims_success import EXPERIMENT, build_of
from lib.tables.evidence import Evidence, pairs_of, trained
from lib.tables.rules import RIVALS, at_ceiling, by_rule, line, too_easy
from lib.tables.words import percent

EFFECT = 0.2  # a difference of success that would explain something: 20 points
ROTATIONS = ["rx", "ry", "rz"]  # of a start, degrees
MUCH_WORSE = "“M2 performed much worse … due to the large rotations in our data”"
TOO_MUCH = 60.0  # seconds of one core a case from where on a search would be out of reach
WORSE = 0.05  # of success: a search that is surely not this much worse than the agent stands beside it
TOO_DEAR = "“global exhaustive search has been primarily used with 2-D … due to its high computational complexity”"
STARVED = "“performance deteriorated significantly when the number of training samples was limited as in E1”"


def explained(d: intervals.Interval) -> str:
    """The verdict on a cause, by the difference of success that it makes. Reproduced: surely one, and 20 points or more;
    partly: surely one; not: surely less than 20 points; untested: the interval says neither."""
    if d.low > 0:
        return by_rule(d.value >= EFFECT, True)
    return "not" if d.high < EFFECT else "untested"


def c15(data: Evidence):
    """Quasi-global search (`build_of`) from starts turned less than the median start (root of the sum of the three squared
    angles) against starts turned more; the rule of `explained`. It learns nothing, so its interval is over patients alone."""
    for experiment, name in EXPERIMENT.items():
        statement = f"Quasi-global search fails through large rotations ({name})"
        build = build_of(data, experiment, "quasi_global")
        both = pairs_of(data, experiment, build, "initial")
        if both.empty:
            yield line("C15", statement, MUCH_WORSE, about=RIVALS)
            continue
        turned = np.linalg.norm(both[[f"{angle}_other" for angle in ROTATIONS]], axis=1)
        middle = float(np.median(turned))
        less = turned <= middle
        d = intervals.between(both["success"], less, both["case"])
        near, far = both["success"][less].mean(), both["success"][~less].mean()
        whole = both.groupby("case")["success"].mean()
        ours = f"{percent(near)} of starts turned up to {middle:.0f}°, {percent(far)} of those turned more"
        ours += f"; {(whole == 0).sum()} of {len(whole)} patients fail from every start"
        if build != "quasi_global":
            ours = f"{label(build)}: {ours}"
        verdict = explained(d)
        untold = at_ceiling(near, far) or too_easy(data.unmoved(experiment), PAPER[experiment]["dsl"][0])
        if untold:
            ours, verdict = f"{ours}: {untold}", "untested"
        yield line("C15", statement, MUCH_WORSE, ours, d, len(both), 0, verdict, about=RIVALS)


def c16(data: Evidence):
    """Semantic registration trained on all patients of a split against each smaller number; the rule of `explained`. How
    much two of its trainings differ was not measured: the networks' spread stands for it."""
    for experiment, name in EXPERIMENT.items():
        statement = f"Semantic registration starves with few training patients ({name})"
        fewer = [m for m in order(data.rows["method"].unique()) if learnt_on(m)]
        found = {learnt_on(m): pairs_of(data, experiment, "semantic", m) for m in fewer}
        lines = [_starved(data, experiment, statement, n, both) for n, both in found.items() if len(both)]
        yield from lines or [line("C16", statement, STARVED, about=RIVALS)]


def _starved(data: Evidence, experiment: str, statement: str, few: int, both):
    """A line of C16: all patients against `few`."""
    k = both.index.get_level_values("split").nunique()
    d = intervals.difference(both["success"], both["success_other"], both["case"]).widened(
        data.spread(experiment)["points"], k, k
    )
    many, other = both["success"].mean(), both["success_other"].mean()
    ours, verdict = f"{percent(other)} with {few}, {percent(many)} with all", explained(d)
    untold = at_ceiling(many, other) or too_easy(data.unmoved(experiment), PAPER[experiment]["dsl"][0])
    if untold:
        ours, verdict = f"{ours}: {untold}", "untested"
    return line("C16", f"{statement}: {few} against all", STARVED, ours, d, len(both), k, verdict, about=RIVALS)


def c17(data: Evidence):
    """A search of all shifts at a lattice of rotations (`fft_search`) against the paper's agent, on the same starts.
    Reproduced: its median case takes over a minute of one core; not: it takes less, and succeeds as often as the agent,
    surely within 5 points, or both are at the ceiling (what is asked is whether it is worse, not who is ahead); untested:
    less, but the interval does not say how often."""
    for experiment, name in EXPERIMENT.items():
        statement = f"Searching all shifts and rotations in 3-D costs too much ({name})"
        both = pairs_of(data, experiment, "fft_search", "dsl")
        if both.empty:
            yield line("C17", statement, TOO_DEAR, about=RIVALS)
            continue
        k, whose = trained(data.of(experiment, "dsl")), {"about": RIVALS, **data.shown(experiment, "dsl")}
        d = intervals.difference(both["success"], both["success_other"], both["case"])
        d = d.widened(data.spread(experiment)["points"], k)
        took, walked = both["seconds"].median(), both["seconds_other"].median()
        mine, agent = both["success"].mean(), both["success_other"].mean()
        ours = f"{took:.1f} s of one core a case (the agent: {walked:.1f} s); {percent(mine)} succeed, {percent(agent)}"
        as_good = d.low > -WORSE or at_ceiling(mine, agent)
        verdict = "reproduced" if took > TOO_MUCH else "not" if as_good else "untested"
        yield line("C17", statement, TOO_DEAR, f"{ours} by the agent", d, len(both), k, verdict, **whose)
