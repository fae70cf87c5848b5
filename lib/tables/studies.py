"""Tables and figures of the studies, from their rows: `python -m lib tables write` after a study has run.

A study without rows leaves its tables as they are.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.base import provenance
from lib.figures import charts
from lib.figures import studies as figures
from lib.study import config, schema
from lib.study import rows as study_rows
from lib.tables import learning_curve, real


def tables(folder) -> dict[str, tuple[pd.DataFrame, tuple[str, ...]]]:
    """File name -> the table and the studies whose rows it is made of, for the rows in a folder of results."""
    made, rows = {}, real.read_rows(folder)
    if len(rows):
        settings = config.load(rows["profile"].iloc[0], sections=("transfer",)).transfer
        made = {name: (table, real.STUDIES) for name, table in real.tables(rows, settings).items()}
    curve = study_rows.read(folder, "learning_curve")
    if len(curve):
        made["learning_curve.csv"] = learning_curve.table(curve), ("learning_curve",)
    return made


def write(profile: str = "cpu") -> list[Path]:
    """The tables and figures of a profile's results; returns the files."""
    cfg = config.load(profile, sections=("evaluation", "transfer"))
    folder, written = config.results_dir(cfg), []
    for name, (table, studies) in tables(folder).items():
        with provenance.atomic(folder / name) as temporary:
            table.to_csv(temporary, index=False)
        inputs = [path for path in (study_rows.path_of(folder, study) for study in studies) if path.exists()]
        provenance.record(folder / name, cfg, seeds={"starts": cfg.evaluation.seed}, inputs=inputs)
        written.append(folder / name)
    for name, (figure, source) in _figures(folder).items():
        charts.save(figure, folder / "figures" / name, {"cfg": cfg, "inputs": [source]})
        written.append(folder / "figures" / name)
    return written


def _figures(folder) -> dict:
    """File name -> the figure and the file it is drawn from."""
    made, curve = {}, folder / "learning_curve.csv"
    if curve.exists():
        made["learning_curve.png"] = figures.learning_curve(pd.read_csv(curve)), curve
    rows = study_rows.read(folder, "beyond_training")
    if len(rows):
        labels = {name: condition.what for name, condition in schema.load("beyond_training").conditions().items()}
        title = "Released spine agent, real CTs it never saw, simulated CBCT"
        drawn = figures.beyond_training(rows[rows["method"] == "register"], labels, title)
        made["degradation.png"] = drawn, study_rows.path_of(folder, "beyond_training")
    return made
