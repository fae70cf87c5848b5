"""`python -m lib.study.choose itk_tuned quasi_global`: a baseline at its best, chosen without a test patient.

Each candidate has one thing changed (or the changes that helped, together), and runs on the same starts of the same
patients: those that are a test patient in none of the splits. `results/baseline_choice.csv` has success and median of
each; a candidate that stands there is not tried again. Nothing is changed by running it: a winner is written into
`lib/baselines/settings.py` by hand, and docs/deviations.md says so.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import pandas as pd

from lib import cases
from lib.base import provenance
from lib.base.errors import UserError, status
from lib.baselines import run
from lib.baselines.settings import MattesSettings, QuasiGlobalSettings
from lib.study import config, pairs

FIRST = MattesSettings(spacing=4.0, clamp=(-200.0, 800.0))  # what `itk_tuned` was before anything was tried here
SMOOTHER = (12.0, 6.0, 2.0)  # mm a level
# method -> (field of BaselineSettings, what is changed from, {candidate: what is changed in it}).
CANDIDATES = {
    "itk_tuned": (
        "tuned",
        FIRST,
        {
            "first guess": {},
            "voxels of 3 mm": {"spacing": 3.0},
            "20,000 samples": {"samples": 20000},
            "steps of 1 mm": {"learning_rate": 1.0},
            "steps of 4 mm": {"learning_rate": 4.0},
            "intensities not cut": {"clamp": (-1000.0, 3000.0)},
            "bone only (0 to 1,000)": {"clamp": (0.0, 1000.0)},
            "smoother pyramid": {"smooth": SMOOTHER},
            "a level more": {"shrink": (8, 4, 2, 1), "smooth": (12.0, 6.0, 3.0, 0.0)},
            "32 bins": {"bins": 32},
            "line search": {"optimiser": "line_search"},
            "no mask": {"use_mask": False},
            "20,000 samples, smoother": {"samples": 20000, "smooth": SMOOTHER},
            "20,000 samples, smoother, steps of 4 mm": {"samples": 20000, "smooth": SMOOTHER, "learning_rate": 4.0},
            "the same, 32 bins": {"samples": 20000, "smooth": SMOOTHER, "learning_rate": 4.0, "bins": 32},
            "the same, 32 bins, 50,000 samples": {
                "samples": 50000,
                "smooth": SMOOTHER,
                "learning_rate": 4.0,
                "bins": 32,
            },
        },
    ),
    "quasi_global": (
        "quasi_global",
        QuasiGlobalSettings(screened=100),
        {
            "screening unweighted": {"weighed": False},
            "screening by overlap": {"weighed": True},
            "300 screened": {"screened": 300},
            "8 refined": {"refined": 8},
        },
    ),
}


def folders(cfg) -> list:
    """Patients that are a test patient in no split."""
    parts = [pairs.split_folders(replace(cfg, split=s)) for s in range(cfg.patients.n_splits)]
    tested = {folder for part in parts for folder in part["test"]}
    return sorted({f for part in parts for side in ("train", "validation") for f in part[side]} - tested)


def drawn(cfg, starts: int) -> list:
    """The cases: `starts` a patient, from a seed of their own. Raises UserError without the patients."""
    from lib.patients import store

    there, e = folders(cfg), cfg.evaluation
    if not there or not all((f / "patient.json").exists() for f in there):
        raise UserError("The patients are not there: run notebook 01 first.")
    ranges = e.ranges(cfg.experiment)
    patients = (store.load(f) for f in there)
    return [c for p in patients for c in cases.starts(p, starts, ranges, e.seed + 1, e.min_overlap)]


def trial(cfg, method: str, candidate: str, tried: list) -> dict:
    """One row: method, experiment, candidate, patients, n, success, median_mm, seconds (a case, median)."""
    section, first, candidates = CANDIDATES[method]
    settings = replace(cfg.baselines, **{section: replace(first, **candidates[candidate])})
    ((_, results),) = run.run_methods([method], tried, settings)
    rows = pd.DataFrame(cases.row(c, method, r, cfg) for c, r in zip(tried, results, strict=True))
    return {
        "method": method,
        "experiment": cfg.experiment,
        "candidate": candidate,
        "patients": rows["case"].nunique(),
        "n": len(rows),
        "success": round(rows["success"].mean(), 3),
        "median_mm": round(rows["final_error_mm"].median(), 2),
        "seconds": round(rows["seconds"].median(), 2),
    }


def main(words: list[str] | None = None) -> int:
    """One line a candidate. Exit status 2 and one sentence for bad input."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.choose", description=main.__doc__)
    parser.add_argument("methods", nargs="+", choices=sorted(CANDIDATES))
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    parser.add_argument("--starts", type=int, default=2, help="starts a patient")
    given = parser.parse_args(words)

    def work():
        profile = config.load(given.profile, sections=("patients", "evaluation", "baselines"))
        cfg = replace(profile, experiment=given.experiment, split=0)
        path = config.results_dir(cfg) / "baseline_choice.csv"
        rows = pd.read_csv(path).to_dict("records") if path.exists() else []
        there = {(row["method"], row["experiment"], row["candidate"]) for row in rows}
        tried = drawn(cfg, given.starts)
        for method in given.methods:
            for candidate in CANDIDATES[method][2]:
                if (method, cfg.experiment, candidate) in there:
                    continue
                rows.append(trial(cfg, method, candidate, tried))
                print(*rows[-1].values(), sep="  ", flush=True)
                with provenance.atomic(path) as temporary:
                    pd.DataFrame(rows).to_csv(temporary, index=False)
                provenance.record(path, cfg, seeds={"starts": cfg.evaluation.seed + 1})

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
