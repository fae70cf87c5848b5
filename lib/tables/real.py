"""Real scans, scan by scan: from the rows of the studies `real_scans`, `transfer` and `transfer_changes`, nothing else."""

from __future__ import annotations

import pandas as pd

from lib.baselines.methods import label, order
from lib.patients.scans.manifest import real_cbct
from lib.study import rows as study_rows
from lib.tables import transfer
from lib.tables.shares import NUMBERS, numbers, rounded
from lib.tables.words import table as as_markdown

STUDIES = ("real_scans", "transfer", "transfer_changes")
REAL = ("experiment", "range", "scan", "cbct", "method", *NUMBERS)
ALL = "all scans"
# What docs/real_scans.md shows; table_real.csv has every method.
SHOWN = (
    "initial",
    "dsl_two_channel",
    "dsl_two_channel_adaptive",
    "dsl_two_channel_polish",
    "itk",
    "itk_tuned",
    "itk_search",
    "elastix",
    "greedy_search",
    "fft_search",
)


def released(rows: pd.DataFrame, settings) -> pd.DataFrame:
    """The rows to show scan by scan: baselines, and the agents of the released recipe, each on scans that it never saw;
    on a pair, which no fold's agent has seen, the released one."""
    folds = [f"without_{k}" for k in range(len(settings.folds))]
    shown = {"spine": settings.released_spine, "heart": settings.released_heart}
    keep = {e: {"", *(folds if name in folds else [name])} for e, name in shown.items()}
    kinds = zip(rows["population"], rows["experiment"], rows["dataset"], strict=True)
    return rows[[p in ({"", shown[e]} if real_cbct(scan) else keep[e]) for p, e, scan in kinds]]


def real(rows: pd.DataFrame) -> pd.DataFrame:
    """`REAL` for every range, scan and method, then over all scans."""
    lines = []
    for (experiment, reach), mine in rows.groupby(["experiment", "range"], sort=False):
        for scan, group in [*mine.groupby("dataset"), (ALL, mine)]:
            kinds = {"real" if real_cbct(name) else "simulated" for name in set(group["dataset"])}
            kind = "both" if len(kinds) > 1 else kinds.pop()
            for method in order(set(group["method"])):
                found = group[group["method"] == method]
                if scan == ALL and set(found["dataset"]) != set(group["dataset"]):
                    continue  # tried on some of them only
                clusters = found["dataset"] if scan == ALL else found["case"]
                lines.append((experiment, reach, scan, kind, method, *numbers(found, clusters)))
    return rounded(pd.DataFrame(lines, columns=REAL))


def of_run(rows: pd.DataFrame) -> pd.DataFrame:
    """`REAL` for what `make reproduce` left on real scans: agents of split 0, the paper's range, a few starts."""
    return real(rows[~rows["dataset"].str.startswith("virtual_")].assign(range="full"))


def read_rows(folder) -> pd.DataFrame:
    """The studies' rows in a folder of results, with the column `population`: whose agent it was, "" for a baseline."""
    rows = study_rows.read(folder, *STUDIES)
    return rows.assign(
        population=[p + f"+{c}" * bool(p and c) for p, c in zip(rows["recipe"], rows["change"], strict=True)]
    )


def tables(rows: pd.DataFrame, settings) -> dict[str, pd.DataFrame]:
    """File name -> table. settings: `transfer` of the rows' profile, which knows what is released."""
    by = ["experiment", "range"]  # spine before heart, near before full
    rows = rows.sort_values(by, ascending=False, kind="stable")
    return {
        "table_real.csv": real(released(rows, settings)),
        "transfer.csv": transfer.table(rows),
    }


def markdown(table: pd.DataFrame, methods=None) -> str:
    """A line a scan, a column a method: success and median error; a block a range."""
    blocks = []
    ranges = {"near": "starts within ±30 mm and ±15°", "full": "the paper's range of starts"}
    for (experiment, reach), some in table.groupby(["experiment", "range"], sort=False):
        names = [m for m in order(set(some["method"])) if methods is None or m in methods]
        measure = "TRE ≤ 10 mm" if experiment == "spine" else "MME ≤ 20 mm"
        title = "E1 spine" if experiment == "spine" else "E2 heart"
        title = f"**{title}, {ranges.get(reach, reach)}**: success ({measure}) and median in mm"
        head = ["scan", "CBCT", "starts", *(label(m) for m in names)]
        lines = []
        for scan, group in some.groupby("scan", sort=False):
            by = group.set_index("method")
            cells = [_cell(by.loc[m], scan == ALL) if m in by.index else "" for m in names]
            lines.append([f"`{scan}`", group["cbct"].iloc[0], group["n"].max(), *cells])
        blocks.append(f"{title}\n\n{as_markdown(head, lines)}")
    return "\n\n".join(blocks)


def _cell(line, with_interval: bool) -> str:
    span = f" [{100 * line.success_low:.0f}, {100 * line.success_high:.0f}]" if with_interval else ""
    return f"{100 * line.success:.0f} %{span}, {line.p50:.1f}"
