"""Charts of numbers: success and errors by method. One colour and one name a method."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from lib import metrics

# name: (label, colour, line style). Okabe and Ito's colours, safe for colour-blind readers; with more methods
# than colours the line style tells apart. Ours are the thick ones.
METHODS = {
    "ground_truth": ("Ground truth (ICP)", "#000000", ":"),
    "initial": ("Initial position", "#999999", ":"),
    "itk": ("ITK, as published", "#56b4e9", "-"),
    "quasi_global": ("Quasi-global", "#009e73", "-"),
    "semantic": ("Semantic", "#cc79a7", "-"),
    "dsl": ("Agent (difference image)", "#d55e00", "-"),
    "dsl_coarse": ("Agent, coarse only", "#d55e00", "--"),
    "dsl_two_channel": ("Agent (two channels)", "#0072b2", "-"),
    "dsl_two_channel_coarse": ("Agent (two channels), coarse only", "#0072b2", "--"),
    "dsl_polish": ("Agent (difference image), then ITK", "#d55e00", "-."),
    "dsl_two_channel_polish": ("Agent (two channels), then ITK", "#0072b2", "-."),
    "human": ("Human", "#000000", "-"),
    "itk_tuned": ("ITK, tuned", "#56b4e9", "--"),
    "itk_search": ("ITK, searched starts", "#56b4e9", "-."),
    "elastix": ("elastix", "#e69f00", "-"),
    "ants": ("ANTs", "#b8a600", "-"),
    "ants_search": ("ANTs, searched starts", "#b8a600", "-."),
    "greedy": ("greedy", "#7a5195", "-"),
    "greedy_search": ("greedy -search", "#7a5195", "-."),
    "dqn": ("DRL (DQN)", "#56b4e9", "-"),
    "double_dqn": ("DRL (double DQN)", "#009e73", "--"),
}
PAPER_METHODS = ("ground_truth", "initial", "itk", "quasi_global", "semantic", "dsl", "human")
OURS = ("dsl", "dsl_two_channel")
EXPERIMENTS = {"spine": ("E1 spine", "TRE"), "heart": ("E2 heart", "MME")}
_SPARE = ("#332288", "#117733", "#882255", "#44aa99", "#aa4499", "#661100")


def label(method: str) -> str:
    """The name of a method as every figure and table shows it."""
    return METHODS[method][0] if method in METHODS else method.replace("_", " ")


def colour(method: str) -> str:
    """The colour of a method, the same in every figure."""
    return METHODS[method][1] if method in METHODS else _SPARE[sum(method.encode()) % len(_SPARE)]


def style(method: str) -> dict:
    """Keyword arguments for `Axes.plot`."""
    dash = METHODS[method][2] if method in METHODS else "--"
    return {"color": colour(method), "ls": dash, "lw": 2.6 if method in OURS else 1.4, "label": label(method)}


def order(methods) -> list[str]:
    """Methods in the order of the tables, unknown ones last."""
    known = list(METHODS)
    return sorted(set(methods), key=lambda m: (known.index(m) if m in known else len(known), m))


def new_figure(rows: int = 1, columns: int = 1, widths=None, height: float = 3.0):
    """(figure, axes[row][column]). widths: width over height of each column. Shown once in a notebook."""
    import matplotlib.pyplot as plt

    from lib.plots_figure import ShownOnce, in_notebook

    widths = widths or [1.45] * columns
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(height * sum(widths), (height + 0.25) * rows),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"width_ratios": widths},
        FigureClass=ShownOnce,
    )
    if not in_notebook():
        plt.close(fig)  # pyplot would keep it for ever
    return fig, axes


def save(fig, path, provenance=None) -> Path:
    """Write a PNG (150 dpi) to a temporary name, then rename; its provenance JSON goes beside it.

    provenance: keyword arguments of `lib.provenance.record` (`cfg`, `seeds`, `inputs` ...), a function of the
    path that writes it, or None for none.
    """
    from lib import provenance as record

    path = Path(path)
    with record.atomic(path) as temporary:
        fig.savefig(temporary, dpi=150, format="png", metadata={"Software": None})
    if callable(provenance):
        provenance(path)
    elif provenance is not None:
        record.record(path, **provenance)
    return path


def fig4(
    curves, title: str = "Success against training steps (the paper's Figure 4)", n_cases: int | None = None
):
    """Success rate against training steps, mean over seeds, shaded from the worst to the best seed.

    curves: DataFrame with the columns method, seed, step, success (0..1)."""
    fig, axes = new_figure(1, 1, widths=[1.6], height=3.4)
    ax = axes[0][0]
    for method in order(curves["method"]):
        some = curves[curves["method"] == method]
        group = some.groupby("step")["success"]
        mean, low, high = group.mean(), group.min(), group.max()
        seeds = some["seed"].nunique()
        name = {"dsl": "DSL", "dqn": "DRL (DQN)", "double_dqn": "DRL (double DQN)"}.get(method, label(method))
        look = {**style(method), "lw": 2.0, "label": f"{name}, {seeds} seed{'s' if seeds != 1 else ''}"}
        ax.plot(mean.index, 100 * mean, marker="o", ms=3, **look)
        ax.fill_between(low.index, 100 * low, 100 * high, color=look["color"], alpha=0.2, lw=0)
    ax.set(
        xlabel="training steps",
        ylabel="success (%)" + (f" on {n_cases} cases" if n_cases else ""),
        ylim=(-2, 102),
    )
    ax.legend(fontsize=8, frameon=False)
    ax.set_title(title, fontsize=9)
    return fig


def _per_experiment(rows, height=3.6, skip=("initial", "ground_truth")):
    """A panel for each experiment in the rows: (figure, [(axes, experiment, its rows)])."""
    found = [e for e in EXPERIMENTS if (rows["experiment"] == e).any()]
    fig, axes = new_figure(1, max(1, len(found)), height=height)
    kept = rows[~rows["method"].isin(skip)]
    return fig, [(ax, e, kept[kept["experiment"] == e]) for ax, e in zip(axes[0], found, strict=False)]


def _legend(fig):
    """One legend below all panels."""
    seen = {}
    for ax in fig.axes:
        seen.update(dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True)))
    fig.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=4, fontsize=7, frameon=False)


def capture_range(rows, bins: int = 5, title: str = "", n: int = 200):
    """Success against the initial error, a line a method: share of successes in `bins` groups of equally
    many starts (the same groups for all methods), bars: 95 % interval clustered by patient. Left the paper's
    methods, right today's, our agents in both."""
    found = [e for e in EXPERIMENTS if (rows["experiment"] == e).any()]
    fig, axes = new_figure(max(1, len(found)), 2, height=3.1)
    for line, experiment in zip(axes, found, strict=False):
        some = rows[(rows["experiment"] == experiment) & ~rows["method"].isin(["initial", "ground_truth"])]
        some = some[~some["method"].str.endswith("_coarse")]
        theirs = some["method"].isin(PAPER_METHODS)
        name, measure = EXPERIMENTS[experiment]
        for ax, kept, group in ((line[0], theirs, "the paper's methods"), (line[1], ~theirs, "today's")):
            _capture_lines(ax, some[kept | some["method"].isin(OURS)], some, bins, n)
            ax.set(xlabel=f"initial {measure} (mm)", ylabel="success (%)", ylim=(-3, 103))
            limit = metrics.SUCCESS_MM[experiment]
            ax.set_title(f"{name}, {group}: {measure} within {limit:.0f} mm", fontsize=9)
    fig.suptitle(title, fontsize=9)
    _legend(fig)
    return fig


