"""`python -m lib.baselines.choose itk_tuned quasi_global`: a baseline at its best, chosen without a test patient.

Each candidate has one thing changed against the settings in use, and runs on the same starts of the same patients: those
that are a test patient in none of the splits. `results/baseline_choice.csv` has success and median of each. Nothing is
changed by running it: a winner is written into `lib/baselines/settings.py` by hand, and docs/deviations.md says so.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import pandas as pd

from lib import cases, config, pairs, provenance
from lib.baselines import run
from lib.errors import UserError, status

# method -> (field of BaselineSettings, {candidate: what is changed in it}).
CANDIDATES = {
    "itk_tuned": ("tuned", {
        "as used": {},
        "voxels of 3 mm": {"spacing": 3.0},
        "20,000 samples": {"samples": 20000},
        "steps of 1 mm": {"learning_rate": 1.0},
        "steps of 4 mm": {"learning_rate": 4.0},
        "intensities not cut": {"clamp": (-1000.0, 3000.0)},
        "bone only (0 to 1,000)": {"clamp": (0.0, 1000.0)},
        "smoother pyramid": {"smooth": (12.0, 6.0, 2.0)},
        "a level more": {"shrink": (8, 4, 2, 1), "smooth": (12.0, 6.0, 3.0, 0.0)},
        "32 bins": {"bins": 32},
        "line search": {"optimiser": "line_search"},
        "no mask": {"use_mask": False},
    }),
    "quasi_global": ("quasi_global", {
        "as used": {},
        "screening unweighted": {"weighed": False},
        "screening by overlap": {"weighed": True},
        "300 screened": {"screened": 300},
        "8 refined": {"refined": 8},
    }),
}  # fmt: skip


def folders(cfg) -> list:
    """Patients that are a test patient in no split."""
    parts = [pairs.split_folders(replace(cfg, split=s)) for s in range(cfg.patients.n_splits)]
    tested = {folder for part in parts for folder in part["test"]}
    return sorted({f for part in parts for side in ("train", "validation") for f in part[side]} - tested)


def study(cfg, method: str, starts: int) -> pd.DataFrame:
    """One row a candidate: method, candidate, patients, n, success, median_mm, seconds (a case, median)."""
    from lib.patients import store

    section, candidates = CANDIDATES[method]
    e, drawn, there = cfg.evaluation, [], folders(cfg)
    if not there or not all((f / "patient.json").exists() for f in there):
        raise UserError("The patients are not there: run notebook 01 first.")
    for folder in there:
        drawn += cases.starts(
            store.load(folder), starts, e.ranges(cfg.experiment), e.seed + 1, e.min_overlap
        )
    lines = []
    for candidate, change in candidates.items():
        settings = replace(cfg.baselines, **{section: replace(getattr(cfg.baselines, section), **change)})
        ((_, results),) = run.run_methods([method], drawn, settings)
        rows = pd.DataFrame(cases.row(c, method, r, cfg) for c, r in zip(drawn, results, strict=True))
        lines.append({
            "method": method, "experiment": cfg.experiment, "candidate": candidate, "patients": len(there),
            "n": len(rows), "success": round(rows["success"].mean(), 3),
            "median_mm": round(rows["final_error_mm"].median(), 2), "seconds": round(rows["seconds"].median(), 2),
        })  # fmt: skip
        print(*lines[-1].values(), sep="  ", flush=True)
    return pd.DataFrame(lines)


def main(words: list[str] | None = None) -> int:
    """One line a candidate. Exit status 2 and one sentence for bad input."""
    parser = argparse.ArgumentParser(prog="python -m lib.baselines.choose", description=main.__doc__)
    parser.add_argument("methods", nargs="+", choices=sorted(CANDIDATES))
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    parser.add_argument("--starts", type=int, default=2, help="starts a patient")
    given = parser.parse_args(words)

    def work():
        profile = config.load(given.profile, sections=("patients", "evaluation", "baselines"))
        cfg = replace(profile, experiment=given.experiment, split=0)
        path = config.results_dir(cfg) / "baseline_choice.csv"
        for method in given.methods:
            table = study(cfg, method, given.starts)
            if path.exists():
                old = pd.read_csv(path)
                same = (old["method"] == method) & (old["experiment"] == cfg.experiment)
                table = pd.concat([old[~same], table], ignore_index=True)
            with provenance.atomic(path) as temporary:
                table.to_csv(temporary, index=False)
            provenance.record(path, cfg, seeds={"starts": cfg.evaluation.seed + 1})

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
