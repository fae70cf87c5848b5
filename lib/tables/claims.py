"""The paper's claims C1 to C14, each with our number, its 95 % interval and a verdict by a rule stated beside it.

Verdicts: reproduced, partly, not; untested where the data are missing or the profile is `smoke`, which claims nothing.
Ours is measured on the embedded virtual patients. Lines come for the paper's own agent (difference image) and, where it
was run, for the two-channel agent. The rules stand in the docstrings of claims_success, claims_walks, claims_learning and
claims_variants; to add a claim, write a function there that yields `rules.line`s and name it in `CLAIMS`.
"""

from __future__ import annotations

import pandas as pd

from lib.base.errors import UserError
from lib.tables import claims_learning, claims_success, claims_variants, claims_walks
from lib.tables.evidence import Evidence
from lib.tables.rules import COLUMNS
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
    return table.round({"low": 3, "high": 3})


def markdown(table: pd.DataFrame) -> str:
    """claims.csv as a Markdown table."""

    def interval(row) -> str:
        return "" if pd.isna(row["low"]) else f" [{row['low']:.2g}, {row['high']:.2g}]"

    head = ["", "claim", "paper", "ours [95 % CI]", "n", "verdict", "shown by"]
    lines = [
        [
            *(row["claim"], row["statement"], row["paper"], f"{row['ours']}{interval(row)}", int(row["n"])),
            *(f"**{row['verdict']}**", f"`{row['command']}`"),
        ]
        for row in table.fillna({"ours": "", "n": 0}).to_dict("records")
    ]
    return as_markdown(head, lines)
