"""Parts that every claim is made of: its line and its verdict."""

from __future__ import annotations

import numpy as np

COLUMNS = ("claim", "statement", "paper", "ours", "low", "high", "n", "verdict", "command", "evidence")


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
}


def line(claim, statement, paper, ours="", low=np.nan, high=np.nan, n=0, verdict="untested", command="") -> tuple:
    """One line of claims.csv, in the order of `COLUMNS`; without a verdict it is untested."""
    how, evidence = SHOWN_BY[claim]
    return claim, statement, paper, ours, low, high, int(n), verdict, command or how, evidence


def by_rule(fully, partly) -> str:
    """The verdict of two conditions."""
    return "reproduced" if fully else "partly" if partly else "not"


def reach(value: float, high: float, target: float) -> str:
    """Reproduced: 80 % of the target or more, and the interval reaches it; partly: half of it."""
    return by_rule(value >= 0.8 * target and max(value, high) >= target, value >= 0.5 * target)