def _capture_lines(ax, some, everyone, bins: int, n: int):
    """Success in groups of the initial error; the groups are those of `everyone`."""
    if everyone.empty:
        return
    edges = np.quantile(everyone["initial_error_mm"], np.linspace(0, 1, bins + 1))
    edges[-1] += 1e-6
    methods = order(some["method"])
    for i, method in enumerate(methods):
        mine, points = some[some["method"] == method], []
        for low, high in pairwise(edges):
            part = mine[(mine["initial_error_mm"] >= low) & (mine["initial_error_mm"] < high)]
            if len(part):
                ci = metrics.success_interval(part["success"], part["case"], n=n)
                points.append((part["initial_error_mm"].mean(), part["success"].mean(), *ci))
        if points:
            x, y, low, high = np.array(points).T
            x = x + (i - len(methods) / 2) * 0.007 * (edges[-1] - edges[0])  # bars of methods side by side
            ax.plot(x, 100 * y, marker="o", ms=3.5, **style(method))
            ax.vlines(x, 100 * low, 100 * high, color=colour(method), lw=0.8, alpha=0.5)


def error_curves(rows, title: str = ""):
    """Share of *all* cases whose final error is at most x mm, a line a method; the limit of success is
    marked."""
    fig, panels = _per_experiment(rows, skip=())
    for ax, experiment, some in panels:
        for method in order(some["method"]):
            errors = np.sort(some.loc[some["method"] == method, "final_error_mm"])
            share = 100 * np.arange(1, len(errors) + 1) / len(errors)
            ax.step(np.r_[0.1, errors, 400], np.r_[0, share, 100], where="post", **style(method))
        limit = metrics.SUCCESS_MM[experiment]
        ax.axvline(limit, color="#555555", lw=0.8)
        ax.text(limit * 1.04, 2, f"{limit:.0f} mm", fontsize=7, color="#555555")
        ax.set(
            xscale="log",
            xlim=(0.5, 250),
            ylim=(0, 101),
            xlabel=f"final {EXPERIMENTS[experiment][1]} (mm)",
            ylabel="cases (%)",
        )
        ax.set_title(EXPERIMENTS[experiment][0], fontsize=9)
    fig.suptitle(title, fontsize=9)
    _legend(fig)
    return fig


def success_bars(table, title: str = ""):
    """Success by method with its 95 % interval (bars) and the paper's number (diamonds). table: rows of
    table1.csv or table1_today.csv of one data set an experiment."""
    found = [e for e in EXPERIMENTS if (table["experiment"] == e).any()]
    fig, axes = new_figure(1, max(1, len(found)), height=3.4)
    for ax, experiment in zip(axes[0], found, strict=False):
        some = table[(table["experiment"] == experiment) & ~table["method"].isin(["initial", "ground_truth"])]
        some = some.reset_index(drop=True)
        tints = [colour(m) for m in some["method"]]
        value = 100 * some["success"].astype(float)
        ax.barh(some.index, value.fillna(0), color=tints, height=0.65)
        ax.hlines(some.index, 100 * some["success_low"], 100 * some["success_high"], color="#222222", lw=1.2)
        ax.plot(100 * some["paper_success"], some.index, "D", mfc="white", mec="#222222", ms=6, label="paper")
        for y, (v, method) in enumerate(zip(value, some["method"], strict=True)):
            if np.isnan(v):
                words = "not measured" if method == "human" else "not run"
                ax.text(1, y, words, va="center", fontsize=7, color="#777777")
        ax.set_yticks(some.index, [label(m) for m in some["method"]], fontsize=8)
        ax.set(xlim=(0, 102), xlabel="success (%)", ylim=(len(some) - 0.4, -0.6))
        ax.set_title(EXPERIMENTS[experiment][0], fontsize=9)
        ax.legend(fontsize=7, frameon=False, loc="lower right")
    fig.suptitle(title, fontsize=9)
    return fig
