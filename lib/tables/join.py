"""`python -m lib join OTHER_RESULTS`: splits that were run elsewhere, added to `results/`.

Five splits take half a working day on two cores; this lets five machines run one each, or one machine on five evenings.
Rows of an experiment and split that stand in `results/` stay as they are. Afterwards every table is written again from
the joined rows, as `python -m lib tables write` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from lib import cases
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.study import config
from lib.tables import table1
from lib.tables.evidence import KEYS, joined


def _check(mine: pd.DataFrame, rows: pd.DataFrame, folder: Path, other: Path) -> None:
    """Raises UserError if the rows are of another profile, or if a start that both have is not the same one."""
    profiles = sorted({*mine["profile"], *rows["profile"]})
    if len(profiles) > 1:
        raise UserError(f"{other}: its profile is not that of {folder} ({', '.join(profiles)}); join like with like.")
    starts = mine.drop_duplicates(cases.KEY).merge(rows.drop_duplicates(cases.KEY), on=cases.KEY)
    if ((starts["initial_error_mm_x"] - starts["initial_error_mm_y"]).abs() > 0.01).any():
        raise UserError(f"{other}: not the same starts as in {folder}; both must come from the same settings and code.")


def join(folder: Path, other: Path) -> pd.DataFrame:
    """Join the files of `KEYS`; returns all case rows. Raises UserError before anything is written."""
    if not (other / "cases.csv").exists():
        raise UserError(f"{other}: no cases.csv; name the results folder of a run that reached notebook 06.")
    found = {}
    for name, key in KEYS.items():
        paths = [path / name for path in (folder, other) if (path / name).exists()]
        read = [cases.read_rows(path) if name == "cases.csv" else pd.read_csv(path) for path in paths]
        if len(read) == 2:
            if name == "cases.csv":
                _check(*read, folder, other)
            found[name] = joined(*read, key)
        elif read:
            found[name] = read[0]
    for name, table in found.items():
        with provenance.atomic(folder / name) as temporary:
            table.to_csv(temporary, index=False)
    return found["cases.csv"]


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("other", type=Path, help="results folder of another run of the same profile")


def run(options) -> None:
    """Join, write the tables again, and say in one line what there is. Raises UserError for bad input."""
    folder = folders.results_root()
    rows = join(folder, options.other)
    cfg = config.load(rows["profile"].iloc[0], sections=("patients", "evaluation"))
    for name in table1.write(rows, folder):
        provenance.record(folder / name, cfg, inputs=[folder / "cases.csv"])
    counts = rows[rows["method"] == "initial"].groupby(["experiment", "split"]).size()
    print("; ".join(f"{e} split {s}: {n} cases" for (e, s), n in counts.items()))
