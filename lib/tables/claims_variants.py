"""What variants say on the claims: each against `<agent>_reference`, which has the same small budget and cases. Of our
extension they are those of `make claims`; of the paper's own agent those of the study `papers_changes`.

They compare trainings, so the rule of `lib.tables.rules` on too few of them holds for all that have networks of their own.
"""

from __future__ import annotations

from lib.baselines.methods import OURS, label
from lib.study.variants import KNOWN, REFERENCE
from lib.tables import intervals
from lib.tables.evidence import ONCE_MORE, experiment_of, pairs_in, pairs_of, trained
from lib.tables.rules import PAPER, about, alone, by_rule, line, of_trainings, so_few
from lib.tables.words import percent

UNTESTED = "untested there"
FEW = ("pairs5", "pairs10", "pairs20")
REGRESSIONS = ("regression", "regression_iterated", "regression_steps")
OF_THE_PAPER = "papers_changes"
WORSE = -0.1  # success less than that of all patients by which few of them still suffice
# What must have run for a claim's lines here; `make claims CLAIM=C8` runs these and no others. Those that compare trainings
# need one more of the reference: the yardstick.
BEHIND = {
    "C4": (*ONCE_MORE, "one_network", "one_network_200"),
    "C5": (REFERENCE, "roi_centre", "roi_object"),
    "C8": (*ONCE_MORE, "plain", "no_affine", *FEW, *(f"{name}_plain" for name in FEW)),
    "C9": (*ONCE_MORE, *REGRESSIONS),
}


def arms(rows):
    """Rows of the study `papers_changes` with their `arm`, the change without its budget, as its agent ends: with a fine
    network where it has one, else the coarse network alone."""
    rows = rows.assign(arm=rows["change"].str.replace(r"_samples_\d+$", "", regex=True))
    return rows[(rows["arm"] != "two_networks") | (rows["stage"] == "both")]


def of_the_paper(data, first: str, second: str):
    """Rows of two arms of the paper's agent side by side; none where the study was not run."""
    rows = data.asked(OF_THE_PAPER, "spine")
    return (
        pairs_in(arms(rows), "arm", "two_networks" if second == "one_network" else first, second) if len(rows) else rows
    )


def against(data, claim: str, first: str, second: str):
    """(experiment and agent in words, rows side by side, what its line says of itself) of each agent of which both were run."""
    study = of_the_paper(data, first, second)
    if len(study):
        behind = {"command": f"python -m lib study {OF_THE_PAPER}", "evidence": f"rows/{OF_THE_PAPER}.csv"}
        yield f"spine, {label('dsl')}", study, {"about": PAPER} | behind
    for experiment in ("spine", "heart"):
        for agent in OURS:
            both = pairs_of(data, experiment, f"{agent}_{first}", f"{agent}_{second}")
            if len(both) and not (agent == "dsl" and len(study)):
                yield f"{experiment}, {label(agent)}", both, {"about": about(agent), "command": alone(claim)}


def alike(first: str, second: str) -> bool:
    """Whether two variants walk with the same networks, so that no training is compared."""
    return (KNOWN[first].networks or first) == (KNOWN[second].networks or second)


def with_paper(lines: list, claim: str, statement: str) -> list:
    """The lines, and before them one that says so where none of them is on the paper's own agent."""
    if any(one[1] == PAPER for one in lines):
        return lines
    ours = "tried with our extension alone" if lines else ""
    return [line(claim, statement, UNTESTED, ours, command=alone(claim)), *lines]


def success(data, claim, statement, first, second, words, rule, limit=0.0):
    """A line a pair of variants: success of the first against that of the second; `rule(difference) -> verdict`, and the
    claim's side lies above `limit`."""
    for who, both, shown in against(data, claim, first, second):
        k = trained(both.reset_index())
        d = intervals.difference(both["success"], both["success_other"], both["case"])
        d = d.widened(data.spread(experiment_of(both))["points"], k, k)
        rates = f"{percent(both['success'].mean())} against {percent(both['success_other'].mean())}"
        rates += so_few(k, data.spread(experiment_of(both))["points"].half_width(k, k), "points")
        where = f"{statement} ({who}): {words}"
        verdict = of_trainings(rule(d), d, limit, k)
        yield line(claim, where, UNTESTED, rates, d, len(both), k, verdict, **shown)


def better(d: intervals.Interval) -> str:
    """Reproduced: surely better; partly: better."""
    return by_rule(d.low > 0, d.value > 0)


