"""How a path goes: straight, settled, or in circles."""

from __future__ import annotations

import numpy as np


def course(path: np.ndarray, last: int = 20) -> dict[str, float]:
    """How a path of states (steps + 1, 6) goes, in units of D.

    straight: net over gross length, 1 for a straight line. revisited: share of states to which the path
    comes back (within half a step) after five steps or more. spread: largest distance of the `last`
    states from their mean. cycle: the widest loop, that is the largest distance reached between two
    visits of one state. actions: how many were taken. settled: after how many the path stays within 3 of
    its end.
    """
    path = np.asarray(path, dtype=np.float64)
    gross = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    apart = np.linalg.norm(path[:, None] - path[None], axis=2)
    again = np.argwhere((apart < 0.5) & (np.subtract.outer(np.arange(len(path)), np.arange(len(path))) >= 5))
    cycle = max((float(apart[j, j : i + 1].max()) for i, j in again), default=0.0)
    end = path[-last:].mean(axis=0)
    tail = path[-last:] - end
    moved = np.abs(np.diff(path, axis=0)).max(axis=1) > 1e-6
    away = np.flatnonzero(np.linalg.norm(path - end, axis=1) > 3)
    return {
        "straight": float(np.linalg.norm(path[-1] - path[0]) / max(gross, 1e-9)),
        "revisited": len(set(again.ravel().tolist())) / len(path),
        "spread": float(np.linalg.norm(tail, axis=1).max()),
        "cycle": cycle,
        "actions": int(moved.sum()),
        "settled": int(moved[: away[-1] + 1].sum()) if len(away) else 0,
    }
