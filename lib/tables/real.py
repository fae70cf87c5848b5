"""Real scans, scan by scan: from `real_cases.csv` (`lib.study.transfer`) and nothing else."""

from __future__ import annotations

import pandas as pd

from lib import metrics
from lib.baselines.methods import label, order

PAIRS = ("pancreatic_ct_cbct_001",)  # scans whose CBCT is real; of all others it is simulated
NUMBERS = ("n", "success", "success_low", "success_high", "within_20_mm", "vertebra_off", "p10", "p50", "p90")
REAL = ("experiment", "range", "scan", "cbct", "method", *NUMBERS)
ALL = "all scans"
# What the README shows; table_real.csv has every method.
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
)


def numbers(some: pd.DataFrame, clusters, n_bootstrap: int) -> tuple:
    """`NUMBERS` of rows; intervals resample `clusters` (the starts of one image are dependent)."""
    low, high = metrics.success_interval(some["success"], clusters, n_bootstrap)
    off = some["note"].str.startswith("vertebra").sum()
    near = (some["final_error_mm"] <= 20).mean()
    values = (*metrics.percentiles(some["final_error_mm"]),)
    return (len(some), some["success"].mean(), low, high, near, int(off), *values)


def released(rows: pd.DataFrame, settings) -> pd.DataFrame:
    """The rows to show scan by scan: baselines, and the agents of the released recipe, each on scans that it never saw;
    on a pair, which no fold's agent has seen, the released one."""
    folds = [f"without_{k}" for k in range(len(settings.folds))]
    shown = {"spine": settings.released_spine, "heart": settings.released_heart}
    keep = {e: {"", *(folds if name in folds else [name])} for e, name in shown.items()}
    kinds = zip(rows["population"], rows["experiment"], rows["dataset"], strict=True)
    return rows[[p in ({"", shown[e]} if scan in PAIRS else keep[e]) for p, e, scan in kinds]]


def real(rows: pd.DataFrame, n_bootstrap: int = 500) -> pd.DataFrame:
    """`REAL` for every range, scan and method, then over all scans."""
    lines = []
    for (experiment, reach), mine in rows.groupby(["experiment", "range"], sort=False):
        for scan, group in [*mine.groupby("dataset"), (ALL, mine)]:
            kinds = {"real" if name in PAIRS else "simulated" for name in group["dataset"]}
            kind = "both" if len(kinds) > 1 else kinds.pop()
            for method in order(set(group["method"])):
                found = group[group["method"] == method]
                if scan == ALL and set(found["dataset"]) != set(group["dataset"]):
                    continue  # tried on some of them only
                clusters = found["dataset"] if scan == ALL else found["case"]
                lines.append((experiment, reach, scan, kind, method, *numbers(found, clusters, n_bootstrap)))
    return rounded(pd.DataFrame(lines, columns=REAL))


def of_run(rows: pd.DataFrame, n_bootstrap: int = 500) -> pd.DataFrame:
    """`REAL` for what `make reproduce` left on real scans: agents of split 0, the paper's range, a few starts."""
    return real(rows[~rows["dataset"].str.startswith("virtual_")].assign(range="full"), n_bootstrap)


def read_rows(folder) -> pd.DataFrame:
    """The rows of a folder's `real_cases.csv`."""
    rows = pd.read_csv(folder / "real_cases.csv", dtype={"case": str, "note": str})
    return rows.fillna({"population": "", "note": ""})


def read(folder, n_bootstrap: int):
    """What `tables` needs, for the `real_cases.csv` of a folder."""
    from lib.study import config

    rows = read_rows(folder)
    return rows, config.load(rows["profile"].iloc[0], sections=("transfer",)).transfer, n_bootstrap


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Digits a reader can believe: shares to 0.001, millimetres to 0.01."""
    shares = ("success", "success_low", "success_high", "within_20_mm")
    return table.round(dict.fromkeys(shares, 3) | dict.fromkeys(("p10", "p50", "p90"), 2))


def tables(rows: pd.DataFrame, settings, n_bootstrap: int = 500) -> dict[str, pd.DataFrame]:
    """File name -> table."""
    from lib.tables import transfer

    rows = rows.sort_values(
        ["experiment", "range"], ascending=False, kind="stable"
    )  # spine before heart, near before full
    return {
        "table_real.csv": real(released(rows, settings), n_bootstrap),
        "transfer.csv": transfer.table(rows, n_bootstrap),
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
        lines = [title, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for scan, group in some.groupby("scan", sort=False):
            by = group.set_index("method")
            cells = [_cell(by.loc[m], scan == ALL) if m in by.index else "" for m in names]
            lines.append("| " + " | ".join([f"`{scan}`", group["cbct"].iloc[0], str(group["n"].max()), *cells]) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cell(line, with_interval: bool) -> str:
    span = f" [{100 * line.success_low:.0f}, {100 * line.success_high:.0f}]" if with_interval else ""
    return f"{100 * line.success:.0f} %{span}, {line.p50:.1f}"
