"""Figure 4 over the paper's own number of steps: a study of its own, `python -m lib study figure4`.

It makes the patients of split 0 and their image pairs, tries what only DRL needs (`lib.study.planar.trials`), and trains
every curve with every seed at every size. A finished training leaves its points in `fig4_long.csv`, one that was stopped
at any moment goes on from a checkpoint of the last minute. Rows that other machines made stay.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pandas as pd

from lib.base import provenance
from lib.patients import population
from lib.study import config, pairs
from lib.study.planar import compare, plan, runs, trials

CURVES_FILE, TRIALS_FILE = "fig4_long.csv", "fig4_trials.csv"
COLUMNS = ("window", "spacing", *runs.COLUMNS, "device", "made_by")
TRAINING = ["window", "method", "seed"]  # what names a training


class Long:
    """The study on this machine."""

    def __init__(self, cfg, asked: plan.Plan, say=runs.tell):
        self.cfg, self.asked, self.say = cfg, asked, say
        self.folder, self.results = config.run_dir(cfg) / "figure4", config.results_dir(cfg)
        self.base, self.sides = cfg.drl, {}

    def run(self, only=()) -> None:
        """What is missing of what is asked for. Raises UserError; what was finished by then is in the file."""
        todo, began = plan.wanted(self.asked, only), time.time()
        population.build(self.cfg.patients, self.cfg.experiment, self.cfg.profile, progress=self.say)
        self.sides = pairs.split_folders(self.cfg)
        if list(only) == ["trials"]:
            self.trials(self.asked.trials.curves if self.asked.trials else ())
            return
        constants = self.trials([curve for curve in (plan.tried(self.asked, c) for _, c, _ in todo) if curve])
        jobs = [self.job(size, curve, seed, constants) for size, curve, seed in todo]
        done = read(self.results / CURVES_FILE)
        there = set(done[[*TRAINING, "made_by"]].itertuples(index=False, name=None))
        missing = [job for job in jobs if (job.settings.window, job.curve, job.seed, made_by(job)) not in there]
        self.say(f"{len(missing)} of {len(jobs)} trainings to do; their points go to {self.results / CURVES_FILE}")
        for job, rows in runs.every(missing, self.base.workers, self.say):
            self.keep(job, rows, began)

    def trials(self, curves) -> pd.DataFrame:
        """The trials of some curves, made where they are missing."""
        table = self.results / TRIALS_FILE
        if not curves:
            return trials.read(table)
        settings = plan.settings(self.asked, self.base, self.asked.trials.settings)
        judges = self.asked.trials.held_out
        sides = {"train": self.sides["train"][judges:], "test": self.sides["train"][:judges]}
        paths = runs.prepare(sides, settings, self.folder)
        made = trials.run(curves, self.base, self.asked, paths, self.folder / "trials", table, self.say)
        provenance.record(table, self.cfg, seeds=(0,))
        return made

    def job(self, size, curve: str, seed: int, constants: pd.DataFrame) -> runs.Job:
        """One training, its constants chosen if it is of DRL."""
        found = plan.tried(self.asked, curve)
        settings = plan.settings(self.asked, self.base, size, trials.chosen(constants, found) if found else {})
        paths = runs.prepare(self.sides, settings, self.folder)
        job = runs.Job(curve, seed, paths, settings, self.folder)
        return job._replace(out=self.folder / f"{settings.window}px_{made_by(job)}")

    def keep(self, job: runs.Job, rows: list[dict], began: float) -> None:
        """Points of a finished training into the file, in place of earlier ones of the same."""
        about = {"window": job.settings.window, "spacing": job.settings.spacing}
        about |= {"device": runs.device_of(job.settings), "made_by": made_by(job)}
        new, path = pd.DataFrame(rows).assign(**about), self.results / CURVES_FILE
        old = read(path)
        same = (old["window"] == job.settings.window) & (old["method"] == job.curve) & (old["seed"] == job.seed)
        both = pd.concat([old[~same], new], ignore_index=True) if len(old[~same]) else new
        both = both.sort_values([*TRAINING, "step"], kind="stable")
        with provenance.atomic(path) as temporary:
            both[list(COLUMNS)].to_csv(temporary, index=False, float_format="%.6g")
        seeds = sorted(int(seed) for seed in both["seed"].unique())
        provenance.record(path, self.cfg, seeds=seeds, started=began, planar=dataclasses.asdict(self.asked))


def made_by(job: runs.Job) -> str:
    """Fingerprint of what a training comes of, but its seed."""
    _, settings = runs.curve_settings(job.curve, job.settings)
    return provenance.fingerprint([compare.signature(settings), [Path(p).name for p in job.paths.values()]])[:12]


def read(path: Path) -> pd.DataFrame:
    """The points in a CSV; none where there is no such file."""
    return pd.read_csv(path) if Path(path).exists() else pd.DataFrame(columns=list(COLUMNS))


def state(asked: plan.Plan, results: Path) -> str:
    """How many of the trainings have left their points in a folder of results."""
    found = read(results / CURVES_FILE)
    have = set(found[TRAINING].itertuples(index=False, name=None))
    want = {(size.get("window"), curve, seed) for size, curve, seed in plan.wanted(asked)}
    kind = "there" if want <= have else "partly" if want & have else "not"
    return f"{kind}, {len(want & have)} of {len(want)} trainings"
