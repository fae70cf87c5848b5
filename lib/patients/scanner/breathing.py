"""Breathing during a scan of the second scanner: organs in front of the spine go up and down, the spine does not."""

from __future__ import annotations

import numpy as np
import torch

from lib.images.volume import Volume, sample

PHASES = 5  # states of the body that the views see
FREE = 48.0  # mm in front of the centre, where organs begin to move
ALL = 40.0  # mm further, where they move in full


def phases(body: Volume, centre, down: float) -> list[torch.Tensor]:
    """`body` (HU, along L, P, S) at `PHASES` states from breathed out to `down` mm lower, arrays on its own grid. `centre`
    (3,): of the spine, world mm. At the skin half of it is left."""
    points = body.points()
    ahead = (float(centre[1]) - FREE - points[..., 1]) / ALL
    share = ahead.clamp(0, 1).square() * (3 - 2 * ahead.clamp(0, 1))
    skin = (ahead * ALL - 90.0).clamp(0, 80) / 160.0
    share = share * (1 - skin)
    low, high = float(points[0, 0, 0, 2]), float(points[-1, 0, 0, 2])
    states = []
    for part in np.linspace(0, 1, PHASES):
        source = points.clone()
        source[..., 2] = (source[..., 2] + share * float(part * down)).clamp(min(low, high), max(low, high))
        states.append(sample(body, source))
    return states


def seen(views: int, seconds: float, per_minute: float, start: float) -> np.ndarray:
    """Which state each view sees (views,): breathing out lasts longer than breathing in. `start`: 0 to 1 of a breath."""
    turn = np.arange(views) / views * seconds * per_minute / 60 + start
    height = np.cos(np.pi * (turn % 1.0)) ** 4  # 1 only for a moment
    return np.minimum((height * PHASES).astype(int), PHASES - 1)
