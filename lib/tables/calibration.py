"""The calibration of the verdict as a figure and as a block of docs/register.md: from its rows and from nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base import provenance
from lib.registration import trust

LIMITS = {"spine": (10.0, "TRE"), "heart": (20.0, "MME")}
SHOWN = (  # number, its limit, name
    ("likeness", "min_likeness", "likeness of the images"),
    ("shift", "max_shift", "shift along the body to the best likeness (mm)"),
    ("lead", "min_lead", "lead over any other place"),
    ("agreement", "min_agreement", "share of starts that agree"),
)
MEANING = {
    "min_overlap": "share of the CBCT inside the CT, at least",
    "min_agreement": "share of the starts that end at one place, at least",
    "max_wander": "reach of the last 20 steps, mm, at most",
    "min_margin": "margin of the action values at the end, at least",
    "min_likeness": "correlation of local contrast, at least",
    "max_shift": "shift along the body to the best likeness, mm, at most",
    "min_lead": "likeness less that of the best other place, at least",
}


def figure(rows: pd.DataFrame, calibration: trust.Calibration, experiment: str):
    """Error against each number; what is called good is blue; the limits are drawn."""
    import matplotlib.pyplot as plt

    from lib.study.register_calibrate import called_good

    limit, measure = LIMITS[experiment]
    good = called_good(rows, calibration.limits)
    picture, axes = plt.subplots(1, len(SHOWN), figsize=(11, 3.2), sharey=True)
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, len(rows))
    for ax, (number, name, label) in zip(axes, SHOWN, strict=True):
        width = {"shift": 2.5, "agreement": 0.06}.get(number, 0.0)  # these take few values
        for mask, colour, word in ((good, "C0", "called good"), (~good, "C1", "do not trust")):
            x = rows[number].to_numpy(float)[mask] + width * jitter[mask]
            ax.plot(x, rows["error_mm"][mask], "o", ms=3.5, alpha=0.7, color=colour, label=word)
        edges = [getattr(calibration.limits, name)] * (1 if name != "max_shift" else 2)
        for sign, edge in zip((1, -1), edges, strict=False):
            ax.axvline(sign * edge, color="0.4", lw=0.8, ls=":")
        ax.axhline(limit, color="0.4", lw=0.8)
        ax.set(xlabel=label, yscale="log")
    axes[0].set(ylabel=f"{measure} (mm)")
    axes[0].legend(fontsize=7)
    axes[-1].text(
        1.0, limit, f"{limit:.0f} mm", ha="right", va="bottom", fontsize=7, transform=axes[-1].get_yaxis_transform()
    )
    return picture


def markdown(rows: pd.DataFrame, c: trust.Calibration, experiment: str) -> str:
    """Counts and limits."""
    limit, measure = LIMITS[experiment]
    grown = rows["patient"].str.startswith("grown")
    lines = [
        f"**{'E1 spine' if experiment == 'spine' else 'E2 heart'}**: {rows['patient'].nunique()} patients "
        f"({rows['patient'][grown].nunique()} of them grown from real CTs), {len(rows)} registrations; right is "
        f"{measure} ≤ {limit:.0f} mm.",
        "",
        "| verdict | cases | right | wrong |",
        "|---|---|---|---|",
    ]
    n_good = round(c.n * c.called_good)
    for word, n, share in (("good", n_good, c.right_when_good), ("do not trust", c.n - n_good, c.right_when_not)):
        right = round(n * share) if n else 0
        lines.append(f"| {word} | {n} | {right}{f' ({share:.0%})' if n else ''} | {n - right} |")
    lines += [
        "",
        *_by_view(rows),
        "Each patient's cases are judged by limits found without them. The limits from all cases:",
        "",
    ]
    lines += ["| limit | |", "|---|---|"]
    values = dataclasses.asdict(c.limits)
    return "\n".join(lines + [f"| {text} | {values[name]:g} |" for name, text in MEANING.items()])


def _by_view(rows: pd.DataFrame) -> list[str]:
    """The same by how much of the field of view there was."""
    from lib.study.register_calibrate import left_out

    lines = ["| field of view | cases | right | called good | of these right |", "|---|---|---|---|---|"]
    for view, some in rows.assign(good=left_out(rows)).groupby("view", sort=False):
        lines.append(
            f"| {view} | {len(some)} | {some['right'].sum()} | {some['good'].sum()} | {some.loc[some['good'], 'right'].sum()} |"
        )
    return [*lines, ""]


def write(rows: pd.DataFrame, calibration: trust.Calibration, experiment: str, results: Path) -> None:
    """The figure into results/figures; `python -m lib tables documents` writes the numbers into docs/register.md."""
    import matplotlib.pyplot as plt

    stem = "trust_calibration" if experiment == "spine" else f"trust_calibration_{experiment}"
    path = results / "figures" / f"{stem}.png"
    picture = figure(rows, calibration, experiment)
    with provenance.atomic(path) as temporary:
        picture.savefig(temporary)
    plt.close(picture)
    provenance.record(path, inputs=[results / f"{stem}.csv"])
