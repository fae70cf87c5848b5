"""The practical hybrid (`dsl_polish`): tuned mutual information from where the agent stopped, kept only
if it helped.

The agent is robust, the optimiser exact. Its end is taken only if normalised mutual information on the
points that both poses cover is higher than before, and nothing in the field of view moved further than a
limit: a polish that travels has found another vertebra.
"""

from __future__ import annotations

import time

import numpy as np

from lib import rigid
from lib.baselines import common, fair, mattes
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """`initial` is the agent's pose (moving -> fixed), and what comes back if the polish is not better
    supported.
    """
    begin = time.process_time()
    rng, options = common.generator(settings, rng), settings.polish
    small, floating, field = mattes.images(fixed, moving, options.mattes, mask)
    try:
        pose, _ = mattes.optimise(small, floating, initial, options.mattes, field, int(rng.integers(2**30)))
    except RuntimeError:  # no overlap to optimise over: the agent's pose stands
        return Result(initial, time.process_time() - begin)
    points, values = common.points_of(small, field, options.points, rng)
    before, after = (common.pull(floating, p, points) for p in (initial, pose))
    better = fair.compare(after, before, values) > 0 and after[1].float().mean() > 0.1
    keep = better and furthest(initial, pose, points.double().numpy()) <= options.limit
    return Result(pose if keep else initial, time.process_time() - begin)


def furthest(first: np.ndarray, second: np.ndarray, points: np.ndarray) -> float:
    """Largest distance (mm) that any of the fixed-world points (n, 3) travels between two poses."""
    moved = rigid.apply(second @ rigid.invert(first), points)
    return float(np.linalg.norm(moved - points, axis=1).max())
