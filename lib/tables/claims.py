"""The paper's claims, each with our number, its 95 % interval and a verdict by a rule stated beside it.

Verdicts: reproduced, partly, not; untested where the data are missing or cannot tell, or the profile is `smoke`, which
claims nothing. Ours is measured on the embedded virtual patients unless a line says otherwise. Lines on the paper's own
agent (difference image) are verdicts on the paper; those on what we put beside it (both images as input, our loss) are
extensions, and those of C15 to C17 are on what it says of its rivals: both are counted apart (`rules.about`). The rules
stand in the docstrings of `rules` and of the claims_* files; to add a claim, write a function there that yields
`rules.line`s and name it in `CLAIMS`.
"""

from __future__ import annotations

import pandas as pd

from lib.base.errors import UserError
from lib.tables import claims_learning, claims_rivals, claims_success, claims_variants, claims_walks
from lib.tables.evidence import Evidence
from lib.tables.rules import COLUMNS, EXTENSION, PAPER, RIVALS, VERDICTS
from lib.tables.words import table as as_markdown

CLAIMS = {
    "C1": claims_success.c1,
    "C2": claims_success.c2,
    "C3": claims_success.c3,
    "C4": claims_walks.c4,
    "C5": claims_walks.c5,
    "C6": claims_learning.c6,
    "C7": claims_learning.c7,
    "C8": claims_variants.c8,
    "C9": claims_variants.c9,
    "C10": claims_success.c10,
    "C11": claims_walks.c11,
    "C12": claims_success.c12,
    "C13": claims_success.c13,
    "C14": claims_learning.c14,
    "C15": claims_rivals.c15,
    "C16": claims_rivals.c16,
    "C17": claims_rivals.c17,
}
WITHOUT_A_RUN = ("C7", "C14")  # arithmetic: the smoke profile shows these too


def check(wanted) -> None:
    """Raises UserError for a claim that is none."""
    unknown = set(wanted) - set(CLAIMS)
    if unknown:
        raise UserError(f"There is no claim {sorted(unknown)[0]}; they are {', '.join(CLAIMS)}.")


def compute(data: Evidence, wanted=()) -> pd.DataFrame:
    """The claims table (`COLUMNS`), all claims or those wanted. The smoke profile proves nothing but
    arithmetic."""
    check(wanted)
    lines = [made for name, claim in CLAIMS.items() if not wanted or name in wanted for made in claim(data)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    if data.profile == "smoke":
        table.loc[~table["claim"].isin(WITHOUT_A_RUN), "verdict"] = "untested"
    return table


def counted(table: pd.DataFrame) -> str:
    """How many lines have which verdict, in words: those on the paper's method, on its rivals, on our extension."""
    words = {PAPER: "on the paper's method", RIVALS: "on what it says of rivals", EXTENSION: "on our extension of it"}
    found = {name: table.loc[table["about"] == name, "verdict"] for name in words}
    return "; ".join(
        f"of {len(some)} lines {words[name]} "
        + ", ".join(f"{(some == verdict).sum()} {'are ' * (not i)}{verdict}" for i, verdict in enumerate(VERDICTS))
        for name, some in found.items()
        if len(some)
    )


def interval(row: dict) -> str:
    """A line's interval with its unit, and what it is an interval of."""
    if pd.isna(row["low"]):
        return ""
    digits = 0 if row["unit"] in ("%", "points") else 1
    low, high = (round(row[bound], digits) + 0.0 for bound in ("low", "high"))  # no minus zero
    return f"[{low:.{digits}f}, {high:.{digits}f}] {row['unit']}: {row['interval_of']}"


def markdown(table: pd.DataFrame) -> str:
    """Lines of claims.csv as a Markdown table."""
    head = ["", "claim", "paper", "ours", "95 % interval of what: over what", "n", "trainings", "verdict"]
    lines = [
        [
            *(row["claim"], row["statement"], row["paper"], row["ours"], interval(row), int(row["n"]) or ""),
            *(int(row["trainings"]) or "", f"**{row['verdict']}**", f"`{row['command']}`"),
        ]
        for row in table.fillna({"ours": "", "n": 0, "trainings": 0}).to_dict("records")
    ]
    return as_markdown([*head, "shown by"], lines)
