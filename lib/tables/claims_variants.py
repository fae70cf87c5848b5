"""What variants say on the claims: each against `<agent>_reference`, which has the same small budget and cases."""

from __future__ import annotations

import numpy as np

from lib import metrics
from lib.baselines.methods import OURS, label
from lib.study.variants import KNOWN, REFERENCE
from lib.tables.evidence import pairs_of
from lib.tables.rules import alone, by_rule, line
from lib.tables.words import percent

UNTESTED = "untested there"
FEW = ("pairs5", "pairs10", "pairs20")
REGRESSIONS = ("regression", "regression_iterated", "regression_steps")
# What must have run for a claim's lines here; `make claims CLAIM=C8` runs these and no others.
BEHIND = {
    "C4": (REFERENCE, "one_network", "one_network_200"),
    "C5": (REFERENCE, "roi_centre", "roi_object"),
    "C8": (REFERENCE, "plain", "no_affine", *FEW, *(f"{name}_plain" for name in FEW)),
    "C9": (REFERENCE, *REGRESSIONS),
}


def against(data, first: str, second: str):
    """(experiment, agent, rows side by side) of each agent of which both variants were run."""
    for experiment in ("spine", "heart"):
        for agent in OURS:
            both = pairs_of(data, experiment, f"{agent}_{first}", f"{agent}_{second}")
            if len(both):
                yield experiment, agent, both


def success(data, claim, statement, first, second, words, rule):
    """A line a pair of variants: success of the first against that of the second; `rule(difference) -> verdict`."""
    for experiment, agent, both in against(data, first, second):
        d = metrics.paired(both["success"], both["success_other"], both["case"])
        rates = f"{percent(both['success'].mean())} against {percent(both['success_other'].mean())}"
        where = f"{statement} ({experiment}, {label(agent)}): {words}"
        yield line(claim, where, UNTESTED, rates, d["low"], d["high"], d["n"], rule(d), command=alone(claim))


def better(d) -> str:
    """Reproduced: surely better; partly: better."""
    return by_rule(d["low"] > 0, d["difference"] > 0)


def nearly(d) -> str:
    """Reproduced: surely at most 10 points worse; partly: at most 10 points worse."""
    return by_rule(d["low"] >= -0.1, d["difference"] >= -0.1)


def c8(data):
    """With augmentation against without, at each number of patients, and few patients with augmentation against
    all. Reproduced: surely better, and surely at most 10 points worse than all; partly: the same, not surely."""
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
        lines += success(
            data, "C8", statement, name, REFERENCE, f"{KNOWN[name].what} against all, with augmentation", nearly
        )
    yield from lines or [line("C8", statement, UNTESTED)]


def c9(data):
    """Success of stepwise actions against regression of the six parameters. Reproduced: surely better; partly:
    better."""
    statement = "Stepwise actions are easier to learn than one-shot regression"
    lines = []
    for name in REGRESSIONS:
        lines += success(data, "C9", statement, REFERENCE, name, f"against {KNOWN[name].what}", better)
    yield from lines or [line("C9", statement, UNTESTED)]


def gain(data, claim, statement, first, second, words):
    """A line a pair of variants: by how many mm a case the first ends nearer than the second. Reproduced: surely
    nearer; partly: nearer."""
    found = False
    for experiment, agent, both in against(data, first, second):
        found = True
        nearer = both["final_error_mm_other"] - both["final_error_mm"]
        low, high = metrics.bootstrap(nearer, both["case"], np.median)
        mine, other = both["final_error_mm"].median(), both["final_error_mm_other"].median()
        ours = f"median {mine:.1f} mm against {other:.1f} mm {words}; gain a case {nearer.median():.2f} mm"
        where = f"{statement} ({experiment}, {label(agent)})"
        verdict = by_rule(low > 0 and mine < other, mine < other)
        yield line(claim, where, UNTESTED, ours, low, high, len(both), verdict, command=alone(claim))
    if not found:
        yield line(claim, statement, UNTESTED, command=alone(claim))


def c4(data):
    """Coarse and fine against one coarse network with the budget of both."""
    yield from gain(
        data, "C4", "Coarse and fine beat one network of the same budget", REFERENCE, "one_network", "with one network"
    )


def c5(data):
    """The fine window at the saliency centre against the image's centre, and against the true vertebra's."""
    words = {"roi_centre": ("image's centre", "there"), "roi_object": ("true vertebra", "there")}
    for name, (place, there) in words.items():
        statement = f"A fine window at the saliency centre is better than at the {place}"
        yield from gain(data, "C5", statement, REFERENCE, name, there)
