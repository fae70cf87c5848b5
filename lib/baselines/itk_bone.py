"""ITK, tuned, that ends with bone alone: organs move between CT and CBCT, and what aligns them need not align the spine.

First as `itk_tuned` (or `itk_search`), then once more from there, counting only the CT's bone and what lies within
`BoneSettings.margin` of it. Not for the heart: its bones are not what moves with it. Settings: `BaselineSettings.bone`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from lib.baselines import common, itk_search, itk_tuned, mattes
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None, first=itk_tuned) -> Result:
    """Pose moving -> fixed: `first` from `initial`, then the bones."""
    begin, rng = time.process_time(), common.generator(settings, rng)
    pose = first.register(fixed, moving, initial, settings, mask, rng).pose
    options = replace(settings.tuned, smooth=settings.bone.smooth)
    small, floating, field = mattes.images(fixed, moving, options, mask)
    with contextlib.suppress(RuntimeError):  # too little bone in view: the first answer stands
        pose, _ = mattes.optimise(
            small, floating, pose, options, field, int(rng.integers(2**30)), bone(floating, settings.bone)
        )
    return Result(pose, time.process_time() - begin)


def search(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """`register` after a search over many starts."""
    return register(fixed, moving, initial, settings, mask, rng, itk_search)


def bone(ct, options):
    """1 within `margin` mm of what exceeds `level` HU in a CT (Volume), else 0."""
    away = ndimage.distance_transform_edt(ct.array.numpy() <= options.level, sampling=ct.spacing[::-1])
    return ct.with_array(torch.from_numpy((away <= options.margin).astype(np.float32)))
