"""Where things lie: the project, its data, its results. Nothing here looks at the disk."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """data/: fetched and generated volumes. The environment's DATA_DIR moves it (tests do)."""
    return Path(os.environ.get("DATA_DIR") or ROOT / "data")


def results_root() -> Path:
    """results/. The environment's RESULTS_DIR moves it (tests do)."""
    return Path(os.environ.get("RESULTS_DIR") or ROOT / "results")


def runs(profile: str) -> Path:
    """results/runs/<profile>/: executed notebooks, checkpoints, rows of a run; not in git."""
    return results_root() / "runs" / profile


def summary(profile: str) -> Path:
    """Where tables and figures go: results/ for `cpu`, results/runs/<profile>/summary/ for the others."""
    return results_root() if profile == "cpu" else runs(profile) / "summary"
