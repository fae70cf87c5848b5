"""`python -m lib tables`: the tables from their rows, the documents from the tables, and whether all of it agrees.

python -m lib tables write       results/cases.csv and results/rows/ -> the tables and the studies' figures
python -m lib tables documents   the tables -> README.md and docs/
python -m lib tables verify      recompute everything and compare; exit status 1 and a line for each difference
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pandas as pd

from lib import cases
from lib.base import provenance
from lib.base.folders import ROOT
from lib.study import config
from lib.tables import claims, documents, evidence, studies, table1


def write(folder) -> list[str]:
    """Every table from the folder's cases.csv, with provenance where the rows' profile is known; their names."""
    folder = Path(folder)
    rows = cases.read_rows(folder / "cases.csv")
    made = table1.write(rows, folder)
    profiles = rows["profile"].unique()
    if len(profiles) == 1 and profiles[0] in config.profiles():
        cfg = config.load(profiles[0], sections=("patients", "evaluation"))
        for name in made:
            provenance.record(folder / name, cfg, inputs=[folder / "cases.csv"])
    return list(made)


def verify(folder) -> list[str]:
    """What differs between the tables in `folder` and those recomputed from its rows, a sentence each."""
    folder, wrong = Path(folder), []
    rows = cases.read_rows(folder / "cases.csv")
    expected = table1.all_tables(rows)
    expected |= {name: table for name, (table, _) in studies.tables(folder).items()}
    if (folder / "claims.csv").exists():
        expected["claims.csv"] = claims.compute(evidence.load(folder, rows["profile"].iloc[0]))
    for name, table in expected.items():
        path = folder / name
        if not path.exists():
            wrong.append(f"{path} is missing")
            continue
        try:
            pd.testing.assert_frame_equal(pd.read_csv(path), _reread(table), check_dtype=False, atol=2e-3)
        except AssertionError:
            wrong.append(f"{path} is not what its case rows give")
    return wrong


def unchanged(folder: Path) -> bool:
    """Whether the rows of a results folder are as they were committed."""
    return all(provenance.committed(folder / part) for part in ("cases.csv", "rows"))


def _reread(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it comes back from CSV."""
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("what", nargs="?", default="verify", choices=("write", "documents", "verify"))
    add.add_argument("--profile", default="cpu", help="whose results (default: cpu, that is results/)")


def run(options) -> int:
    """Exit code 1 where something differs."""
    folder = config.results_dir(options.profile)
    if options.what == "write":
        names = write(folder) if (folder / "cases.csv").exists() else []
        print(", ".join([*names, *(path.name for path in studies.write(options.profile))]) or "there are no rows yet")
    elif options.what == "documents":
        print(
            "\n".join(f"{page.relative_to(ROOT)}: filled" for page in documents.write(folder)) or "nothing has changed"
        )
    else:
        # After a run of one's own the documents still show the committed rows.
        shown = folder == ROOT / "results" and unchanged(folder)
        wrong = verify(folder) + (documents.verify(folder) if shown else [])
        agree = "tables agree with their rows"
        agree += "" if shown else "; README.md and docs/ show other rows, the committed ones"
        advice = "run: python -m lib tables write, then python -m lib tables documents"
        print("\n".join([*wrong, advice]) if wrong else agree)
        return int(bool(wrong))
    return 0
