"""Figures of studies, from their tables and rows: the learning curve, what lies beyond the training range, the verdict."""

from __future__ import annotations

import numpy as np

from lib import metrics
from lib.figures import charts

TITLES = {
    "virtual": "unseen simulated patients",
    "near": "real scans, ±30 mm and ±15°",
    "full": "real scans, the paper's range",
}
VERDICTS = {"good": "#0072b2", "do not trust": "#d55e00"}
NUMBERS = (  # behind a verdict: number, its limit, name
    ("likeness", "min_likeness", "likeness of the images"),
    ("shift", "max_shift", "shift along the body to the best likeness (mm)"),
    ("lead", "min_lead", "lead over any other place"),
    ("agreement", "min_agreement", "share of starts that agree"),
)


def learning_curve(curve):
    """Success against samples (logarithmic), a panel a set of cases; shaded: the 95 % interval."""
    reaches = [reach for reach in TITLES if reach in set(curve["range"])]
    fig, axes = charts.new_figure(1, len(reaches), widths=[1.2] * len(reaches), height=3.0)
    for ax, reach in zip(axes[0], reaches, strict=True):
        for agent in charts.order(set(curve["agent"])):
            some = curve[(curve["range"] == reach) & (curve["agent"] == agent)].sort_values("samples")
            look = charts.style(agent)
            ax.plot(some["samples"], 100 * some["success"], marker="o", ms=4, **look)
            low, high = 100 * some["success_low"], 100 * some["success_high"]
            ax.fill_between(some["samples"], low, high, color=look["color"], alpha=0.15, lw=0)
        ax.set(xscale="log", xlabel="training samples", ylim=(-2, 102), title=TITLES[reach])
        ax.title.set_fontsize(9)
    axes[0][0].set_ylabel("within 10 mm, coarse network alone (%)", fontsize=8)
    axes[0][-1].legend(fontsize=7.5, frameon=False)
    return fig


def beyond_training(rows, labels: dict[str, str], title: str):
    """Final errors of the command under each condition (its name -> words), coloured by the verdict, with the share within
    10 mm and of wrong ones called good."""
    import matplotlib.pyplot as plt

    shown = [c for c in labels if c in set(rows["condition"])]
    fig, axis = plt.subplots(figsize=(9.5, 0.55 * len(shown) + 1.6))
    rng = np.random.default_rng(0)
    for place, name in enumerate(shown):
        mine = rows[rows["condition"] == name]
        for verdict, some in mine.groupby("verdict"):
            spread = place + rng.uniform(-0.25, 0.25, len(some))
            axis.scatter(some["final_error_mm"].clip(lower=0.3), spread, s=18, color=VERDICTS[verdict])
        right = mine["final_error_mm"] <= 10
        low, high = metrics.success_interval(right, mine["dataset"])
        wrong = int((~right & (mine["verdict"] == "good")).sum())
        text = f"{right.mean():.0%} [{low:.0%}, {high:.0%}] of {len(mine)} within 10 mm; wrong but called good: {wrong}"
        axis.text(1.01, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(range(len(shown)), [labels[c] for c in shown])
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="final TRE (mm)", title=title)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(10, color="#666666", linewidth=0.8)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=c, label=v) for v, c in VERDICTS.items()]
    axis.legend(handles=handles, title="verdict", loc="lower left", fontsize=8, title_fontsize=8)
    return fig


def calibration(rows, good, limits, limit_mm: float, measure: str):
    """Error against each number behind the verdict; what is called good is blue; the limits are drawn."""
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(1, len(NUMBERS), figsize=(11, 3.2), sharey=True)
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, len(rows))
    for ax, (number, name, label) in zip(axes, NUMBERS, strict=True):
        width = {"shift": 2.5, "agreement": 0.06}.get(number, 0.0)  # these take few values
        for mask, colour, word in ((good, "C0", "called good"), (~good, "C1", "do not trust")):
            x = rows[number].to_numpy(float)[mask] + width * jitter[mask]
            ax.plot(x, rows["final_error_mm"][mask], "o", ms=3.5, alpha=0.7, color=colour, label=word)
        edges = [getattr(limits, name)] * (1 if name != "max_shift" else 2)
        for sign, edge in zip((1, -1), edges, strict=False):
            ax.axvline(sign * edge, color="0.4", lw=0.8, ls=":")
        ax.axhline(limit_mm, color="0.4", lw=0.8)
        ax.set(xlabel=label, yscale="log")
    axes[0].set(ylabel=f"{measure} (mm)")
    axes[0].legend(fontsize=7)
    words = {"ha": "right", "va": "bottom", "fontsize": 7, "transform": axes[-1].get_yaxis_transform()}
    axes[-1].text(1.0, limit_mm, f"{limit_mm:.0f} mm", **words)
    return picture
