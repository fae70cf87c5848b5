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


@pytest.fixture(scope="module")
def pairs():
    """Six pairs of Figure 4's 2-D problem whose fixed image is the middle of the moving one, of smooth random codes."""
    import torch

    from lib.study.planar.pairs import Pairs

    torch.manual_seed(0)
    noise = torch.nn.functional.avg_pool2d(torch.randn(6, 1, 62, 62), 9, 1)[:, 0]
    moving = (noise / noise.abs().max() * 120).to(torch.int8)
    return Pairs(moving[:, 9:-9, 9:-9].clone(), moving, torch.arange(6), 5.0)
