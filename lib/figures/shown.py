"""A table as a notebook shows it: methods by name, heads with units, a dash where nothing was measured."""

from __future__ import annotations

import pandas as pd

from lib.figures.charts import EXPERIMENTS, label

NAMED = ("method", "agent", "rival")  # columns that hold the identifier of a method
MISSING = "–"
pd.set_option("display.max_rows", 300)  # a table is shown whole, not with its middle left out


def table(rows: pd.DataFrame, heads: dict[str, str], digits: int = 1) -> pd.DataFrame:
    """Columns of `rows`, in the order of `heads` (column -> head), as words; the first becomes the index.

    A head that ends in `(%)` turns a share into percent; other fractions get `digits` decimals (from 10 on, at most one),
    whole numbers none.
    Heads carry the unit: `median (mm)`.
    """
    shown = pd.DataFrame({head: _column(rows[name], name, head, digits) for name, head in heads.items()})
    first = next(iter(heads.values()))
    return shown.set_index(first).rename_axis(index=None, columns=first)  # its head in the same line as the others


def _column(values: pd.Series, name: str, head: str, digits: int) -> list[str]:
    if name in NAMED:
        return [label(value) for value in values]
    if name == "experiment":
        return [EXPERIMENTS[value][0] for value in values]
    if head.endswith("(%)"):
        return [_number(100 * value, 0) for value in values]
    return [_cell(value, digits) for value in values]


def _cell(value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    return _number(value, 0 if pd.api.types.is_integer(value) else digits)


def _number(value: float, digits: int) -> str:
    if pd.isna(value):
        return MISSING
    return f"{value:.{digits if abs(value) < 10 else min(digits, 1)}f}"
