"""Notebook 06's unit of work: pairs from the patients of a split, every method and seed, and `fig4.csv`.

A curve's name is its method, with `_two_channel` where the network sees both images instead of the paper's
difference. Runs go side by side in processes; each writes its own checkpoint and can be interrupted.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import torch

from lib.base.errors import UserError
from lib.base.pools import pool
from lib.base.provenance import atomic, fingerprint
from lib.study.planar import compare
from lib.study.planar import pairs as planar_pairs

COLUMNS = ("method", "seed", "step", "success", "median_mm", "loss", "images", "seconds")
TWO = "_two_channel"


def curve_settings(curve: str, settings: compare.DrlSettings) -> tuple[str, compare.DrlSettings]:
    """(method, settings) of a curve. Raises UserError for a name that is none."""
    method = curve.removesuffix(TWO)
    if method not in compare.METHODS:
        raise UserError(f"drl.methods holds {curve!r}; choose from {', '.join(compare.METHODS)}, each also with {TWO}.")
    observation = "two_channel" if curve.endswith(TWO) else settings.observation
    return method, dataclasses.replace(settings, observation=observation)


def prepare(folders: dict, settings: compare.DrlSettings, out) -> dict[str, Path]:
    """Cut the pairs of the training and test patients (folders by side, lists of paths) once: NPZ under `out`.

    The file names hold a fingerprint of what they were made from."""
    from lib.patients import store

    paths = {}
    for seed, (side, count) in enumerate((("train", settings.pairs), ("test", settings.cases))):
        made_of = [str(Path(f).name) for f in folders[side]] + [settings.window, settings.spacing, count]
        made_of.append([store.load_record(f)["meta"].get("fingerprint") for f in folders[side]])
        path = Path(out) / f"pairs_{side}_{fingerprint(made_of)[:8]}.npz"
        if not path.exists():
            patients = [lambda f=f: store.load(f) for f in folders[side]]
            planar_pairs.save(planar_pairs.cut(patients, count, settings.window, settings.spacing, seed), path)
        paths[side] = path
    return paths


def _device(settings: compare.DrlSettings) -> str:
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _say(text: str) -> None:
    print(text, flush=True)


def one(curve: str, seed: int, paths: dict, settings: compare.DrlSettings, out, threads: int = 1, say=_say):
    """One training: its rows, from the checkpoint if it is finished or was interrupted."""
    torch.set_num_threads(threads)
    method, settings = curve_settings(curve, settings)
    sides = {side: planar_pairs.load(path).to(_device(settings)) for side, path in paths.items()}
    checkpoint = Path(out) / f"{curve}_seed{seed}.pt"
    rows = compare.train(method, seed, sides["train"], sides["test"], settings, checkpoint, say, name=curve)
    return rows


def run(paths: dict, settings: compare.DrlSettings, out, say=print) -> list[dict]:
    """All curves and seeds, `settings.workers` at a time; rows of all. One line a point of a curve.

    A process that dies takes its own training down, not the others': UserError at the end names it.
    """
    jobs = [(curve, seed) for seed in settings.seeds for curve in settings.methods]
    for curve, _ in jobs:
        curve_settings(curve, settings)
    if settings.workers <= 1 or len(jobs) == 1:
        return [row for curve, seed in jobs for row in one(curve, seed, paths, settings, out, say=say)]
    rows, failed, begun = [], [], time.time()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with pool(settings.workers) as processes:
        futures = [(job, processes.submit(one, *job, paths, settings, out)) for job in jobs]
        for k, ((curve, seed), future) in enumerate(futures, start=1):
            try:
                rows += future.result()
            except UserError:
                raise
            except Exception as error:
                failed.append(f"{curve} seed {seed} ({type(error).__name__})")
                continue
            left = (time.time() - begun) / k * (len(jobs) - k) / 60
            last = rows[-1]
            say(
                f"{k:2d} of {len(jobs)}  {curve:24s} seed {seed}  success {last['success']:4.0%} after "
                f"{last['step']} steps, median {last['median_mm']:.1f} mm; about {left:.1f} min left"
            )
    if failed:
        raise UserError(f"These trainings failed: {', '.join(failed)}; run the notebook again to resume them.")
    return rows


def write_curves(rows, path) -> None:
    """fig4.csv: method, seed, step, success and what went with them; atomically."""
    import pandas as pd

    with atomic(path) as temporary:
        pd.DataFrame(rows)[list(COLUMNS)].to_csv(temporary, index=False, float_format="%.6g")


def summary(curves, threshold: float = 0.5):
    """One row a curve: success at the end (mean, lowest, highest seed), area under the curve, steps and minutes until
    the mean over seeds first reaches `threshold` (NaN: never)."""
    import pandas as pd

    rows = []
    for method, some in curves.groupby("method", sort=False):
        mean = some.groupby("step")[["success", "median_mm", "seconds"]].mean()
        last = some[some["step"] == some["step"].max()]
        reached = mean.index[mean["success"] >= threshold]
        rows.append(
            {
                "method": method,
                "seeds": some["seed"].nunique(),
                "success": last["success"].mean(),
                "low": last["success"].min(),
                "high": last["success"].max(),
                "median_mm": last["median_mm"].mean(),
                "area": mean["success"].mean(),
                "steps_to_threshold": reached[0] if len(reached) else float("nan"),
                "minutes": mean["seconds"].iloc[-1] / 60,
            }
        )
    return pd.DataFrame(rows)


def replay_bytes(edge: int = 64, dimensions: int = 3, history: int = 1_000_000, value_bytes: int = 4) -> dict:
    """C14: bytes of a replay memory that holds images, in three ways, and of ours, which holds poses."""
    image = edge**dimensions * value_bytes
    parameters = 6 if dimensions == 3 else 3
    return {
        "state and next state, float32": 2 * image * history,
        "one image a step, float32": image * history,
        "one image a step, 8 bits": image // value_bytes * history,
        "two poses and a pair's number": (2 * parameters * 4 + 4 + 1 + 4 + 1) * history,
    }
