"""What all tests share: one thread, no display, and where `make test` left the artefacts of its smoke run."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def smoke_run() -> Path:
    """results/ of the smoke run that `make test` does first; skipped where only pytest was called."""
    folder = Path(os.environ.get("RESULTS_DIR", ROOT / ".test" / "results"))
    if not (folder / "runs" / "smoke" / "summary" / "table1.csv").exists():
        pytest.skip("no smoke run here: `make test` does one")
    return folder
