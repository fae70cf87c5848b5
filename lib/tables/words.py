"""What every table and verdict says in words: Markdown tables, numbers, and the markers between which they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from lib.base.errors import UserError


def table(head: Sequence[str], lines: Iterable[Iterable]) -> str:
    """A Markdown table. Raises ValueError for a line that has not as many cells as the head."""
    rows = [[str(cell) for cell in line] for line in lines]
    if any(len(row) != len(head) for row in rows):
        raise ValueError("a line of the table has not as many cells as its head")
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows)]
    )


def number(value, digits: int = 1, scale: float = 1.0) -> str:
    """A number with so many digits; nothing where there is none."""
    return "" if value is None or pd.isna(value) else f"{scale * value:.{digits}f}"


def percent(share: float) -> str:
    """0.123 -> 12 %."""
    return f"{100 * share:.0f} %"


def inject(text: str, name: str, block: str) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced. Raises UserError without them."""
    before, _, after = _parts(text, name)
    return f"{before}\n\n{block}\n\n{after}"


def extract(text: str, name: str) -> str:
    """What stands between the markers of `name`. Raises UserError without them."""
    return _parts(text, name)[1].strip()


def _parts(text: str, name: str) -> tuple[str, str, str]:
    """What stands before, between and after; the markers stay with what is around them."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise UserError(
            f"The markers {start} and {end} are missing, or not there once; put them where the table belongs."
        )
    before, rest = text.split(start)
    between, after = rest.split(end)
    return before + start, between, end + after
