"""Real scans, scan by scan: the table behind the README's, from the case rows and nothing else."""

from __future__ import annotations

import pandas as pd

from lib import metrics
from lib.plots_charts import label, order

METHODS = ("initial", "itk", "itk_tuned", "dsl", "dsl_two_channel", "dsl_two_channel_coarse")
PAIRS = ("pancreatic_ct_cbct_001",)  # scans whose CBCT is real; of all others it is simulated
COLUMNS = ("experiment", "scan", "cbct", "method", "n", "success", "success_low", "success_high", "p10", "p50", "p90")


def real(rows: pd.DataFrame, n_bootstrap: int = 500) -> pd.DataFrame:
    """`COLUMNS` for every scan and method, then over all scans; intervals resample scans (their starts are dependent)."""
    some = rows[~rows["dataset"].str.startswith("virtual_")]
    lines = []
    for experiment, mine in some.groupby("experiment", sort=False):
        groups = [*mine.groupby("dataset"), ("all scans", mine)]
        for scan, group in groups:
            kind = "real" if scan in PAIRS else "both" if scan == "all scans" else "simulated"
            for method in [m for m in order(set(group["method"])) if m in METHODS]:
                found = group[group["method"] == method]
                clusters = found["dataset"] if scan == "all scans" else found["case"]
                low, high = metrics.success_interval(found["success"], clusters, n_bootstrap)
                p10, p50, p90 = metrics.percentiles(found["final_error_mm"])
                rate = found["success"].mean()
                lines.append((experiment, scan, kind, method, len(found), rate, low, high, p10, p50, p90))
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.round({"success": 3, "success_low": 3, "success_high": 3, "p10": 2, "p50": 2, "p90": 2})


def markdown(table: pd.DataFrame) -> str:
    """A line a scan, a column a method: success and median error."""
    blocks = []
    for experiment, some in table.groupby("experiment", sort=False):
        methods = [m for m in METHODS if m in set(some["method"])]
        measure = "TRE ≤ 10 mm" if experiment == "spine" else "MME ≤ 20 mm"
        title = f"**{'E1 spine' if experiment == 'spine' else 'E2 heart'}**, success ({measure}) and median in mm"
        head = ["scan", "CBCT", "starts", *(label(m) for m in methods)]
        lines = [title, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for scan, group in some.groupby("scan", sort=False):
            by = group.set_index("method")
            cells = []
            for method in methods:
                if method not in by.index:
                    cells.append("")
                    continue
                line = by.loc[method]
                span = f" [{100 * line.success_low:.0f}, {100 * line.success_high:.0f}]" if scan == "all scans" else ""
                cells.append(f"{100 * line.success:.0f} %{span}, {line.p50:.1f}")
            lines.append("| " + " | ".join([f"`{scan}`", group["cbct"].iloc[0], str(group["n"].max()), *cells]) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
