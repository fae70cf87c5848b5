"""Table 1, today's table and their sisters, computed from the case rows and from nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import metrics
from lib.base import provenance
from lib.base.errors import UserError
from lib.baselines.methods import PAPER_METHODS, label, learnt_on, order
from lib.metrics import PAPER
from lib.tables import real
from lib.tables.rows import capture, failures, main_methods, paired, starvation
from lib.tables.words import number
from lib.tables.words import table as as_markdown

COLUMNS = (
    *("experiment", "dataset", "method", "n", "success", "success_low", "success_high", "p10", "p50", "p90"),
    *("seconds_p50", "paper_success", "paper_p10", "paper_p50", "paper_p90"),
)
TABLE1 = (*PAPER_METHODS, "dsl_two_channel")  # the last is ours: both images instead of their difference


def summarise(rows: pd.DataFrame, experiment: str, dataset: str, method: str) -> dict:
    """One line of a table. Without rows: n = 0 and no numbers but the paper's."""
    some = rows.query("experiment == @experiment and dataset == @dataset and method == @method")
    low, high = metrics.success_interval(some["success"], some["case"])
    p10, p50, p90 = metrics.percentiles(some["final_error_mm"])
    paper = PAPER[experiment].get(method, (None,) * 4)
    values = (
        *(experiment, dataset, method, len(some), some["success"].mean() if len(some) else np.nan, low, high),
        *(p10, p50, p90, some["seconds"].median()),
        *(np.nan if p is None else p for p in paper),
    )
    return dict(zip(COLUMNS, values, strict=True))


def gather(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(table1, table1_today) from case rows of one profile. Table 1 holds every method of the paper, run
    or not; today's holds the two agents and every method the paper does not have."""
    if rows["profile"].nunique() > 1:
        raise UserError("The case rows come from several profiles; make a table of one profile at a time.")
    first, today = [], []
    for experiment in PAPER:
        for dataset in sorted(set(rows.loc[rows["experiment"] == experiment, "dataset"])):
            found = set(rows.query("experiment == @experiment and dataset == @dataset")["method"])
            for method in order({*TABLE1, *found}):
                line = summarise(rows, experiment, dataset, method)
                if method in TABLE1:
                    first.append(line)
                if (method not in PAPER_METHODS and not learnt_on(method)) or method == "dsl":
                    today.append(line)
    tables = (pd.DataFrame(t, columns=COLUMNS) for t in (first, today))
    return tuple(_rounded(t) for t in tables)


def with_regression(today: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Today's table with the lines of the study `pose_regression`, whose rows are given, after the agents."""
    rows = rows.assign(method=rows["change"].str.replace(r"_samples_\d+$", "", regex=True))
    kinds = rows[["experiment", "dataset", "method"]].drop_duplicates().itertuples(index=False)
    whole = pd.concat([today, *(pd.DataFrame([summarise(rows, *kind)]) for kind in kinds)], ignore_index=True)
    rank = {name: place for place, name in enumerate(order(whole["method"]))}
    return whole.sort_values("method", key=lambda names: names.map(rank), kind="stable")


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Rates, millimetres and seconds to 0.001: a page shows fewer digits, rounded from these."""
    rates = ["success", "success_low", "success_high"]
    return table.round({**dict.fromkeys(rates, 3), **dict.fromkeys(["p10", "p50", "p90", "seconds_p50"], 3)})


def markdown(table: pd.DataFrame, paper: bool = True) -> str:
    """A table as Markdown, one block for each experiment and data set, the paper's numbers in italics."""
    blocks = []
    for (experiment, dataset), some in table.groupby(["experiment", "dataset"], sort=False):
        name, measure = ("E1 spine", "TRE") if experiment == "spine" else ("E2 heart", "MME")
        head = ["method", "success % [95 % CI]", *(f"{measure} {q} mm" for q in ("10th", "50th", "90th"))]
        head += ["s a case", "n"] + (["*paper: success %*", "*10th / 50th / 90th*"] if paper else [])
        lines = [_cells(line, paper) for line in some.to_dict("records")]
        blocks.append(f"**{name}, `{dataset}`**\n\n{as_markdown(head, lines)}")
    return "\n\n".join(blocks)


def virtual(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of a table on simulated patients."""
    return table[table["dataset"].str.startswith("virtual_")]


def _cells(line: dict, paper: bool) -> list[str]:
    """The cells of one Markdown line; what was not run says so."""

    cells = [label(line["method"])]
    if line["n"]:
        low, high = (number(line[k], 0, 100) for k in ("success_low", "success_high"))
        cells += [f"{number(line['success'], 0, 100)} [{low}, {high}]" if low else number(line["success"], 0, 100)]
        cells += [number(line[k]) for k in ("p10", "p50", "p90", "seconds_p50")] + [str(line["n"])]
    else:
        cells += ["not measured" if line["method"] == "human" else "not run", "", "", "", "", "0"]
    if paper:
        theirs = [number(line[f"paper_{k}"]) for k in ("p10", "p50", "p90")]
        rate = number(line["paper_success"], 0, 100) or ("N/A" if theirs[0] else "")
        cells += [f"*{rate}*" if rate else "", f"*{' / '.join(theirs)}*" if theirs[0] else ""]
    return cells


def all_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """File name -> table, for every table made from the rows; variants have their own (lib.tables.ablations)."""
    rows = main_methods(rows)
    table1, today = gather(rows)
    pairs = [paired(rows, agent) for agent in ("dsl", "dsl_two_channel")]
    pairs = [p for p in pairs if len(p)] or pairs[:1]
    starved = starvation(rows)
    return {
        "table1.csv": table1,
        "table1_today.csv": today,
        "failures.csv": failures(rows),
        "paired.csv": pd.concat(pairs, ignore_index=True),
        "capture_range.csv": capture(rows),
        "table_reproduce_real.csv": real.of_run(rows),
        **({"starvation.csv": starved} if len(starved) else {}),
    }


def write(rows: pd.DataFrame, folder) -> dict[str, pd.DataFrame]:
    """Write every table into `folder`, each to a temporary name first; returns them."""
    tables = all_tables(rows)
    for name, table in tables.items():
        with provenance.atomic(Path(folder) / name) as temporary:
            table.to_csv(temporary, index=False)
    return tables
