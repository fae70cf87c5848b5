"""Rows of a study: `results/rows/<study>.csv`, one schema for all of them, written as they are made.

A row is a case row (`lib.cases`) with the study and the range of starts before it, and behind it what was varied:

* recipe, change, seed, samples: whose agent, what was changed in it (or in a baseline's settings), its training
* agent, stage, steps, then: which networks walked, coarse or both, in steps of one | adaptive | third, then polished
* condition: what was changed in what was registered
* verdict, numbers: what the command said, and the numbers behind it (`overlap=1 agreement=0.8 ...`)
* group: what the case shares with others, where that is neither its data set nor its patient
* made_by: fingerprint of all that the row depends on; `EARLIER` for rows that are older than these files
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib import cases
from lib.base import provenance
from lib.base.errors import UserError

EXTRA = ("recipe", "change", "seed", "samples", "agent", "stage", "steps", "then", "condition", "verdict", "numbers")
COLUMNS = ("study", "range", *cases.COLUMNS, *EXTRA, "group", "made_by")
CASE = ("experiment", "dataset", "split", "case", "start")
WHAT = ("experiment", "range", "recipe", "change", "agent", "method", "condition")  # who is tried, and how
KEY = ("profile", *WHAT, "dataset", "split", "case", "start")
NUMBER = ("split", "start", "success", "initial_error_mm", "final_error_mm", "seconds", *cases.COLUMNS[-6:])
EARLIER = "earlier"  # made before studies were files; what made them stands in the provenance, `converted_from`
KINDS = {name: str for name in COLUMNS if name not in NUMBER}


def path_of(results, study: str) -> Path:
    """Where a study's rows are in a folder of results."""
    return Path(results) / "rows" / f"{study}.csv"


def read(results, *studies: str) -> pd.DataFrame:
    """The rows of some studies; none of one that was not run. Raises UserError for a file with other columns."""
    found = [_read(path_of(results, name)) for name in studies]
    found = [rows for rows in found if len(rows)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        rows = pd.read_csv(path, dtype=KINDS, keep_default_na=False, na_values={name: [""] for name in NUMBER})
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} cannot be read ({problem}); move it away and run its study again.") from None
    if tuple(rows.columns) != COLUMNS:
        raise UserError(f"{path} has other columns than rows of a study; move it away and run its study again.")
    return rows


def judge_again(path: Path, rows: pd.DataFrame, verdicts, limits: dict) -> None:
    """The rows of a file with other verdicts; its provenance keeps what made the rows, and says by which limits they are
    judged now."""
    with provenance.atomic(path) as temporary:
        rows.assign(verdict=verdicts).to_csv(temporary, index=False)
    beside = provenance.beside(path)
    value = json.loads(beside.read_text(encoding="utf-8"))
    provenance.write_json(beside, value | {"sha256": provenance.sha256(path), "judged_by": limits})


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """The column `numbers` as columns of numbers, in the rows' order; NaN where a row lacks one (`doubts`: it has none)."""
    parsed = [dict(word.split("=") for word in text.split()) for text in rows["numbers"]]
    return pd.DataFrame(parsed, index=rows.index).astype(float)


class Store:
    """The rows of one study on disk: what is there, and more of them. Several processes may write to one file."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.rows = _read(self.path)

    def made(self) -> dict[tuple, str]:
        """`KEY` of each row -> what made it."""
        return dict(zip(self.rows[list(KEY)].itertuples(index=False, name=None), self.rows["made_by"], strict=True))

    def add(self, new: list[dict]) -> None:
        """Rows in place of those of the same key. An agent's rows are of one training: where other networks have walked
        now, their older rows go, on whichever scan. Raises UserError if a start is not the one that stands there."""
        fresh = pd.DataFrame(new, columns=list(COLUMNS)).fillna(dict.fromkeys(KINDS, "")).astype(KINDS)
        with self._lock():
            old = _read(self.path)
            if len(old):
                _same_starts(fresh, old)
                old = cases.instead(fresh, old, list(KEY)).iloc[: -len(fresh)]
                old = old[~_of_another_training(old, fresh)]
            rows = pd.concat([old, fresh], ignore_index=True) if len(old) else fresh
            self.rows = rows.sort_values(list(KEY), kind="stable").reset_index(drop=True)
            with provenance.atomic(self.path) as temporary:
                self.rows.to_csv(temporary, index=False)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time writes into the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _same_starts(new: pd.DataFrame, old: pd.DataFrame) -> None:
    case = ["profile", "range", "condition", *CASE]
    both = old.drop_duplicates(case).merge(new.drop_duplicates(case), on=case)
    if ((both["initial_error_mm_x"] - both["initial_error_mm_y"]).abs() > 0.01).any():
        raise UserError(
            f"{new['study'].iloc[0]}.csv holds rows from other starts than these settings give; move it away, or set them back."
        )


def _of_another_training(old: pd.DataFrame, new: pd.DataFrame) -> pd.Series:
    """Which of the old rows are of an agent that walks anew, with other networks or settings."""
    walked, columns = new[new["recipe"] != ""], [*WHAT, "split", "made_by"]  # each split has networks of its own
    now = {tuple(line[:-1]): line[-1] for line in walked[columns].itertuples(index=False, name=None)}
    lines = old[columns].itertuples(index=False, name=None)
    return pd.Series([now.get(line[:-1], line[-1]) != line[-1] for line in lines], index=old.index, dtype=bool)
