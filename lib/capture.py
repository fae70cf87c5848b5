"""From how far away a method still succeeds."""

from __future__ import annotations

import numpy as np


def capture_range(initial_mm, ok, share: float = 0.95) -> tuple[float, bool]:
    """(the largest initial error in mm such that `share` of all starts up to it succeed, whether that is the
    farthest start: the range may then be larger). (0, False) where not even the nearest start does."""
    initial = np.asarray(initial_mm, dtype=np.float64)
    nearest = np.argsort(initial, kind="stable")
    rate = np.asarray(ok, dtype=np.float64)[nearest].cumsum() / np.arange(1, len(initial) + 1)
    good = np.flatnonzero(rate >= share)
    if not len(good):
        return 0.0, False
    return float(initial[nearest[good[-1]]]), bool(good[-1] == len(initial) - 1)
