"""Claims of how the agent walks: C4 (coarse, then fine), C5 (where it looks), C11 (it converges)."""

from __future__ import annotations

from lib.baselines.methods import OURS, label
from lib.tables import claims_variants, intervals
from lib.tables.evidence import Evidence, pairs_of, trained
from lib.tables.rules import about, by_rule, line
from lib.tables.words import percent


def c4(data: Evidence):
    """Gain of the fine network, median over cases, from where the same coarse network ended: the fine one's training is the
    only chance in it. Reproduced: surely above 0, and not surely fewer successes; partly: above 0."""
    for agent in data.agents("spine"):
        statement = f"The fine network refines the coarse (E1 spine): {label(agent)}"
        both = pairs_of(data, "spine", agent, f"{agent}_coarse")
        if both.empty:
            yield line("C4", statement, "median 3.4 -> 2.5 mm", about=about(agent))
            continue
        k = trained(both.reset_index())
        gain = both["final_error_mm_other"] - both["final_error_mm"]
        d = intervals.median(gain, both["case"], "gain a case").widened(data.spread("spine")["mm"], k)
        before, after = both["final_error_mm_other"].median(), both["final_error_mm"].median()
        lost = intervals.difference(both["success"], both["success_other"], both["case"])
        verdict = by_rule(d.low > 0 and after < before and not lost.high < 0, after < before)
        whose = {"about": about(agent), **data.shown("spine", agent)}
        success = f"success {percent(both['success_other'].mean())} -> {percent(both['success'].mean())}"
        ours = f"median {before:.1f} -> {after:.1f} mm, {success}; gain a case {d.value:.2f} mm"
        yield line("C4", statement, "median 3.4 -> 2.5 mm", ours, d, len(both), k, verdict, **whose)
    yield from claims_variants.c4(data)


def c5(data):
    """Median distance from the saliency centre to the nearest vertebra's centre. Reproduced: within 25
    mm, that is in or beside the vertebra; partly: nearer than the centre of the image."""
    table = data.tables["attention"]
    statement, paper = "Saliency finds the object (E1 spine)", "shown in Fig. 3"
    if not table.empty:
        table = table[(table["experiment"] == "spine") & table["agent"].isin(OURS)]
    if table.empty:
        yield line("C5", statement, paper)
    for agent, some in table.groupby("agent") if len(table) else ():
        mine, centre = some["saliency"].median(), some["centre"].median()
        found = intervals.median(some["saliency"], some["case"], "median distance")
        ours = f"{mine:.0f} mm from the nearest vertebra's centre (the image's centre: {centre:.0f} mm)"
        verdict = by_rule(mine <= 25, mine < centre)
        shown = (found, len(some), trained(some), verdict)
        yield line("C5", f"{statement}: {label(agent)}", paper, ours, *shown, about=about(agent))
    yield from claims_variants.c5(data)


def c11(data):
    """Share of test paths with a loop wider than 5 units of D, or that still wander by more than 3 in
    their last 20 steps. Reproduced: at most 1 %; partly: at most 10 %."""
    table = data.tables["walks"]
    statement, paper = "It converges, without large cycles", "never observed"
    if len(table):
        table = table[table["agent"].isin(OURS)]
    if table.empty:
        yield line("C11", statement, paper)
        return
    for agent, some in table.groupby("agent"):
        cycle = some["cycle"] > 5
        bad = cycle | (some["spread"] > 3)
        found = intervals.rate(bad, some["case"], "share of paths")
        widest = f"{some['cycle'].max():.0f}"
        ours = (
            f"of {len(some)} paths {cycle.sum()} cycle, {(bad & ~cycle).sum()} wander; the widest loop {widest} units"
        )
        verdict = by_rule(bad.mean() <= 0.01, bad.mean() <= 0.1)
        shown = (found, len(some), trained(some), verdict)
        yield line("C11", f"{statement}: {label(agent)}", paper, ours, *shown, about=about(agent))
