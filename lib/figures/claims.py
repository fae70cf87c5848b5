"""Figures of the claims, from the tables in the results folder and nothing else: `fig4.png`, `ablations.png`, `eq5.png`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.figures import charts

SHARED, BETWEEN = "#0072b2", "#e69f00"
BETTER, WORSE, OPEN = "#009e73", "#d55e00", "#777777"  # Okabe and Ito's, as everywhere
LONG = "fig4_long.csv"  # Figure 4 over the paper's number of steps, in place of notebook 09's where it can be compared
REFERENCE = "reference"  # the variant with nothing changed


def write(folder, cfg, known=(), future=(), long=()) -> list[Path]:
    """Draw what there are tables for, into `folder`/figures; returns the files. known: names of the variants; future: of
    those that are the authors' future work; long: the points of Figure 4 where some of them are those of `LONG`."""
    folder, made = Path(folder), []
    for name, draw in (("fig4", charts.fig4), ("ablations", partial(ablations, known=known, future=future))):
        source = folder / f"{name}.csv"
        table = pd.read_csv(source) if source.exists() else pd.DataFrame()
        sources = [source]
        if name == "fig4" and len(long):
            table, sources = long, [source, folder / LONG]
        if len(table):
            path = folder / "figures" / f"{name}.png"
            record = {"cfg": cfg, "inputs": [path for path in sources if path.exists()]}
            made.append(_saved(draw(table), path, record))
    theory = folder / "theory.json"
    found = json.loads(theory.read_text(encoding="utf-8")).get("eq5") if theory.exists() else None
    if found:
        record = {"cfg": cfg, "inputs": [theory]}
        made.append(_saved(eq5(found), folder / "figures" / "eq5.png", record))
    return made


def _saved(figure, path: Path, record: dict) -> Path:
    """Saved and closed: a notebook shows it where it speaks of it."""
    import matplotlib.pyplot as plt

    charts.save(figure, path, record)
    plt.close(figure)
    return path


def eq5(found: dict):
    """What Eq. 5 weighs, a pair of bars a problem: the variance of Q that all actions of a state share, and that between
    them; above each pair, how many times as large the first is. found: problem -> `shared`, `between`."""
    fig, axes = charts.new_figure(1, 1, widths=[2.0], height=2.6)
    ax, places = axes[0][0], np.arange(len(found))
    for side, name, colour, words in (
        (-0.2, "shared", SHARED, "shared by all actions: how far?"),
        (0.2, "between", BETWEEN, "between the actions: which way?"),
    ):
        ax.bar(places + side, [one[name] for one in found.values()], 0.38, color=colour, label=words)
    for x, one in zip(places, found.values(), strict=True):
        ax.text(x, max(one.values()) + 0.04, f"{one['shared'] / one['between']:.1f} times", ha="center", fontsize=8)
    ax.set_xticks(places, list(found))
    ax.set(ylabel="variance of Q")
    ax.margins(y=0.12)
    ax.legend(fontsize=8, frameon=False)
    ax.set_title("Eq. 5 counts both alike; only the second tells which action to take", fontsize=9)
    return fig


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
    n = f"{table['n'].iloc[0]} starts, " if "n" in table else ""
    ax.set_title(
        f"One thing changed at a time; bold: the authors' future work. {n}one training each;\nline: 95 % interval over "
        "patients, other trainings not in it (green and orange: it leaves out 0, which may be chance)",
        fontsize=8,
    )
    return fig
