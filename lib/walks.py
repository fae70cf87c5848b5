"""How long adaptive steps are, and how a path that goes round for ever is noticed. What `lib.agent.roll_out` asks."""

from __future__ import annotations

import numpy as np
import torch


def step_sizes(recent: list[torch.Tensor], step: torch.Tensor) -> torch.Tensor:
    """Adaptive lengths: halve where the last two actions cancelled, double after four equal ones, within 1..8."""
    if len(recent) >= 2:
        back = (recent[-1] ^ 1) == recent[-2]
        step = torch.where(back, (step / 2).clamp(min=1.0), step)
    if len(recent) >= 4:
        same = (recent[-1] == recent[-2]) & (recent[-1] == recent[-3]) & (recent[-1] == recent[-4])
        step = torch.where(same, (step * 2).clamp(max=8.0), step)
    return step


def period(path: np.ndarray, longest: int = 24) -> np.ndarray:
    """How many steps ago each of n paths (steps, n, 4, 4) was at its last pose; 0 where it was not."""
    before = path[-2 : -2 - longest : -1]
    again = np.abs(before - path[-1]).max(axis=(2, 3)) < 1e-6  # any action moves an entry by a thousand times that
    return np.where(again.any(axis=0), again.argmax(axis=0) + 1, 0)


def as_before(chosen: torch.Tensor, lengths: torch.Tensor, period: np.ndarray) -> np.ndarray:
    """Whether the next adaptive step's length will be what it was `period` steps ago: the same length now, and the same
    last three actions. chosen (steps, n), lengths (steps + 1, n)."""
    same = np.zeros(len(period), dtype=bool)
    for i in np.flatnonzero(period):
        p, mine = int(period[i]), chosen[:, i]
        same[i] = len(mine) >= p + 3 and bool(lengths[-1, i] == lengths[-1 - p, i])
        same[i] = same[i] and torch.equal(mine[-3:], mine[-3 - p : len(mine) - p])
    return same


def repeat(path: np.ndarray, values: np.ndarray, done: int, period: int) -> None:
    """Fill poses (steps + 1, 4, 4) and values (steps, 12) after step `done` with the loop of `period` steps."""
    for step in range(done, len(values)):
        path[step + 1], values[step] = path[step + 1 - period], values[step - period]
