"""Table 1, today's table and their sisters, computed from the case rows and from nothing else.

`python -m lib.tables.table1 write`   results/cases.csv -> the tables
`python -m lib.tables.table1 readme`  the tables -> README.md, between `<!-- NAME -->` and `<!-- /NAME -->`; docs/deviations.md too
`python -m lib.tables.table1 verify`  recompute everything and compare; exit status 1 and one sentence if it differs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, metrics
from lib.base.errors import UserError
from lib.baselines.methods import PAPER_METHODS, label, learnt_on, order
from lib.metrics import PAPER
from lib.study import variants
from lib.tables import real, studies
from lib.tables.rows import capture, failures, kind, paired, starvation  # noqa: F401

COLUMNS = (
    *("experiment", "dataset", "method", "n", "success", "success_low", "success_high", "p10", "p50", "p90"),
    *("seconds_p50", "paper_success", "paper_p10", "paper_p50", "paper_p90"),
)
TABLE1 = (*PAPER_METHODS, "dsl_two_channel")  # the last is ours: both images instead of their difference
BLOCKS = ("TABLE1", "TABLE1_TODAY")


def summarise(rows: pd.DataFrame, experiment: str, dataset: str, method: str, n_bootstrap: int = 500) -> dict:
    """One line of a table. Without rows: n = 0 and no numbers but the paper's."""
    some = rows.query("experiment == @experiment and dataset == @dataset and method == @method")
    low, high = metrics.success_interval(some["success"], some["case"], n=n_bootstrap)
    p10, p50, p90 = metrics.percentiles(some["final_error_mm"])
    paper = PAPER[experiment].get(method, (None,) * 4)
    values = (
        *(experiment, dataset, method, len(some), some["success"].mean() if len(some) else np.nan, low, high),
        *(p10, p50, p90, some["seconds"].median()),
        *(np.nan if p is None else p for p in paper),
    )
    return dict(zip(COLUMNS, values, strict=True))


