"""What registration of one pair asks of the images: fewer voxels, overlap, likeness, the moved image."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.images.normalise import field_of_view, prepare
from lib.images.slabs import slabs
from lib.images.volume import Volume, resample


def shrink(volume: Volume, spacing: float, is_cbct: bool) -> Volume:
    """Average whole blocks of voxels until no axis is much finer than `spacing`.

    The padding of a CBCT stays padding, and is cut off as far as whole slices hold nothing else.
    """
    volume = trim(volume) if is_cbct else volume  # most of a padded CBCT is padding: less to average
    factors = [max(1, int(spacing / s + 0.25)) for s in volume.spacing]  # i, j, k
    low, high = (float(volume.array.min()), float(volume.array.max())) if is_cbct else (0.0, 0.0)
    array = torch.empty([n // f for n, f in zip(volume.array.shape, factors[::-1], strict=True)])
    for part in slabs((len(array) * factors[2], *volume.array.shape[1:]), factors[2]):  # some slices at a time
        slab = volume.array[part].float()
        slab = _data_means(slab, low, high, factors) if is_cbct else pool(slab.clamp(min=-1024), factors)
        array[part.start // factors[2] :][: len(slab)] = slab
    factors = np.array(factors)
    origin = volume.origin + volume.direction @ (volume.spacing * (factors - 1) / 2)
    small = Volume(array, volume.spacing * factors, origin, volume.direction)
    return trim(small) if is_cbct else small


def _data_means(array: torch.Tensor, low: float, high: float, factors) -> torch.Tensor:
    """Means of a CBCT's blocks over what is no padding (`low`), and `low` where most of a block is padding."""
    least = 1.0 if high - low > 200 else (high - low) * 1e-3  # what lifts data above padding, in any unit
    inside = (array > low + 1e-3 * least).float()
    weight = pool(inside, factors)
    mean = pool(array * inside, factors) / weight.clamp(min=1e-6)
    return torch.where(weight > 0.5, mean.clamp(min=low + least), torch.tensor(low))


def pool(array: torch.Tensor, factors) -> torch.Tensor:
    """Means of whole blocks of (fi, fj, fk) voxels; what is left over at the ends is dropped."""
    return F.avg_pool3d(array[None, None], tuple(int(f) for f in factors[::-1]))[0, 0] if max(factors) > 1 else array


def trim(volume: Volume, border: int = 1) -> Volume:
    """Cut away what is padding only (the lowest value), leaving `border` voxels of it."""
    low, high = float(volume.array.min()), float(volume.array.max())
    least = low + (1e-3 if high - low > 200 else 1e-6 * (high - low))
    flat = volume.array.amax(0) > least
    spans = []
    for hit in (volume.array.amax((1, 2)) > least, flat.any(1), flat.any(0)):
        at = torch.nonzero(hit)
        spans.append((max(int(at[0]) - border, 0), min(int(at[-1]) + border + 1, len(hit))))
    (k0, k1), (j0, j1), (i0, i1) = spans
    origin = volume.affine[:3, :3] @ np.array([i0, j0, k0], dtype=float) + volume.origin
    return Volume(volume.array[k0:k1, j0:j1, i0:i1].contiguous(), volume.spacing, origin, volume.direction)


def overlap(fixed: Volume, moving: Volume, pose: np.ndarray) -> float:
    """Share of the fixed field of view that lies inside the moving volume's grid at `pose`."""
    stride = [max(1, int(8 / s)) for s in fixed.spacing]
    thin = Volume(fixed.array[:: stride[2], :: stride[1], :: stride[0]], fixed.spacing * stride)
    return share_inside(fixed, moving, pose, np.argwhere(field_of_view(thin).numpy())[:, ::-1] * stride)


def share_inside(fixed: Volume, moving: Volume, pose: np.ndarray, index: np.ndarray) -> float:
    """Share of voxels (n, 3), i, j, k of `fixed`, that lie inside the moving volume's grid at `pose`; 0 of none."""
    world = rigid.apply(rigid.invert(pose) @ fixed.affine, index.astype(np.float64))
    place = rigid.apply(np.linalg.inv(moving.affine), world)
    inside = ((place >= -0.5) & (place <= np.array(moving.size) - 0.5)).all(axis=1)
    return float(inside.mean()) if len(index) else 0.0