def nearly(d: intervals.Interval) -> str:
    """Reproduced: surely at most 10 points worse; partly: at most 10 points worse."""
    return by_rule(d.low >= WORSE, d.value >= WORSE)


def c8(data):
    """With augmentation against without, at each number of patients, and few patients with augmentation against
    all. Reproduced: surely better, and surely at most 10 points worse than all; not: surely not; untested: between."""
    statement = "Augmentation lets few pairs suffice"
    lines = []
    for name in (*FEW, REFERENCE):
        plain = "plain" if name == REFERENCE else f"{name}_plain"
        who = "all patients" if name == REFERENCE else KNOWN[name].what
        lines += success(data, "C8", statement, name, plain, f"{who}, with against without", better)
    lines += success(
        data, "C8", statement, REFERENCE, "no_affine", "all patients, with against without co-deformation", better
    )
    for name in FEW:
        words = f"{KNOWN[name].what} against all, with augmentation"
        lines += success(data, "C8", statement, name, REFERENCE, words, nearly, WORSE)
    yield from with_paper(lines, "C8", statement)


def c9(data):
    """Success of stepwise actions against regression of the six parameters. Reproduced: surely better; not: surely not;
    untested: between."""
    statement = "Stepwise actions are easier to learn than one-shot regression"
    lines = []
    for name in REGRESSIONS:
        lines += success(data, "C9", statement, REFERENCE, name, f"against {KNOWN[name].what}", better)
    yield from with_paper(lines, "C9", statement)


def gain(data, claim, statement, first, second, words, also=()):
    """A line a pair of variants: by how many mm a case the first ends nearer than the second; after the lines `also`.
    Reproduced: surely nearer; where no training is compared partly: nearer."""
    lines = [
        _gain_line(data, claim, f"{statement} ({who})", both, words, alike(first, second), shown)
        for who, both, shown in against(data, claim, first, second)
    ]
    yield from with_paper([*also, *lines], claim, statement)


def _gain_line(data, claim, where, both, words, same, shown):
    """A line of `gain`. Where both walk with the `same` networks, chance in training is no part of the difference."""
    k, nearer = trained(both.reset_index()), both["final_error_mm_other"] - both["final_error_mm"]
    d = intervals.median(nearer, both["case"], "gain a case")
    mine, other = both["final_error_mm"].median(), both["final_error_mm_other"].median()
    ours = f"median {mine:.1f} mm against {other:.1f} mm {words}; gain a case {d.value:.2f} mm"
    if not same:
        d = d.widened(data.spread(experiment_of(both))["mm"], k, k)
        ours += so_few(k, data.spread(experiment_of(both))["mm"].half_width(k, k), "mm")
    verdict = by_rule(d.low > 0 and mine < other, mine < other)
    verdict = verdict if same else of_trainings(verdict, d, 0.0, k)
    return line(claim, where, UNTESTED, ours, d, len(both), k, verdict, **shown)


def c4(data):
    """Coarse and fine against one coarse network with the budget of both."""
    yield from gain(
        data, "C4", "Coarse and fine beat one network of the same budget", REFERENCE, "one_network", "with one network"
    )


def c5(data):
    """The fine window at the saliency centre against the image's centre, and against the true vertebra's: one training's
    networks walk both ways, so no training is compared."""
    words = {"roi_centre": ("image's centre", "there"), "roi_object": ("true vertebra", "there")}
    for name, (place, there) in words.items():
        statement = f"A fine window at the saliency centre is better than at the {place}"
        asked = name == "roi_object" and len(data.asked("papers_agent", "spine"))
        yield from gain(
            data, "C5", statement, REFERENCE, name, there, [papers_window(data, statement)] if asked else ()
        )


def papers_window(data, statement: str):
    """The same of the paper's agent, from the study `papers_agent`: success, since where attention leads astray it is lost.
    Reproduced: surely better; partly: better."""
    both = pairs_in(data.asked("papers_agent", "spine"), "method", "dsl", "dsl_object")
    d = intervals.difference(both["success"], both["success_other"], both["case"])
    ours = f"{percent(both['success'].mean())} against {percent(both['success_other'].mean())} there"
    k, shown = trained(both), {"command": "python -m lib study papers_agent"}
    where = f"{statement} (E1 spine): {label('dsl')}"
    return line("C5", where, UNTESTED, ours, d, len(both), k, better(d), evidence="rows/papers_agent.csv", **shown)
