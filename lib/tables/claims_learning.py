"""Claims of learning and of theory: C6 (DSL against DRL, Figure 4), C7 (Appendix A), C14 (the replay memory)."""

from __future__ import annotations

import pandas as pd

from lib.study.planar import curves as curves_of
from lib.tables import figure4
from lib.tables.figure4 import LEARNT, over_seeds
from lib.tables.rules import ENOUGH, EXTENSION, PAPER, by_rule, line, of_trainings
from lib.tables.words import percent

TRANSITIONS, WINDOW = 1_000_000, 64  # C14: of a replay memory; voxels along an edge of the paper's windows


def c6(data):
    """Success at the last training step. Reproduced: DSL's worst seed beats DRL's best, by 20 points on
    average; partly: DSL is better on average. The interval is of the difference, from how the seeds of either differ
    (Student's t); with fewer than three of each, the rule on few trainings holds. Untested where nobody has learnt to
    succeed once in ten. An input whose curves over the paper's own number of steps are there is judged by those
    (`figure4`)."""
    curves, long = data.tables["fig4"], data.tables.get("fig4_long", pd.DataFrame())
    statement, paper, judged = figure4.STATEMENT, figure4.PAPER_SAYS, curves_of.compared(long)
    yield from figure4.lines(long)
    if len(curves):  # the refined curve is neither one nor the other: lib.tables.ablations
        curves = curves[~curves["method"].str.startswith("dsl_refined")]
    if curves.empty or curves["method"].nunique() < 2:
        if not judged:
            yield line("C6", statement, paper)
        return
    two = curves["method"].str.endswith("_two_channel")
    kinds = (("", curves[~two], ""), ("two_channel", curves[two], ", both images as input"))
    for some, observation in ((some, words) for sees, some, words in kinds if sees not in judged):
        supervised = some["method"].str.startswith("dsl")
        ours = some["method"].str.startswith("dsl_weighted")
        for own, loss in ((supervised & ~ours, ""), (ours, ", the loss of our 3-D agents")):
            if own.any() and not supervised.all():
                whose = EXTENSION if observation or loss else PAPER
                yield c6_line(some[own | ~supervised], statement + observation + loss, paper, whose)


def c6_line(curves, statement, paper, whose):
    """One observation: the supervised agent against the better of the two reinforcement learners."""
    last = curves[curves["step"] == curves["step"].max()]
    ours_, drl = (last[last["method"].str.startswith("dsl") == own] for own in (True, False))
    dsl, best = ours_["success"], drl.groupby("method")["success"].mean().idxmax()
    other = drl[drl["method"] == best]["success"]
    ours = f"{percent(dsl.mean())} against {percent(other.mean())} ({best}) after {last['step'].max():.0f} steps"
    fully = dsl.min() > other.max() and dsl.mean() - other.mean() >= 0.2
    d, k = over_seeds(dsl, other), min(len(dsl), len(other))
    verdict = of_trainings(by_rule(fully, d.value > 0), d, 0.0, k)
    if max(dsl.mean(), other.mean()) < LEARNT:
        verdict, ours = "untested", f"{ours}: too few for either"
    elif k < ENOUGH:
        ours += f"; {k} trainings each"
    return line("C6", statement, paper, ours, d, 0, k, verdict, about=whose)  # Figure 4 keeps rates, not cases


def c7(data):
    """Share of states where another step has a larger Q than the greedy one: any step of length 1, its value counted as
    in Appendix A and to the letter of Eq. 3; then the 12 steps really used. Reproduced: none; partly: < 20 %."""
    statement, paper, n = (
        "Q of the greedy action is maximal",
        "proved for continuous unit steps",
        data.theory.get("states", 0),
    )
    shares = data.theory.get("lemma3", {})
    parts = {
        "counted in whole steps, as Appendix A": (paper, _starting(shares, "Appendix A, ")),
        "to the letter of Eq. 3": (paper, _starting(shares, "Eq. 3, ")),
        "the 12 actions really used": ("not proved", data.theory.get("discrete", {})),
    }
    if not shares:
        yield line("C7", statement, paper)
    for words, (theirs, found) in parts.items():
        if found:
            ours = "exceptions in " + ", ".join(f"{100 * share:.1f} % ({where})" for where, share in found.items())
            worst = max(found.values())
            verdict = by_rule(worst == 0, worst < 0.2)
            yield line("C7", f"{statement}: {words}", theirs, f"{ours} of states", n=n, verdict=verdict)


def _starting(shares: dict, head: str) -> dict:
    """The entries whose name begins with `head`, without it."""
    return {name.removeprefix(head): share for name, share in shares.items() if name.startswith(head)}


def c14(data):
    """1 M remembered transitions of 64^3 voxels, a state and the next one each, 4 bytes a voxel. Reproduced: within a
    quarter of the paper's 2 TB; partly: within a factor of two."""
    terabytes = TRANSITIONS * 2 * WINDOW**3 * 4 / 1e12
    ours = f"{terabytes:.1f} TB"
    verdict = by_rule(0.75 <= terabytes / 2 <= 1.25, 0.5 <= terabytes / 2 <= 2)
    yield line("C14", "A 3-D replay memory would need about 2 TB", "about 2 TB", ours, verdict=verdict)