class Likeness:
    """Correlation of local contrast (`lib.images.normalise`) between the fixed image and the moved one, -1 to 1.

    Looked at on a lattice of `size`^3 points, `step` mm apart, around `centre` (3,) in fixed world, where both images have
    data; with `bone`, only where the CT has bone, or beside it: bowel and kidneys have moved since the CT, and without
    them the next vertebra is told from the right one. Both images are prepared once; a pose then costs a look-up.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        centre,
        bone: bool = True,
        voxel: float = 4.0,
        step: float = 5.0,
        size: int = 40,
    ):
        from lib.images.volume import sample

        steps = (np.arange(size) - (size - 1) / 2) * step
        lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        points = lattice + np.asarray(centre)
        still = sample(_codes(fixed, True, voxel), torch.as_tensor(points, dtype=torch.float32), fill=-128.0)
        seen = still > -127.5
        self.points, self.still = points[seen.numpy()], still[seen]
        self.moving, self._sample = _codes(moving, False, voxel), sample
        self.where = near_bone(moving, voxel) if bone else self.moving.with_array(torch.ones_like(self.moving.array))

    def __call__(self, poses: np.ndarray, least: float = 0.1, fewest: int = 200, weighed: bool = False) -> np.ndarray:
        """Likeness (n,) at poses (n, 4, 4); NaN where less than the share `least` of the fixed points meets the CT, or
        too few of them (`fewest`) can be compared. weighed: times the root of the share that is compared, for among
        thousands of poses the most alike by chance has few points."""
        found = np.full(len(poses), np.nan)
        for k, pose in enumerate(poses):
            there = torch.as_tensor(rigid.apply(rigid.invert(pose), self.points), dtype=torch.float32)
            place = self._sample(self.where, there, fill=-1.0, mode="nearest")
            if len(place) == 0 or (place > -0.5).float().mean() < least:
                continue
            moved = self._sample(self.moving, there[place > 0.5], fill=-128.0)
            both = moved > -127.5
            if both.sum() < fewest:
                continue
            pair = torch.stack([self.still[place > 0.5][both], moved[both]])
            found[k] = float(torch.corrcoef(pair)[0, 1]) if pair.std(dim=1).min() > 1 else 0.0
            found[k] *= (float(both.sum()) / len(place)) ** 0.5 if weighed else 1.0
        return found


def near_bone(ct: Volume, voxel: float) -> Volume:
    """1 where a CT, in HU, exceeds 200 or a neighbour (`voxel` mm) does, else 0."""
    small = resample(ct, voxel)
    return small.with_array(F.max_pool3d((small.array > 200).float()[None, None], 3, 1, 1)[0, 0])


def _codes(volume: Volume, is_cbct: bool, voxel: float) -> Volume:
    """The normalised image as a Volume of its codes; -128 where there is no data."""
    source = prepare(volume, is_cbct, voxel)
    spacing = np.linalg.norm(source.affine[:3, :3], axis=0)
    return Volume(source.codes.float(), spacing, source.affine[:3, 3], source.affine[:3, :3] / spacing)


def resample_moving(fixed: Volume, moving: Volume, pose: np.ndarray) -> Volume:
    """The moving image at `pose` (moving -> fixed), -1000 outside, on the grid of the fixed file in its own order of axes
    (of the fixed volume, where it was not read from a file); through ITK, once, a few slices at a time."""
    import SimpleITK as sitk

    from lib.images.volume import AIR, to_sitk

    inverse = rigid.invert(np.asarray(pose, dtype=np.float64))
    transform = sitk.AffineTransform([float(x) for x in inverse[:3, :3].ravel()], [float(x) for x in inverse[:3, 3]])
    size, grid = fixed.size, fixed
    if fixed.given is not None:
        g = fixed.given
        size, grid = g.size, Volume(torch.zeros(1, 1, 1), g.spacing, g.origin, g.direction)
    kind = np.int16 if moving.array.dtype == torch.int16 else np.float32
    whole = to_sitk(moving, kind) if moving.array.numel() < 2**26 else None
    moved = np.empty([int(n) for n in size[::-1]], kind)
    direction, spacing = [float(x) for x in grid.direction.ravel()], [float(x) for x in grid.spacing]
    for part in slabs(moved.shape):
        origin = (grid.affine @ [0, 0, part.start, 1])[:3]
        shape = [int(size[0]), int(size[1]), part.stop - part.start]
        there = Volume(torch.zeros(1, 1, 1), grid.spacing, origin, grid.direction)
        image = whole or to_sitk(_part(moving, there, shape, inverse), kind)
        slab = sitk.Resample(image, shape, transform, sitk.sitkLinear, list(origin), spacing, direction, AIR)
        moved[part] = sitk.GetArrayViewFromImage(slab)
    return Volume(torch.from_numpy(moved), grid.spacing, grid.origin, grid.direction)


def _part(moving: Volume, grid: Volume, size, inverse: np.ndarray) -> Volume:
    """The part of a moving volume that a grid of `size` meets."""
    corners = np.array(np.meshgrid(*[(-1.0, n) for n in size])).reshape(3, -1).T
    index = rigid.apply(np.linalg.inv(moving.affine) @ inverse @ grid.affine, corners)
    first = np.clip(np.floor(index.min(axis=0)).astype(int) - 1, 0, np.array(moving.size) - 2)
    last = np.clip(np.ceil(index.max(axis=0)).astype(int) + 2, first + 2, moving.size)
    (i0, j0, k0), (i1, j1, k1) = first, last
    origin = (moving.affine @ [i0, j0, k0, 1])[:3]
    return Volume(moving.array[k0:k1, j0:j1, i0:i1], moving.spacing, origin, moving.direction)
