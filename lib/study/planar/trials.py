"""The constants of DRL, chosen before the curves are drawn: on pairs of training patients, judged on others of them.

One constant after the other; every trial is a short training and a row of `fig4_trials.csv`, the best of a curve is used.
Judged by the median displacement averaged over the checkpoints: few succeed in a short training on the difference image,
and then success tells nothing. The test patients choose nothing, and DSL keeps its constants: only its rival is tuned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib.base.pools import pool
from lib.base.provenance import atomic, fingerprint
from lib.study.planar import compare, plan, runs

COLUMNS = (
    *("curve", "trial", "changed", "value", "constants", "mean_mm", "success", "median_mm"),
    *("processor_seconds", "made_by"),
)
TODAY = ("n_steps",)  # constants that only dqn_today reads


def search(curve: str, base: compare.DrlSettings, asked: plan.Plan, paths, out, say=print) -> list[dict]:
    """Every trial of one curve, a row (`COLUMNS`) each; what was trained is taken from its checkpoint."""
    values = {k: v for k, v in asked.trials.values.items() if k not in TODAY or curve.startswith("dqn_today")}
    changes = [("", None), *((name, value) for name, some in values.items() for value in some[1:])]
    best, rows = {name: some[0] for name, some in values.items()}, []
    for number, (changed, value) in enumerate(changes):
        constants = best | ({changed: value} if changed else {})
        settings = plan.settings(asked, base, asked.trials.settings, constants)
        folder = Path(out) / fingerprint([compare.signature(settings), _names(paths)])[:12]
        points = runs.one(runs.Job(curve, 0, paths, settings, folder), say=lambda text: None)
        row = {"curve": curve, "trial": number, "changed": changed, "value": value, "constants": json.dumps(constants)}
        mean = sum(point["median_mm"] for point in points[1:]) / len(points[1:])
        row |= {"mean_mm": mean, **{name: points[-1][name] for name in ("success", "median_mm", "processor_seconds")}}
        best = constants if not rows or mean < min(r["mean_mm"] for r in rows) else best
        rows.append(row | {"made_by": made_by(base, asked, paths)})
        say(f"trial {number + 1} of {len(changes)} of {curve}: {json.dumps(constants)}: {mean:.1f} mm")
    return rows


def _names(paths) -> list[str]:
    return [Path(path).name for path in paths.values()]


def made_by(base: compare.DrlSettings, asked: plan.Plan, paths) -> str:
    """Fingerprint of all that the trials depend on."""
    settings = plan.settings(asked, base, asked.trials.settings)
    return fingerprint([compare.signature(settings), asked.trials.values, _names(paths)])[:12]


def run(curves, base: compare.DrlSettings, asked: plan.Plan, paths, out, table: Path, say=print) -> pd.DataFrame:
    """The trials of some curves, where they are missing from the CSV `table`; returns it."""
    there = read(table)
    same = there[there["made_by"] == made_by(base, asked, paths)]
    missing = [curve for curve in dict.fromkeys(curves) if curve not in set(same["curve"])]
    for curve, rows in _searched(missing, base, asked, paths, out, say):
        there = pd.concat([there[there["curve"] != curve], pd.DataFrame(rows)], ignore_index=True)
        with atomic(table) as temporary:
            there[list(COLUMNS)].to_csv(temporary, index=False, float_format="%.6g")
    return there


def _searched(curves, base, asked, paths, out, say) -> Iterator[tuple[str, list[dict]]]:
    """Each curve with its rows, `base.workers` curves at a time."""
    if base.workers <= 1 or len(curves) <= 1:
        yield from ((curve, search(curve, base, asked, paths, out, say)) for curve in curves)
        return
    with pool(base.workers) as processes:
        futures = [(curve, processes.submit(search, curve, base, asked, paths, out)) for curve in curves]
        yield from ((curve, future.result()) for curve, future in futures)


def read(table: Path) -> pd.DataFrame:
    """The trials in a CSV; none where there is no such file."""
    return pd.read_csv(table) if Path(table).exists() else pd.DataFrame(columns=list(COLUMNS))


def chosen(table: pd.DataFrame, curve: str) -> dict:
    """The best constants that were tried for a curve."""
    some = table[table["curve"] == curve]
    return json.loads(some.loc[some["mean_mm"].astype(float).idxmin(), "constants"])
