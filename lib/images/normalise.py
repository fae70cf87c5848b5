"""Intensity: what both images are brought to before any agent sees them.

Real cone-beam CT is not in Hounsfield units. Each image is shifted (or, if it is no HU at all, scaled) by its
own soft-tissue level inside its field of view, clipped to -150..500 HU, and divided by its local contrast
(Gaussian of 20 mm; or not, to see what that is worth). Outside the field of view there is nothing: a mask says so. torch and NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.base.errors import UserError
from lib.images.values import tissue_level
from lib.images.volume import Volume, along, gaussian_rows, linear_rows, resample

LOW, HIGH = -150.0, 500.0  # HU kept
LOCAL_SIGMA = 20.0  # mm, neighbourhood of the local contrast
FLOOR = 40.0  # HU, contrast below which a neighbourhood is considered flat
OUTSIDE = -128  # int8 code of "no data here"


def field_of_view(volume: Volume) -> torch.Tensor:
    """Where a CBCT has data: bool (nz, ny, nx).

    Padding is the volume's lowest value if that fills a good part of it; holes inside (gas at the same value) are
    filled slice by slice: a voxel belongs to the field of view if data lies on both sides along a row or a column.
    """
    array = volume.array
    finite = torch.isfinite(array)
    low, high = torch.where(finite, array, torch.inf).min(), torch.where(finite, array, -torch.inf).max()
    data = finite & (array > low + (1e-3 if high - low > 200 else 1e-6 * (high - low)))  # not every image is in HU
    if data.float().mean() > 0.995:
        return torch.ones_like(data)
    between = torch.zeros_like(data)
    seen = data.to(torch.uint8)
    for dim in (1, 2):
        index = torch.arange(data.shape[dim]).reshape([-1 if d == dim else 1 for d in range(3)])
        first = seen.argmax(dim, keepdim=True)  # 0 where there is no data, which `last` then undoes
        last = data.shape[dim] - 1 - seen.flip(dim).argmax(dim, keepdim=True)
        between |= (index >= first) & (index <= last) & seen.amax(dim, keepdim=True).bool()
    return data | between


def normalise(volume: Volume, is_cbct: bool, contrast: str = "local") -> tuple[torch.Tensor, torch.Tensor]:
    """Local contrast (or, with `contrast` "window", the window LOW..HIGH itself) in about [-1, 1] and the mask of valid
    voxels, both (nz, ny, nx). Raises UserError for another `contrast`."""
    if contrast not in ("local", "window"):
        raise UserError(f"stream.contrast is {contrast!r}; use local or window.")
    mask = field_of_view(volume) if is_cbct else torch.isfinite(volume.array)
    gain, offset = tissue_level(volume.array[mask & (volume.array > -3000)])
    hu = torch.nan_to_num(volume.array * gain + offset, nan=LOW).clamp(LOW, HIGH)
    weight = mask.float()
    if contrast == "window":
        return (hu - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2) * weight, mask
    mean, deviation = local_contrast(hu, weight, volume.spacing)
    values = (hu - mean) / (2.5 * (deviation + FLOOR))
    return values.clamp(-1, 1) * weight, mask


def local_contrast(hu: torch.Tensor, weight: torch.Tensor, spacing) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted Gaussian mean and standard deviation of each voxel's neighbourhood, (nz, ny, nx) each.

    Both vary slowly, so they are computed on a grid of half a sigma and brought back linearly: a tenth of the work.
    """
    down, up = [], []
    for axis in range(3):
        n = hu.shape[2 - axis]
        at = torch.arange(n, dtype=torch.float32) * float(spacing[axis])
        knots = torch.linspace(0, float(at[-1]), max(2, int(float(at[-1]) / (LOCAL_SIGMA / 2)) + 1)) if n > 1 else at
        down.append(gaussian_rows(knots[:, None] - at, LOCAL_SIGMA))
        up.append(linear_rows(at, knots))
    sums = []
    for field in (weight, hu * weight, hu.square() * weight):
        for axis in range(3):
            field = along(field, down[axis], axis)
        sums.append(field)
    norm = sums[0].clamp(min=1e-3)
    mean = sums[1] / norm
    deviation = (sums[2] / norm - mean.square()).clamp(min=0).sqrt()
    for axis in range(3):
        mean, deviation = along(mean, up[axis], axis), along(deviation, up[axis], axis)
    return mean, deviation


@dataclass
class Source:
    """A normalised pyramid level, ready for gathering.

    codes: int8 (nz + 2, ny + 2, nx + 2), value * 127, with a border of `OUTSIDE`; `OUTSIDE` also where there is no data.
    affine: (4, 4) index (i, j, k) *of the bordered array* -> world LPS mm.
    """

    codes: torch.Tensor
    affine: np.ndarray

    @property
    def values(self) -> torch.Tensor:
        return torch.where(self.codes == OUTSIDE, 0, self.codes).float() / 127


def prepare(volume: Volume, is_cbct: bool, spacing: float, contrast: str = "local") -> Source:
    """Bring a volume to `spacing` mm (anti-aliased, once) and normalise it (`contrast` as there). The one door for training
    and inference."""
    if is_cbct:
        mask = field_of_view(volume)
        # Padding must not bleed into the smoothed edge of the field of view: fill it with the mean inside.
        level = volume.array[mask].float().mean()
        filled = volume.with_array(torch.where(mask, volume.array, level))
        coarse = resample(filled, spacing)
        coarse_mask = resample(volume.with_array(mask.float()), spacing).array > 0.5
        low = float(coarse.array.min()) - 1000.0
        volume = coarse.with_array(torch.where(coarse_mask, coarse.array, torch.tensor(low)))
    else:
        volume = resample(volume, spacing)
    values, mask = normalise(volume, is_cbct, contrast)
    codes = torch.full([n + 2 for n in values.shape], OUTSIDE, dtype=torch.int8)
    inner = (values * 127).round().to(torch.int8)
    codes[1:-1, 1:-1, 1:-1] = torch.where(mask, inner, torch.tensor(OUTSIDE, dtype=torch.int8))
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3].sum(1)
    return Source(codes, affine)


def field_of_view_centre(volume: Volume) -> np.ndarray:
    """World position (3,) of the middle of a CBCT's field of view (its bounding box): where the coarse window sits."""
    mask = field_of_view(volume)
    middle = []
    for dims in ((0, 1), (0, 2), (1, 2)):
        hit = torch.nonzero(mask.float().mean(dim=dims) > 0.02)[:, 0]
        middle.append((float(hit[0]) + float(hit[-1])) / 2 if len(hit) else 0.0)
    return (volume.affine @ np.array([*middle, 1.0]))[:3]
