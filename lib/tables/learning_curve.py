"""More samples: success of the coarse network alone against the number of samples that it was trained with."""

from __future__ import annotations

import pandas as pd

from lib import metrics

TABLE = ("experiment", "range", "agent", "samples", "n", "success", "success_low", "success_high", "p10", "p50", "p90")
VIRTUAL = "virtual"  # the test cases of split 0; the real scans' ranges are `near` and `full`


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """`TABLE` from the rows of the study `learning_curve`; intervals are over patients, and scans."""
    drawn = rows["dataset"].str.startswith("virtual_")
    rows = rows.assign(range=rows["range"].where(~drawn, VIRTUAL), samples=rows["samples"].astype(int))
    lines = []
    for (experiment, reach, agent, samples), some in rows.groupby(["experiment", "range", "agent", "samples"]):
        clusters = some["case"] if reach == VIRTUAL else some["dataset"]
        spread = metrics.success_interval(some["success"], clusters)
        errors = metrics.percentiles(some["final_error_mm"]).round(2)
        shares = [round(x, 3) for x in (some["success"].mean(), *spread)]
        lines.append((experiment, reach, agent, samples, len(some), *shares, *errors))
    return pd.DataFrame(lines, columns=TABLE)
