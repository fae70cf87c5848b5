"""Notebook 09's unit of work: pairs from the patients of a split, every method and seed, and `fig4.csv`.

A curve's name is its method, with `_two_channel` where the network sees both images instead of the paper's
difference, `_moved_alone` where it sees the moved one only. Runs go side by side in processes; each writes its own
checkpoint and can be interrupted.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from lib.base.errors import UserError
from lib.base.pools import pool
from lib.base.provenance import atomic, fingerprint
from lib.study.planar import compare
from lib.study.planar import pairs as planar_pairs
from lib.study.planar.settings import SEES

COLUMNS = ("method", "seed", "step", "success", "median_mm", "loss", "images", "seconds", "processor_seconds")
TWO = "_two_channel"


class Job(NamedTuple):
    """One training: its curve, seed, pairs by side, settings, and the folder of its checkpoint."""

    curve: str
    seed: int
    paths: dict[str, Path]
    settings: compare.DrlSettings
    out: Path


def curve_settings(curve: str, settings: compare.DrlSettings) -> tuple[str, compare.DrlSettings]:
    """(method, settings) of a curve. Raises UserError for a name that is none."""
    end = next((end for end in SEES if curve.endswith(end)), "")
    method = curve.removesuffix(end)
    if method not in compare.METHODS:
        ends = " or ".join(SEES)
        raise UserError(
            f"drl.methods holds {curve!r}; choose from {', '.join(compare.METHODS)}, each also with {ends}."
        )
    return method, dataclasses.replace(settings, observation=SEES.get(end, settings.observation))


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


def device_of(settings: compare.DrlSettings) -> str:
    """Where a training runs."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def tell(text: str) -> None:
    """A line at once, also into a file: a training takes hours."""
    print(text, flush=True)


def one(job: Job, threads: int = 1, say=tell) -> list[dict]:
    """One training: its rows, from the checkpoint if it is finished or was interrupted."""
    torch.set_num_threads(threads)
    method, settings = curve_settings(job.curve, job.settings)
    sides = {side: planar_pairs.load(path).to(device_of(settings)) for side, path in job.paths.items()}
    checkpoint = Path(job.out) / f"{job.curve}_seed{job.seed}.pt"
    return compare.train(method, job.seed, sides["train"], sides["test"], settings, checkpoint, say, name=job.curve)


def run(paths: dict, settings: compare.DrlSettings, out, say=print) -> list[dict]:
    """All curves and seeds, `settings.workers` at a time; rows of all. One line a point of a curve."""
    jobs = [Job(curve, seed, paths, settings, out) for seed in settings.seeds for curve in settings.methods]
    return [row for _, rows in every(jobs, settings.workers, say) for row in rows]


def every(jobs: list[Job], workers: int, say=print) -> Iterator[tuple[Job, list[dict]]]:
    """Every training with its rows, `workers` at a time, each as soon as those before it are there.

    A process that dies takes its own training down, not the others': UserError at the end names it.
    """
    for job in jobs:
        curve_settings(job.curve, job.settings)
    if workers <= 1 or len(jobs) == 1:
        yield from ((job, one(job, say=say)) for job in jobs)
        return
    failed, begun = [], time.time()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with pool(workers) as processes:
        futures = [(job, processes.submit(one, job)) for job in jobs]
        for k, (job, future) in enumerate(futures, start=1):
            try:
                rows = future.result()
            except UserError:
                raise
            except Exception as error:
                failed.append(f"{job.curve} seed {job.seed} ({type(error).__name__})")
                continue
            left = (time.time() - begun) / k * (len(jobs) - k) / 60
            last = rows[-1]
            say(
                f"{k:2d} of {len(jobs)}  {job.curve:24s} seed {job.seed}  success {last['success']:4.0%} after "
                f"{last['step']} steps, median {last['median_mm']:.1f} mm; about {left:.1f} min left"
            )
            yield job, rows
    if failed:
        raise UserError(f"These trainings failed: {', '.join(failed)}; run it again to resume them.")


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
        "two poses and a pair's number": (2 * parameters * 4 + 4 + 1 + 4 + 1 + 4) * history,
    }
