"""ITK, tuned, that ends with bone alone: organs move between CT and CBCT, and what aligns them need not align the spine.

First as `itk_tuned` (or `itk_search`), then once more from there, counting only the CT's bone and what lies within
`BoneSettings.margin` of it. `bone_search` looks at nothing else from the beginning. Not for the heart: its bones are not
what moves with it. Settings: `BaselineSettings.bone`, `BaselineSettings.bone_search`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from lib.baselines import common, fair, itk, itk_search, mattes
from lib.cases import Result
from lib.images.pair import Likeness


def register(fixed, moving, initial, settings, mask=None, rng=None, first=itk.tuned) -> Result:
    """Pose moving -> fixed: `first` from `initial`, then the bones."""
    begin, rng = time.process_time(), common.generator(settings, rng)
    pose = first(fixed, moving, initial, settings, mask, rng).pose
    pose = _at_bone(fixed, moving, pose, settings, mask, int(rng.integers(2**30)))
    return Result(pose, time.process_time() - begin)


def search(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """`register` after a search over many starts."""
    return register(fixed, moving, initial, settings, mask, rng, itk_search.register)


def alone(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed by bone alone, from many starts within `settings.search.box` of `initial`.

    Poses are screened by the correlation of local contrast at bone, the best that differ (and `initial`) optimised by
    mutual information at bone, the end most alike at bone wins and is optimised once more, more finely.
    """
    begin, rng = time.process_time(), common.generator(settings, rng)
    search, options = settings.search, settings.bone_search
    small, floating, field = mattes.images(fixed, moving, options.mattes, mask)
    part, centre = bone(floating, settings.bone), common.mask_centre(small, field)
    tried = np.concatenate(
        [initial[None], itk_search.poses(initial, centre, replace(search, screened=options.screened), rng)]
    )
    alike = Likeness(fixed, moving, centre, voxel=options.voxel, step=options.step, size=int(240 / options.step))
    scores = np.nan_to_num(alike(tried, search.min_overlap, 20, weighed=True), nan=-1.0)
    points, _ = common.points_of(small, field, search.screen_points, rng)
    chosen = [0] + [n for n in fair.distinct(tried, scores, options.refined, points, options.apart) if n]
    seed, ends = int(rng.integers(2**30)), [initial]
    for n in chosen:
        with contextlib.suppress(RuntimeError):  # too little bone in view: that start is lost, the others are not
            ends.append(mattes.optimise(small, floating, tried[n], options.mattes, field, seed, part)[0])
    alike = Likeness(
        fixed, moving, centre, voxel=options.final_voxel, step=options.final_voxel, size=int(240 / options.final_voxel)
    )
    pose = ends[int(np.nan_to_num(alike(np.stack(ends), search.min_overlap, weighed=True), nan=-1.0).argmax())]
    pose = _at_bone(fixed, moving, pose, settings, mask, seed)
    return Result(pose, time.process_time() - begin)


def _at_bone(fixed, moving, pose, settings, mask, seed: int):
    """`pose` after `itk_tuned`'s optimisation with less smoothing, counting bone alone; `pose` itself where ITK refuses,
    because too little bone is in view."""
    options = replace(settings.tuned, smooth=settings.bone.smooth)
    small, floating, field = mattes.images(fixed, moving, options, mask)
    try:
        return mattes.optimise(small, floating, pose, options, field, seed, bone(floating, settings.bone))[0]
    except RuntimeError:
        return pose


def bone(ct, options):
    """1 within `margin` mm of what exceeds `level` HU in a CT (Volume), else 0."""
    away = ndimage.distance_transform_edt(ct.array.numpy() <= options.level, sampling=ct.spacing[::-1])
    return ct.with_array(torch.from_numpy((away <= options.margin).astype(np.float32)))
