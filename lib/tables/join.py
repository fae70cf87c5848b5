"""`python -m lib join OTHER_RESULTS`: splits that were run elsewhere, added to `results/`.

Five splits take under three hours on two cores; this lets five machines run one each. Lines that stand in `results/` stay
as they are, to the letter. Afterwards every table is written again from the joined rows, as `python -m lib tables write`
does, and the claims are judged again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from lib import cases
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.study import config
from lib.tables import command, verdicts
from lib.tables.gather import KEYS, joined


def _check(mine: pd.DataFrame, rows: pd.DataFrame, folder: Path, other: Path) -> None:
    """Raises UserError if the rows are of another profile, or if a start that both have is not the same one."""
    profiles = sorted({*mine["profile"], *rows["profile"]})
    if len(profiles) > 1:
        raise UserError(f"{other}: its profile is not that of {folder} ({', '.join(profiles)}); join like with like.")
    starts = mine.drop_duplicates(cases.KEY).merge(rows.drop_duplicates(cases.KEY), on=cases.KEY)
    if ((starts["initial_error_mm_x"] - starts["initial_error_mm_y"]).abs() > 0.01).any():
        raise UserError(f"{other}: not the same starts as in {folder}; both must come from the same settings and code.")


def join(folder: Path, other: Path) -> pd.DataFrame:
    """Join the files of `KEYS`, with provenance where something is new; returns all case rows. Raises UserError before
    anything is written."""
    if not (other / "cases.csv").exists():
        raise UserError(f"{other}: no cases.csv; name the results folder of a run that reached notebook 06.")
    rows = cases.read_rows(other / "cases.csv")
    if (folder / "cases.csv").exists():
        _check(cases.read_rows(folder / "cases.csv"), rows, folder, other)
    cfg = config.load(rows["profile"].iloc[0], sections=("patients", "evaluation"))
    found = {}
    for name, key in KEYS.items():
        paths = [path / name for path in (folder, other) if (path / name).exists()]
        if other / name not in paths:
            continue
        first, *rest = (_text(path) for path in paths)
        table = joined(first, *rest, key) if rest else first
        if not rest or len(table) > len(first):  # else nothing is new
            found[name] = table, [_part(path) for path in paths]
    for name, (table, parts) in found.items():
        with provenance.atomic(folder / name) as temporary:
            table.to_csv(temporary, index=False)
        provenance.record(folder / name, cfg, joined=parts)
    return cases.read_rows(folder / "cases.csv")


def _text(path: Path) -> pd.DataFrame:
    """A CSV whose cells stay as they are written: a number read and written again may differ from its file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _part(path: Path) -> dict:
    """What is known of a file whose lines go into a joined one: its digest, and by which code and settings it was made."""
    beside = provenance.beside(path)
    said = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    kept = ("git", "config", "seeds", "planar", "joined", "finished_utc")
    return {"sha256": provenance.sha256(path)} | {name: said[name] for name in kept if name in said}


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("other", type=Path, help="results folder of another run of the same profile")


def run(options) -> None:
    """Join, write tables and claims again, and say in one line what there is. Raises UserError for bad input."""
    folder = folders.results_root()
    rows = join(folder, options.other)
    command.write(folder)
    verdicts.judge(rows["profile"].iloc[0], folder)
    counts = rows[rows["method"] == "initial"].groupby(["experiment", "split"]).size()
    print("; ".join(f"{e} split {s}: {n} cases" for (e, s), n in counts.items()))
