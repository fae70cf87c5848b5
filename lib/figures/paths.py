"""Charts of one agent: the path it walks, the curves of its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.figures.charts import new_figure

PARAMETERS = ("tx", "ty", "tz", "rx", "ry", "rz")
_PARAMETER_COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7")


def trajectories(states, title: str = "", switch: int | None = None):
    """The six parameters of the state along paths, and D. states: (steps + 1, 6) or (paths, steps + 1, 6), mm
    and degrees, zero at the truth; `switch`: the step at which the fine network takes over."""
    states = np.asarray(states, dtype=np.float64)
    states = states[None] if states.ndim == 2 else states
    fig, axes = new_figure(1, 3, height=2.8)
    for i, (name, tint) in enumerate(zip(PARAMETERS, _PARAMETER_COLOURS, strict=True)):
        for j, path in enumerate(states):
            axes[0][i // 3].plot(path[:, i], color=tint, lw=1.2, alpha=0.85, label=name if j == 0 else None)
    for path in states:
        axes[0][2].plot(np.linalg.norm(path, axis=1), color="#333333", lw=1.2, alpha=0.8)
    names = (("translation to go (mm)", True), ("rotation to go (degrees)", True), ("distance D", False))
    for ax, (name, legend) in zip(axes[0], names, strict=True):
        ax.set(xlabel="step", ylabel=name)
        ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
        if switch:
            ax.axvline(switch, color="#888888", ls="--", lw=1)
            ax.annotate(
                "fine",
                (switch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -9),
                textcoords="offset points",
                fontsize=7,
                color="#555555",
            )
        if legend:
            ax.legend(fontsize=7, ncols=3, frameon=False)
    fig.suptitle(title, fontsize=9)
    return fig


def walk(params, margins, title: str = ""):
    """One registration without the truth: the pose's six parameters (steps + 1, 6; mm and degrees, zero at the start) and
    the action-value margin of each step (steps,), in standard deviations."""
    fig, axes = new_figure(1, 2, widths=[2.2, 2.2], height=2.8)
    for name, tint, values in zip(PARAMETERS, _PARAMETER_COLOURS, np.asarray(params).T, strict=True):
        dash = "-" if name[0] == "t" else "--"
        axes[0][0].plot(values, color=tint, ls=dash, lw=1.4, label=f"{name} ({'mm' if dash == '-' else '°'})")
    axes[0][0].set(xlabel="step", ylabel="mm (solid), degrees (dashed)", title="the CT's parameters, from its start")
    axes[0][0].legend(fontsize=7, ncols=2, frameon=False)
    axes[0][1].plot(margins, color="#333333", lw=1.2)
    axes[0][1].set(xlabel="step", ylabel="margin (standard deviations)", title="how clearly it preferred its action")
    fig.suptitle(title, fontsize=9)
    return fig


def learning_curves(logs, title: str = ""):
    """Loss and agreement against samples; in training what all actions share may count less than in Eq. 5.

    logs: name -> CSV path or DataFrame with the columns
    step, samples, loss, val_loss, val_agreement, seconds."""
    import pandas as pd

    fig, axes = new_figure(1, 2, height=3.0)
    for i, (name, log) in enumerate(logs.items()):
        table = pd.read_csv(log) if isinstance(log, str | Path) else log
        tint = _PARAMETER_COLOURS[i % 6]
        axes[0][0].plot(table["samples"], table["loss"], color=tint, lw=0.9, alpha=0.6, label=f"{name}: training")
        for ax, column in ((axes[0][0], "val_loss"), (axes[0][1], "val_agreement")):
            some = table.dropna(subset=[column])
            ax.plot(some["samples"], some[column], "o-", color=tint, lw=1.6, ms=2.5, label=f"{name}: validation")
    axes[0][0].set(
        xlabel="training samples",
        ylabel="mean square (training: as it is weighted;\nvalidation: Eq. 5 as printed)",
        yscale="log",
    )
    axes[0][1].set(xlabel="training samples", ylabel="agreement with the greedy action", ylim=(0, 1))
    axes[0][1].axhline(1 / 12, color="#999999", ls=":", lw=1)
    axes[0][1].text(
        0.99,
        1 / 12 + 0.01,
        "chance",
        transform=axes[0][1].get_yaxis_transform(),
        ha="right",
        fontsize=7,
        color="#777777",
    )
    for ax in axes[0]:
        ax.legend(fontsize=7, frameon=False)
    fig.suptitle(title, fontsize=9)
    return fig
