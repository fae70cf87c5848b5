"""Figures of the claims, from the tables in the results folder and nothing else: `fig4.png`, `ablations.png`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.figures import charts

BETTER, WORSE, OPEN = "#009e73", "#d55e00", "#777777"  # Okabe and Ito's, as everywhere
REFERENCE = "reference"  # the variant with nothing changed


def write(folder, cfg, known=(), future=()) -> list[Path]:
    """Draw what there are tables for, into `folder`/figures; returns the files. known: names of the variants; future: of
    those that are the authors' future work."""
    folder, made = Path(folder), []
    for name, draw in (("fig4", charts.fig4), ("ablations", partial(ablations, known=known, future=future))):
        source = folder / f"{name}.csv"
        table = pd.read_csv(source) if source.exists() else pd.DataFrame()
        if len(table):
            path = folder / "figures" / f"{name}.png"
            record = {"cfg": cfg, "inputs": [source]}
            made.append(charts.save(draw(table), path, record))
    return made


def ablations(table: pd.DataFrame, known, future=()):
    """Success of every variant minus its reference's, in points, same cases, with the 95 % interval.

    Green: surely better, red: surely worse. In brackets the success itself."""
    some = table[table["variant"].isin(list(known)) & table["difference"].notna()]
    some = some.sort_values("difference").reset_index(drop=True)
    fig, axes = charts.new_figure(1, 1, widths=[2.6], height=max(2.0, 0.24 * len(some) + 0.8))
    ax = axes[0][0]
    for y, row in some.iterrows():
        low, value, high = (100 * row[c] for c in ("difference_low", "difference", "difference_high"))
        tint = BETTER if low > 0 else WORSE if high < 0 else OPEN
        ax.hlines(y, low, high, color=tint, lw=1.6)
        ax.plot(value, y, "o", color=tint, ms=5)
    names = [f"{row.what} ({100 * row.success:.0f} %)" for row in some.itertuples()]
    ax.set_yticks(np.arange(len(some)), names, fontsize=7.5)
    for tick, name in zip(ax.get_yticklabels(), some["variant"], strict=True):
        tick.set_fontweight("bold" if name in future else "normal")
    ax.axvline(0, color="#333333", lw=0.8)
    reference = table[table["variant"] == REFERENCE]
    base = f" ({100 * reference['success'].iloc[0]:.0f} %)" if len(reference) else ""
    ax.set(xlabel=f"success minus the reference's{base}, points", ylim=(-0.6, len(some) - 0.4))
    ax.set_title("One thing changed at a time; bold: the authors' future work", fontsize=9)
    return fig
