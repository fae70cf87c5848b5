"""More samples: success of the coarse network alone against the number of samples that it was trained with.

`python -m lib.study.learning_curve AGENT SAMPLES ...` trains a network for each number that has none yet (split 0, drawn
patients, everything else as the profile's), walks with it on the split's test cases and on the real scans here (none of
which trained it), and writes `learning_curve_cases.csv`, the table `learning_curve.csv` and the figure. A network of
`make reproduce` is used where the number is the profile's own. Lines of other machines stay. Nothing is chosen from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

import pandas as pd

from lib import cases as case_rows
from lib import metrics, network, train
from lib.agent import Agent
from lib.base import provenance
from lib.base.errors import UserError, status
from lib.figures import charts
from lib.study import config, pairs, populations, walk
from lib.study import transfer as transfer_eval

VIRTUAL = "virtual"  # the test cases of split 0; the real scans' ranges are `near` and `full`
NAME = "learning_curve"
TABLE = ("experiment", "range", "agent", "samples", "n", "success", "success_low", "success_high", "p10", "p50", "p90")
TITLES = {
    VIRTUAL: "unseen simulated patients",
    "near": "real scans, ±30 mm and ±15°",
    "full": "real scans, the paper's range",
}


def folder(cfg, agent: str, samples: int):
    """Where the network of one point is."""
    if samples == cfg.training.samples:
        return config.agents_dir(cfg)
    return config.run_dir(cfg) / "curve" / f"{agent}_{samples}"


def point(cfg, agent: str, samples: int, say=print) -> pd.DataFrame:
    """Train (where it is missing) and walk: rows with the columns `samples` and `range` before those of a case row."""
    sides = pairs.split_folders(cfg)
    data = [pairs.load_pairs(pairs.prepare_pairs(sides[s], "coarse", cfg.stream)) for s in ("train", "validation")]
    settings, where = dataclasses.replace(cfg.training, samples=samples), folder(cfg, agent, samples)
    train.train(train.Lesson(cfg.stream, settings, cfg.experiment, "coarse", agent), *data, where, say=say)
    walker = Agent(agent, Agent.load(where, agent).coarse)
    scans = populations.held_out(cfg.transfer, cfg.experiment, "reproduce")
    tried = {VIRTUAL: walk.cases_of(cfg)}
    tried |= {reach: transfer_eval.real_cases(cfg, scans, reach) for reach in transfer_eval.RANGES}
    parts = []
    for reach, cases in tried.items():
        walks = walk.walk(cfg, walker, cases) if cases else []
        device = str(network.device_for())
        rows = [
            case_rows.row(c, f"{agent}_coarse", case_rows.Result(w.pose, w.seconds, device=device), cfg)
            for c, w in zip(cases, walks, strict=True)
        ]
        parts.append(pd.DataFrame(rows, columns=case_rows.COLUMNS).assign(range=reach, samples=samples))
    found = pd.concat(parts, ignore_index=True)
    say(
        "; ".join(
            f"{reach}: {100 * some['success'].mean():.0f} %" for reach, some in found.groupby("range", sort=False)
        )
    )
    return found[["samples", "range", *case_rows.COLUMNS]]


def table(rows: pd.DataFrame, n_bootstrap: int) -> pd.DataFrame:
    """`TABLE` from the rows; intervals resample patients, and scans."""
    lines = []
    for (experiment, reach, method, samples), some in rows.groupby(["experiment", "range", "method", "samples"]):
        clusters = some["case"] if reach == VIRTUAL else some["dataset"]
        spread = metrics.success_interval(some["success"], clusters, n_bootstrap)
        errors = metrics.percentiles(some["final_error_mm"]).round(2)
        shares = [round(x, 3) for x in (some["success"].mean(), *spread)]
        lines.append((experiment, reach, method.removesuffix("_coarse"), samples, len(some), *shares, *errors))
    return pd.DataFrame(lines, columns=TABLE)


def figure(curve: pd.DataFrame):
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


def read_rows(results) -> pd.DataFrame:
    """The rows of a results folder's `learning_curve_cases.csv`; none where there is no such file."""
    path = results / f"{NAME}_cases.csv"
    if not path.exists():
        return pd.DataFrame(columns=["samples", "range", *case_rows.COLUMNS])
    return pd.read_csv(path, dtype={"case": str, "note": str}).fillna({"note": ""})


def write(cfg, new: pd.DataFrame) -> None:
    """Rows beside those of other points, then the table and the figure from all of them."""
    results, what = config.results_dir(cfg), ["experiment", "method", "samples"]
    rows = case_rows.instead(new, read_rows(results), what).sort_values([*what, "range"], kind="stable")
    made = {f"{NAME}_cases.csv": rows, f"{NAME}.csv": table(rows, cfg.evaluation.n_bootstrap)}
    for name, frame in made.items():
        with provenance.atomic(results / name) as temporary:
            frame.to_csv(temporary, index=False)
    provenance.record(results / f"{NAME}_cases.csv", cfg, seeds={"training": cfg.training.seed})
    source = [results / f"{NAME}_cases.csv"]
    provenance.record(results / f"{NAME}.csv", cfg, inputs=source)
    drawn = figure(made[f"{NAME}.csv"])
    charts.save(drawn, results / "figures" / f"{NAME}.png", {"cfg": cfg, "inputs": source})


def main(words: list[str] | None = None) -> int:
    """The points named, one after the other; one sentence and exit status 2 on bad input."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lib.study.learning_curve", description=__doc__.splitlines()[0])
    parser.add_argument("agent", choices=sorted(train.AGENTS))
    parser.add_argument("samples", nargs="+", type=int)
    parser.add_argument("--profile", default="cpu")
    given = parser.parse_args(words)
    torch.set_num_threads(1)

    def work():
        if min(given.samples) < 1:
            raise UserError(f"samples: {min(given.samples)} is no number of training samples; give 1 or more.")
        cfg = populations.load_config(given.profile, "spine")
        for samples in given.samples:
            write(cfg, point(cfg, given.agent, samples))

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