def gather(rows: pd.DataFrame, n_bootstrap: int = 500) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(table1, table1_today) from case rows of one profile. Table 1 holds every method of the paper, run
    or not; today's holds the two agents and every method the paper does not have."""
    if rows["profile"].nunique() > 1:
        raise UserError("The case rows come from several profiles; make a table of one profile at a time.")
    first, today = [], []
    for experiment in PAPER:
        for dataset in sorted(set(rows.loc[rows["experiment"] == experiment, "dataset"])):
            found = set(rows.query("experiment == @experiment and dataset == @dataset")["method"])
            for method in order({*TABLE1, *found}):
                line = summarise(rows, experiment, dataset, method, n_bootstrap)
                if method in TABLE1:
                    first.append(line)
                if (method not in PAPER_METHODS and not learnt_on(method)) or method == "dsl":
                    today.append(line)
    tables = (pd.DataFrame(t, columns=COLUMNS) for t in (first, today))
    return tuple(_rounded(t) for t in tables)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Digits a reader can believe: rates to 0.001, millimetres and seconds to 0.01."""
    rates = ["success", "success_low", "success_high"]
    return table.round({**dict.fromkeys(rates, 3), **dict.fromkeys(["p10", "p50", "p90", "seconds_p50"], 2)})


def markdown(table: pd.DataFrame, paper: bool = True) -> str:
    """A table as Markdown, one block for each experiment and data set, the paper's numbers in italics."""
    blocks = []
    for (experiment, dataset), some in table.groupby(["experiment", "dataset"], sort=False):
        name, measure = ("E1 spine", "TRE") if experiment == "spine" else ("E2 heart", "MME")
        head = ["method", "success % [95 % CI]", *(f"{measure} {q} mm" for q in ("10th", "50th", "90th"))]
        head += ["s a case", "n"] + (["*paper: success %*", "*10th / 50th / 90th*"] if paper else [])
        lines = [f"**{name}, `{dataset}`**", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines += ["| " + " | ".join(_cells(line, paper)) + " |" for line in some.to_dict("records")]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cells(line: dict, paper: bool) -> list[str]:
    """The cells of one Markdown line; what was not run says so."""

    def number(value, digits=1, scale=1.0):
        return "" if pd.isna(value) else f"{scale * value:.{digits}f}"

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


def inject(text: str, name: str, block: str) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced. Raises UserError
    without them."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise UserError(f"README.md: the markers {start} and {end} are missing; put them where the table belongs.")
    before, rest = text.split(start, 1)
    return f"{before}{start}\n\n{block}\n\n{end}{rest.split(end, 1)[1]}"


def extract(text: str, name: str) -> str:
    """What stands between the markers of `name`."""
    return text.split(f"<!-- {name} -->", 1)[1].split(f"<!-- /{name} -->", 1)[0].strip()


def collect(run_root, profile: str) -> pd.DataFrame:
    """All case rows of a profile below its run folder: every experiment, split, method and data set, once
    each."""
    rows = cases.read_rows(*cases.find_rows(run_root))
    rows = rows[rows["profile"] == profile].drop_duplicates([*cases.KEY, "method"], keep="last")
    known = {m: i for i, m in enumerate(order(rows["method"]))}
    place = rows["method"].map(known)
    names = ["experiment", "dataset", "split", "case", "start"]
    return rows.assign(_m=place).sort_values([*names, "_m"]).drop(columns="_m").reset_index(drop=True)


def main_methods(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of variants, which have a budget and a table of their own."""
    return rows[[not variants.name_of(method) for method in rows["method"]]]


def all_tables(rows: pd.DataFrame, n_bootstrap: int = 500) -> dict[str, pd.DataFrame]:
    """File name -> table, for every table made from the rows; variants are not among them (lib.tables.ablations)."""
    rows = main_methods(rows)
    table1, today = gather(rows, n_bootstrap)
    pairs = [paired(rows, agent, n_bootstrap) for agent in ("dsl", "dsl_two_channel")]
    pairs = [p for p in pairs if len(p)] or pairs[:1]
    starved = starvation(rows)
    return {
        "table1.csv": table1,
        "table1_today.csv": today,
        "failures.csv": failures(rows),
        "paired.csv": pd.concat(pairs, ignore_index=True),
        "capture_range.csv": capture(rows),
        "table_reproduce_real.csv": real.of_run(rows, n_bootstrap),
        **({"starvation.csv": starved} if len(starved) else {}),
    }


def write(rows: pd.DataFrame, folder, n_bootstrap: int = 500) -> dict[str, pd.DataFrame]:
    """Write every table into `folder`, each to a temporary name first; returns them."""
    from lib.base import provenance

    tables = all_tables(rows, n_bootstrap)
    for name, table in tables.items():
        with provenance.atomic(Path(folder) / name) as temporary:
            table.to_csv(temporary, index=False)
    return tables


def readme_blocks(folder) -> dict[str, str]:
    """Marker name -> Markdown, read from the tables in `folder`."""
    folder = Path(folder)
    blocks = {
        "TABLE1": markdown(_virtual(pd.read_csv(folder / "table1.csv"))),
        "TABLE1_TODAY": markdown(_virtual(pd.read_csv(folder / "table1_today.csv")), paper=False),
    }
    blocks |= studies.blocks(folder)
    if (folder / "claims.csv").exists():
        from lib.tables import claims

        blocks["CLAIMS"] = claims.markdown(pd.read_csv(folder / "claims.csv"))
    return blocks


def _virtual(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["dataset"].str.startswith("virtual_")]


def verify(folder, readme=None) -> list[str]:
    """What differs between the tables (and README) in `folder` and those recomputed from its cases.csv."""
    folder, wrong = Path(folder), []
    rows = cases.read_rows(folder / "cases.csv")
    expected = all_tables(rows, _resamples(rows))
    expected |= {name: table for name, (table, _) in studies.tables(folder, _resamples(rows)).items()}
    for name, table in expected.items():
        path = folder / name
        if not path.exists():
            wrong.append(f"{path} is missing")
            continue
        try:
            pd.testing.assert_frame_equal(pd.read_csv(path), _reread(table), check_dtype=False, atol=2e-3)
        except AssertionError:
            wrong.append(f"{path} is not what its case rows give")
    if readme is not None and Path(readme).exists():
        text = Path(readme).read_text(encoding="utf-8")
        for name, block in readme_blocks(folder).items():
            if f"<!-- {name} -->" in text and extract(text, name) != block.strip():
                wrong.append(f"{readme}: the block {name} is not what {folder} gives")
    return wrong


def _resamples(rows: pd.DataFrame) -> int:
    """The number of bootstrap resamples that the rows' profile asks for."""
    from lib.study import config

    names = rows["profile"].unique()
    known = len(names) == 1 and names[0] in config.profiles()
    settings = config.load(names[0], sections=("evaluation",)).evaluation if known else None
    return (settings or metrics.EvaluationSettings()).n_bootstrap


def _reread(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it comes back from CSV."""
    import io

    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


def _record(names, rows: pd.DataFrame, folder) -> None:
    """Provenance beside each table, where the rows' profile is known."""
    from lib.base import provenance
    from lib.study import config

    profiles = rows["profile"].unique()
    if len(profiles) == 1 and profiles[0] in config.profiles():
        cfg = config.load(profiles[0], sections=("patients", "evaluation"))
        for name in names:
            provenance.record(Path(folder) / name, cfg, inputs=[Path(folder) / "cases.csv"])


def main(arguments: list[str]) -> int:
    """`write`, `readme` (and docs/deviations.md) or `verify`, for `results/` or the folder given as second argument."""
    from lib.base import provenance
    from lib.study import config
    from lib.tables import ablations

    parser = argparse.ArgumentParser(prog="python -m lib.tables.table1", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="verify", choices=("write", "readme", "verify"))
    parser.add_argument("folder", nargs="?", default="results")
    given = parser.parse_args(arguments)
    what, folder, readme = given.what, config.ROOT / given.folder, config.ROOT / "README.md"
    if what == "write":
        rows = cases.read_rows(folder / "cases.csv")
        _record(write(rows, folder, _resamples(rows)), rows, folder)
    elif what == "readme":
        text = readme.read_text(encoding="utf-8")
        for name, block in readme_blocks(folder).items():
            text = inject(text, name, block) if f"<!-- {name} -->" in text else text
        readme.write_text(text, encoding="utf-8")
        ablations.write_document(folder)
    else:
        shown = folder == config.ROOT / "results" and provenance.committed(folder / "cases.csv")
        wrong = verify(folder, readme if shown else None)
        agree = "tables agree with their rows" + ("" if shown else "; README.md shows other rows, the committed ones")
        print("\n".join(wrong) + "; run: python -m lib.tables.table1 write" if wrong else agree)
        return 1 if wrong else 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as problem:
        sys.exit(str(problem))
