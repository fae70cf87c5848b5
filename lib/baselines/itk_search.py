"""The strongest honest classic: ITK's mutual information from many starts, the winner chosen fairly.

Low-discrepancy poses over the search box are screened by normalised mutual information, times the overlap, on
a few thousand points of a smoothed CT; the best that differ are optimised, and `fair.best` picks among their ends (and
the single start's end) on common regions, with a least overlap. The winner goes on as `itk_tuned`. The box is centred
at the given start.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np
from scipy.stats import qmc

from lib import rigid
from lib.baselines import common, fair, mattes
from lib.cases import Result
from lib.images import volume


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed; looks for it within `settings.search.box` of `initial`."""
    begin = time.process_time()
    rng, options = common.generator(settings, rng), settings.search
    small, floating, field = mattes.images(fixed, moving, options.mattes, mask)
    points, values = common.points_of(small, field, options.screen_points, rng)
    coarse = floating.with_array(volume.gaussian(floating.array, options.screen_smooth / floating.spacing))
    centre = common.mask_centre(small, field)
    tried = np.concatenate([initial[None], poses(initial, centre, options, rng)])
    scores = fair.screen(tried, values, points, coarse, options.min_overlap, weighed=True)
    chosen = [0] + [n for n in fair.distinct(tried, scores, options.refined, points, options.apart) if n]
    seed = int(rng.integers(2**30))
    ends = [tried[0]]
    for n in chosen:
        try:
            ends.append(mattes.optimise(small, floating, tried[n], options.mattes, field, seed)[0])
        except RuntimeError:  # ran out of overlap: that start is lost, the others are not
            continue
    points, values = common.points_of(small, field, options.final_points, rng)
    winner, _ = fair.best(ends, values, points, floating, options.min_overlap)
    with contextlib.suppress(RuntimeError):
        last = mattes.optimise(small, floating, ends[winner], settings.tuned, field, seed)[0]
        ends, winner = [ends[winner], last], fair.best([ends[winner], last], values, points, floating, 0.0)[0]
    return Result(ends[winner], time.process_time() - begin)


def poses(initial: np.ndarray, centre: np.ndarray, options, rng) -> np.ndarray:
    """(n, 4, 4) poses over +-box about `initial`, moving -> fixed as it is; Sobol points: they fill six dimensions more
    evenly than chance."""
    engine = qmc.Sobol(6, seed=rng)
    v = (2 * engine.random(options.screened) - 1) * np.array(options.box)
    return np.stack([rigid.about(m, centre) @ initial for m in rigid.params_to_matrix(v)])
