"""Parts that every claim is made of: its line, its verdict, and when there is none.

A line is on the *paper*'s method, on what it says of its *rivals*, or on our *extension* of it: the two-channel agent, or a
loss of ours. Three rules hold for all:

* An interval covers patients and, where that was measured, trainings (`lib.tables.intervals`).
* What compares trainings (C4's one network, C6, C8, C9) wants `ENOUGH` of each. With fewer it is untested; where even the
  interval that covers another training lies wholly on the claim's side, it is `partly` (88 % against 12 %), and `not`
  where it lies wholly on the other. With enough it is untested where the interval lies on both sides.
* What is at the ceiling is untested: both of two arms at `CEILING` or more, or an experiment whose starts, unmoved, reach
  `NEAR_ENOUGH` of the success that the paper has. A success there would say nothing of the agent.
"""

from __future__ import annotations

from lib.tables.intervals import UNITS, Interval
from lib.tables.words import percent

COLUMNS = (
    *("claim", "about", "statement", "paper", "ours", "low", "high", "unit", "interval_of", "n", "trainings"),
    *("verdict", "command", "evidence"),
)
PAPER, RIVALS, EXTENSION = "paper", "rivals", "extension"  # what a line is about
VERDICTS = ("reproduced", "partly", "not", "untested")
ENOUGH = 3  # trainings of each side
CEILING = 0.95  # success at which two arms can no longer differ
NEAR_ENOUGH = 0.8  # of the paper's success: it counts as reached


def alone(claim: str) -> str:
    """The command that runs what is behind one claim, and nothing else."""
    return f"make claims CLAIM={claim}"


ALL = "make reproduce SPLITS=all"
# claim: (command that shows it, files behind it, in the results folder)
SHOWN_BY = {
    **dict.fromkeys(("C1", "C2", "C4", "C10", "C12"), (ALL, "cases.csv table1.csv failures.csv")),
    "C3": (ALL, "cases.csv"),
    "C5": (ALL, "attention.csv"),
    "C6": (alone("C6"), "fig4.csv"),
    "C7": (alone("C7"), "theory.json"),
    "C8": (alone("C8"), "cases.csv ablations.csv"),
    "C9": (alone("C9"), "cases.csv ablations.csv"),
    "C11": (ALL, "walks.csv"),
    "C13": (ALL, "cases.csv patients.csv"),
    "C14": ("python -m lib claims show C14", "lib/tables/claims_learning.py"),
    "C15": (ALL, "cases.csv"),
    "C16": (ALL, "cases.csv starvation.csv"),
    "C17": (ALL, "cases.csv"),
}


def about(agent: str) -> str:
    """Whether a line on an agent is one on the paper: `dsl` and its variants are the paper's."""
    return PAPER if agent == "dsl" else EXTENSION


def line(
    claim,
    statement,
    paper,
    ours="",
    interval=None,
    n=0,
    trainings=0,
    verdict="untested",
    command="",
    about=PAPER,
    evidence="",
) -> tuple:
    """One line of claims.csv, in the order of `COLUMNS`; without a verdict it is untested."""
    how, behind = SHOWN_BY[claim]
    i = interval or Interval()
    low, high = (round(UNITS.get(i.unit, 1.0) * bound, 2) for bound in (i.low, i.high))
    shown = (low, high, i.unit, i.of)
    return (
        claim,
        about,
        statement,
        paper,
        ours,
        *shown,
        int(n),
        int(trainings),
        verdict,
        command or how,
        evidence or behind,
    )


def by_rule(fully, partly) -> str:
    """The verdict of two conditions."""
    return "reproduced" if fully else "partly" if partly else "not"


def reach(interval: Interval, target: float) -> str:
    """Reproduced: surely `NEAR_ENOUGH` of the target, and the interval reaches it; partly: half of the target."""
    fully = interval.low >= NEAR_ENOUGH * target and max(interval.value, interval.high) >= target
    return by_rule(fully, interval.value >= 0.5 * target)


def of_trainings(verdict: str, interval: Interval, limit: float, trainings: int) -> str:
    """The verdict of a comparison of trainings, by the second rule above; the claim's side lies above `limit`."""
    if trainings >= ENOUGH:
        return "untested" if interval.covers_trainings and interval.low <= limit <= interval.high else verdict
    if not interval.covers_trainings:
        return "untested"
    return "partly" if interval.low > limit else "not" if interval.high < limit else "untested"


def so_few(trainings: int, half_width: float, unit: str) -> str:
    """What a reader must know of a comparison of so few trainings; nothing where they are enough."""
    if trainings >= ENOUGH:
        return ""
    each = {1: "one training each", 2: "two trainings each"}[trainings]
    if not half_width > 0:
        return f"; {each}, and what another seed does was not measured"
    moved = f"{half_width * UNITS[unit]:.0f} points" if unit == "points" else f"{half_width:.1f} mm"
    return f"; {each}, and chance in training may move it by {moved}"


def too_easy(unmoved: float, target: float) -> str:
    """Why success cannot be judged where enough starts succeed unmoved; nothing where it can."""
    easy = unmoved >= NEAR_ENOUGH * target
    return f"too easy to tell: {percent(unmoved)} of the starts succeed unmoved" if easy else ""


def at_ceiling(first: float, second: float) -> str:
    """Why two arms cannot be told apart; nothing where they can."""
    return "both at the ceiling" if min(first, second) >= CEILING else ""
