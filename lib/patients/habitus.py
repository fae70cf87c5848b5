"""A heavier patient: fat under the skin, as thick as one asks for."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lib.images.volume import AIR, Volume
from lib.patients.another_day import body_mask

FAT, SKIN, SKIN_MM = -105.0, 10.0, 2.5  # HU, HU, mm
LAIN_ON = 0.3  # share of the fat that is left at the back, on which the patient lies


def heavier(ct: Volume, mm: float) -> Volume:
    """The CT (HU, along L, P, S) with up to `mm` of fat more at the sides and in front; its grid grows across the body."""
    from scipy import ndimage

    more = [int(np.ceil(mm / s)) + 3 for s in ct.spacing[:2]]
    wide = F.pad(ct.array.float(), (more[0], more[0], more[1], more[1]), value=AIR)
    body = body_mask(wide.numpy(), float(ct.spacing[0]))
    spacing = (ct.spacing[1], ct.spacing[0])
    depth = np.stack([ndimage.distance_transform_edt(~slice, sampling=spacing) for slice in body])
    middle = np.argwhere(body).mean(axis=0)
    y, x = (np.arange(n) - m for n, m in zip(body.shape[1:], middle[1:], strict=True))
    back = np.clip(y[:, None] / np.maximum(np.hypot(x, y[:, None]), 1e-6), 0, 1)  # 1 straight behind
    limit = mm * (1 - (1 - LAIN_ON) * back**1.5)
    grain = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(body.shape), 2.0)
    fat = FAT + 12 * grain / grain.std()
    array = np.where(~body & (depth <= limit), np.where(depth > limit - SKIN_MM, SKIN, fat), wide.numpy())
    origin = ct.origin - ct.direction @ np.array([more[0] * ct.spacing[0], more[1] * ct.spacing[1], 0.0])
    return Volume(torch.from_numpy(array.astype(np.float32)), ct.spacing, origin, ct.direction)
