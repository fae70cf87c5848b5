"""What is said of some rows in every table: success with its interval, and percentiles of the error."""

from __future__ import annotations

import pandas as pd

from lib import metrics

NUMBERS = ("n", "success", "success_low", "success_high", "within_20_mm", "vertebra_off", "p10", "p50", "p90")


def numbers(some: pd.DataFrame, clusters) -> tuple:
    """`NUMBERS` of rows; intervals are over `clusters` (the starts of one image are dependent)."""
    low, high = metrics.success_interval(some["success"], clusters)
    off = some["note"].str.startswith("vertebra").sum()
    near = (some["final_error_mm"] <= 20).mean()
    values = (*metrics.percentiles(some["final_error_mm"]),)
    return (len(some), some["success"].mean(), low, high, near, int(off), *values)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Digits a reader can believe: shares to 0.001, millimetres to 0.01."""
    shares = ("success", "success_low", "success_high", "within_20_mm")
    return table.round(dict.fromkeys(shares, 3) | dict.fromkeys(("p10", "p50", "p90"), 2))
