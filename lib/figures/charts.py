"""Charts of numbers: success and errors by method. One colour and one name a method."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import metrics
from lib.baselines.methods import METHODS, OURS, PAPER_METHODS, competes, label, order

EXPERIMENTS = {"spine": ("E1 spine", "TRE"), "heart": ("E2 heart", "MME")}
FIG4 = {"": "difference image, as the paper", "_two_channel": "both images"}  # its panels
ALONE = "_moved_alone"  # its control
_SPARE = ("#332288", "#117733", "#882255", "#44aa99", "#aa4499", "#661100")


def colour(method: str) -> str:
    """The colour of a method, the same in every figure."""
    return METHODS[method].colour if method in METHODS else _SPARE[sum(method.encode()) % len(_SPARE)]


def style(method: str) -> dict:
    """Keyword arguments for `Axes.plot`."""
    dash = METHODS[method].dash if method in METHODS else "--"
    return {"color": colour(method), "ls": dash, "lw": 2.6 if method in OURS else 1.4, "label": label(method)}


def new_figure(rows: int = 1, columns: int = 1, widths=None, height: float = 3.0):
    """(figure, axes[row][column]). widths: width over height of each column. Shown once in a notebook."""
    import matplotlib.pyplot as plt

    from lib.figures.figure import ShownOnce, in_notebook

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


def save(fig, path, provenance=None, dpi: int = 150) -> Path:
    """Write a PNG to a temporary name, then rename; its provenance JSON goes beside it.

    provenance: keyword arguments of `lib.base.provenance.record` (`cfg`, `seeds`, `inputs` ...), a function of the
    path that writes it, or None for none.
    """
    from lib.base import provenance as record

    path = Path(path)
    with record.atomic(path) as temporary:
        fig.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})
    if callable(provenance):
        provenance(path)
    elif provenance is not None:
        record.record(path, **provenance)
    return path


def fig4(curves, title: str = ""):
    """Success against training steps (the paper's Figure 4): the paper's input, and both images, side by side; a row a
    size of the images where there are several. Mean over seeds, shaded from the worst to the best.

    curves: DataFrame with the columns method, seed, step, success (0..1) and perhaps window (pixels); `_two_channel` ends
    the names of both images, `_moved_alone` that of the control, which is drawn beside each.
    """
    sizes = sorted(curves["window"].unique()) if "window" in curves else [None]
    ends = [end for end in FIG4 if curves["method"].map(lambda name, end=end: _ending(name) == end).any()]
    fig, axes = new_figure(len(sizes), len(ends), widths=[1.5] * len(ends), height=3.2)
    for line, size in zip(axes, sizes, strict=True):
        some = curves if size is None else curves[curves["window"] == size]
        for ax, end in zip(line, ends, strict=True):
            mine = some[some["method"].map(lambda name, end=end: _ending(name) in (end, ALONE))]
            mine = mine.assign(method=mine["method"].str.removesuffix("_two_channel"))
            _fig4_panel(ax, mine, FIG4[end] + (f", {size} pixels" if size else ""))
    if title:
        fig.suptitle(title, fontsize=9)
    return fig


def _ending(curve: str) -> str:
    """What ends a curve's name: "", `_two_channel` or `_moved_alone`."""
    return next((end for end in ("_two_channel", ALONE) if curve.endswith(end)), "")


def _fig4_panel(ax, curves, title: str) -> None:
    for method in order(curves["method"]):
        some = curves[curves["method"] == method]
        group = some.groupby("step")["success"]
        mean, low, high = group.mean(), group.min(), group.max()
        seeds = some["seed"].nunique()
        name = {"dsl": "DSL", f"dsl{ALONE}": "DSL, the moved image alone"}.get(method, label(method))
        look = {**style(method), "lw": 2.0, "label": f"{name}, {seeds} seed{'s' if seeds != 1 else ''}"}
        ax.plot(mean.index, 100 * mean, marker="o", ms=3, **look)
        ax.fill_between(low.index, 100 * low, 100 * high, color=look["color"], alpha=0.2, lw=0)
    ax.set(xlabel="training steps", ylabel="success (%)", ylim=(-2, 102))
    ax.legend(fontsize=8, frameon=False)
    ax.set_title(title, fontsize=9)


def capture_range(rows, experiment: str, bins: int = 5, title: str = "", columns: int = 5):
    """Success against the initial error, a panel a method, all others in grey behind it.

    Points: share of successes in `bins` groups of equally many starts, the same groups for all methods; shaded:
    95 % interval clustered by patient. Dashed: the largest initial error up to which 95 % of all starts succeed.
    None without rows of the experiment.
    """
    some = rows[(rows["experiment"] == experiment) & rows["method"].map(competes)]
    if some.empty:
        return None
    methods = order(some["method"])
    edges = np.quantile(some["initial_error_mm"], np.linspace(0, 1, bins + 1))
    lines = {m: _binned(some[some["method"] == m], edges) for m in methods}
    columns, usual = min(columns, len(methods)), some["method"].value_counts().max()
    fig, axes = new_figure(-(-len(methods) // columns), columns, widths=[1.2] * columns, height=1.7)
    flat, (name, measure) = [ax for line in axes for ax in line], EXPERIMENTS[experiment]
    for i, (ax, method) in enumerate(zip(flat, methods, strict=False)):
        _capture_panel(ax, method, lines, some[some["method"] == method], usual)
        ax.set(xlim=(0, 1.02 * edges[-1]), ylim=(-3, 104))
        ax.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= len(methods), labelsize=7)
    for ax in flat[len(methods) :]:
        ax.set_axis_off()
    limit = metrics.SUCCESS_MM[experiment]
    fig.supxlabel(f"{measure} at the start (mm)", fontsize=9)
    fig.supylabel(f"success (%): {measure} within {limit:.0f} mm at the end", fontsize=9)
    note = (
        f"{usual} starts a method; shaded: 95 % interval over patients; dashed: 95 % of all starts up to there succeed"
    )
    fig.suptitle(f"{name}. {title + '; ' if title else ''}{note}", fontsize=9)
    return fig


def _binned(mine, edges) -> np.ndarray:
    """(groups, 4): mean initial error, success and its interval in the groups between the edges."""
    group = np.clip(np.searchsorted(edges, mine["initial_error_mm"], side="right") - 1, 0, len(edges) - 2)
    points = []
    for k in sorted(set(group.tolist())):
        part = mine[group == k]
        interval = metrics.success_interval(part["success"], part["case"])
        points.append((part["initial_error_mm"].mean(), part["success"].mean(), *interval))
    return np.array(points)


def _capture_panel(ax, method: str, lines: dict, mine, usual: int):
    """One method's curve over everyone else's, and where its capture range ends. usual: starts of most methods."""
    for other, line in lines.items():
        if other != method:
            ax.plot(line[:, 0], 100 * line[:, 1], color="#d0d0d0", lw=0.8, zorder=1)
    x, rate, low, high = lines[method].T
    ax.fill_between(x, 100 * low, 100 * high, color=colour(method), alpha=0.2, lw=0)
    ax.plot(x, 100 * rate, "o-", color=colour(method), ms=3, lw=2.0, clip_on=False)
    reach, whole = metrics.capture_range(mine["initial_error_mm"], mine["success"])
    if reach:
        ax.axvline(reach, color="#333333", ls="--", lw=0.9)
    words = f"95 % up to {reach:.0f} mm{', the farthest' if whole else ''}" if reach else "95 % nowhere"
    fewer = f"; {len(mine)} starts" if len(mine) < usual else ""
    ax.set_title(f"{label(method)}\n{words}{fewer}", fontsize=7)


def error_curves(rows, title: str = ""):
    """Share of *all* cases whose final error is at most x mm, a line a method; the limit of success is marked.

    Left the paper's methods, right today's, our agents in both; a legend beside each, the best on top.
    """
    found = [e for e in EXPERIMENTS if (rows["experiment"] == e).any()]
    fig, axes = new_figure(max(1, len(found)), 2, widths=[1.9, 1.9], height=2.9)
    for line, experiment in zip(axes, found, strict=False):
        some = rows[rows["experiment"] == experiment]
        theirs = [m for m in order(some["method"]) if m in PAPER_METHODS or m in OURS]
        today = [m for m in order(some["method"]) if competes(m) and (m not in PAPER_METHODS or m in OURS)]
        for ax, methods, group in ((line[0], theirs, "the paper's methods"), (line[1], today, "today's")):
            _error_panel(ax, some, methods, experiment)
            ax.set_title(f"{EXPERIMENTS[experiment][0]}, {group}", fontsize=9)
    fig.suptitle(title, fontsize=9)
    return fig


def _error_panel(ax, some, methods, experiment: str):
    """Cumulative errors of some methods of one experiment."""
    limit, rates = metrics.SUCCESS_MM[experiment], {}
    for method in methods:
        errors = np.sort(some.loc[some["method"] == method, "final_error_mm"])
        share = 100 * np.arange(1, len(errors) + 1) / len(errors)
        (line,) = ax.step(np.r_[0.1, errors, 400], np.r_[0, share, 100], where="post", **style(method))
        rates[line] = 100 * (errors <= limit).mean()
    ax.axvline(limit, color="#555555", lw=0.8)
    ax.text(limit * 1.04, 2, f"{limit:.0f} mm", fontsize=7, color="#555555")
    measure = EXPERIMENTS[experiment][1]
    ax.set(xscale="log", xlim=(0.2, 250), ylim=(0, 101), xlabel=f"final {measure} (mm)", ylabel="cases (%)")
    ax.set_xticks([0.3, 1, 3, 10, 30, 100], ["0.3", "1", "3", "10", "30", "100"])
    ax.minorticks_off()
    best = sorted(rates, key=rates.get, reverse=True)
    names = [f"{rates[line]:.0f} %  {line.get_label()}" for line in best]
    ax.legend(best, names, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)


def _names(table) -> list[str]:
    """Names of the methods of a table, with the number of cases where it is not that of most."""
    usual = table["n"].max()
    return [
        label(method) + (f" ({n})" if 0 < n < usual else "")
        for method, n in zip(table["method"], table["n"], strict=True)
    ]


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
        ax.plot(100 * some["paper_success"], some.index, "D", mfc="white", mec="#222222", ms=6)
        for y, (v, method) in enumerate(zip(value, some["method"], strict=True)):
            if np.isnan(v):
                words = "not measured" if method == "human" else "not run"
                ax.text(1, y, words, va="center", fontsize=7, color="#777777")
        ax.set_yticks(some.index, _names(some), fontsize=8)
        ax.set(xlim=(0, 102), xlabel="success (%)", ylim=(len(some) - 0.4, -0.6))
        ax.set_title(f"{EXPERIMENTS[experiment][0]}, {some['n'].max()} starts; diamonds: the paper", fontsize=9)
    fig.suptitle(title, fontsize=9)
    return fig
