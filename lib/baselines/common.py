"""The door between this project and the registration tools: images, masks and transforms, in and out.

Our poses map *moving* world points to *fixed* world points. ITK and everything built on it (SimpleITK,
elastix, ANTs, greedy) wants the resampling direction, *fixed* -> *moving*. Only this file turns one into
the other.
"""

from __future__ import annotations

import contextlib
import os
import zlib

import numpy as np
import torch

from lib import rigid
from lib.images import volume
from lib.images.volume import Volume

# One thread: the tools are reproducible only so, and two processes already share the cores.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")


@contextlib.contextmanager
def silence():
    """Nothing that a tool's compiled code prints reaches the terminal (its errors still raise)."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def generator(settings, rng: np.random.Generator | None) -> np.random.Generator:
    """The given generator, or one from the settings' seed."""
    return rng if rng is not None else np.random.default_rng(settings.seed)


def case_generator(settings, patient_id: str, start: int) -> np.random.Generator:
    """A generator of the case's own, so that its result does not depend on which cases ran before it."""
    return np.random.default_rng([settings.seed, zlib.crc32(patient_id.encode()), start])


def prepare(image: Volume, spacing: float, clamp: tuple[float, float]) -> Volume:
    """Clamped to `clamp` (HU) and brought to `spacing` mm, but never made finer. 0 leaves the grid as it
    is.
    """
    image = image.with_array(image.array.float().clamp(*clamp))
    if spacing <= 0 or np.all(image.spacing >= 0.99 * spacing):
        return image
    return volume.resample(image, np.maximum(image.spacing, spacing))


def seen(fixed: Volume, mask: torch.Tensor | None) -> torch.Tensor:
    """The field of view on the fixed grid: the mask given (nz, ny, nx), or everything that is not air
    padding.
    """
    return mask.bool() if mask is not None else fixed.array > volume.AIR + 1


def mask_on(fixed: Volume, mask: torch.Tensor | None, target: Volume) -> torch.Tensor:
    """`mask` (bool, on the grid of `fixed`) carried to the grid of `target`, nearest neighbour."""
    image = fixed.with_array(seen(fixed, mask).float())
    return volume.sample(image, target.points(), fill=0.0, mode="nearest") > 0.5


def mask_centre(fixed: Volume, mask: torch.Tensor | None) -> np.ndarray:
    """World centre (3,) of the field of view's bounding box: where rotations turn about."""
    index = torch.nonzero(seen(fixed, mask))
    if len(index) == 0:
        return fixed.centre
    middle = (index.min(0).values + index.max(0).values).double().numpy()[::-1] / 2
    return fixed.affine[:3, :3] @ middle + fixed.origin


def crop(image: Volume, mask: torch.Tensor, margin: int = 2) -> tuple[Volume, torch.Tensor]:
    """Image and mask cut to the mask's bounding box: the air around a CBCT costs time and tells nothing."""
    index = torch.nonzero(mask)
    if len(index) == 0:
        return image, mask
    low = (index.min(0).values - margin).clamp(min=0).tolist()
    high = [min(int(h) + margin + 1, n) for h, n in zip(index.max(0).values, mask.shape, strict=True)]
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    origin = image.affine[:3, :3] @ np.array(low[::-1], dtype=np.float64) + image.origin
    return Volume(image.array[part].contiguous(), image.spacing, origin, image.direction), mask[part].contiguous()


def points_of(image: Volume, mask: torch.Tensor, count: int, rng: np.random.Generator):
    """At most `count` voxels of the mask: world points (n, 3) float32 and their values (n,)."""
    index = torch.nonzero(mask.reshape(-1))[:, 0]
    if len(index) > count:
        index = index[torch.as_tensor(np.sort(rng.choice(len(index), count, replace=False)))]
    nz, ny, nx = image.array.shape
    ijk = torch.stack([index % nx, (index // nx) % ny, index // (nx * ny)], dim=1).double()
    affine = torch.as_tensor(image.affine)
    return (ijk @ affine[:3, :3].T + affine[:3, 3]).float(), image.array.reshape(-1)[index].float()


def inside(moving: Volume, points: torch.Tensor) -> torch.Tensor:
    """Which moving-world points (n, 3) lie on the moving grid."""
    to_index = torch.as_tensor(np.linalg.inv(moving.affine), dtype=torch.float32)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    return ((index >= -0.5) & (index <= torch.tensor(moving.size) - 0.5)).all(-1)


def pull(moving: Volume, pose: np.ndarray, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Moving image seen at fixed-world points (n, 3) under `pose`: values (n,) and which points have any."""
    there = torch.as_tensor(rigid.invert(np.asarray(pose, dtype=np.float64)), dtype=torch.float64)
    points = (points.double() @ there[:3, :3].T + there[:3, 3]).float()
    return volume.sample(moving, points), inside(moving, points)


def normalised_mi(a: torch.Tensor, b: torch.Tensor, bins: int = 32) -> float:
    """Mutual information over the joint entropy (0..1) of two lists of values: comparable between
    different regions, as plain mutual information is not. Values are cut at their 1st and 99th
    percentiles.
    """
    if len(a) < 100:
        return 0.0
    return joint_score(bin_indices(a, a, bins), bin_indices(b, b, bins), bins)


def bin_indices(values: torch.Tensor, typical: torch.Tensor, bins: int) -> torch.Tensor:
    """Histogram bins of `values` (n,), laid between the 1st and 99th percentiles of the values `typical`."""
    low, high = torch.quantile(typical.float(), torch.tensor([0.01, 0.99])).tolist()
    return ((values - low) / max(high - low, 1e-6) * bins).long().clamp(0, bins - 1)


def joint_score(a: torch.Tensor, b: torch.Tensor, bins: int) -> float:
    """Mutual information over joint entropy of two lists of bins (n,)."""
    joint = torch.bincount(a * bins + b, minlength=bins * bins).double().reshape(bins, bins)
    joint = joint / max(float(joint.sum()), 1.0)
    together, apart = _entropy(joint), _entropy(joint.sum(0)) + _entropy(joint.sum(1))
    return (apart - together) / max(together, 1e-9)


def _entropy(p: torch.Tensor) -> float:
    return float(-torch.special.xlogy(p, p).sum())


# --- transforms -----------------------------------------------------------------------------------


def to_versor(pose: np.ndarray, centre: np.ndarray):
    """Pose (moving -> fixed) as SimpleITK's VersorRigid3DTransform (fixed -> moving) about `centre`
    (fixed world).
    """
    import SimpleITK as sitk

    inverse = rigid.orthogonal(rigid.invert(pose))
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter([float(c) for c in centre])
    transform.SetMatrix([float(m) for m in inverse[:3, :3].ravel()], 1e-6)
    offset = inverse[:3, 3] + inverse[:3, :3] @ centre - centre
    transform.SetTranslation([float(t) for t in offset])
    return transform


def from_mapping(transform_point) -> np.ndarray:
    """Pose (moving -> fixed) from a tool's function that maps one fixed point (3,) to its moving point
    (3,).
    """
    origin = np.array(transform_point((0.0, 0.0, 0.0)))
    # Far probes: a tool may keep its transform in single precision.
    columns = [(np.array(transform_point(tuple(1000.0 * e))) - origin) / 1000.0 for e in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
    return rigid.invert(rigid.orthogonal(matrix))


def moved_origin(moving: Volume, pose: np.ndarray) -> Volume:
    """The moving image laid into the fixed world by `pose`, without resampling: only its origin and axes
    turn.

    For tools that start best from the identity. A pose P found from there means `P @ pose` for the image
    itself.
    """
    pose = rigid.orthogonal(pose)
    return Volume(
        moving.array,
        moving.spacing,
        rigid.apply(pose, moving.origin[None])[0],
        pose[:3, :3] @ moving.direction,
    )


# --- images ---------------------------------------------------------------------------------------


def to_itk(image: Volume, dtype=np.float32):
    """A Volume as an ITK (not SimpleITK) image, for elastix."""
    import itk

    out = itk.image_from_array(np.ascontiguousarray(image.array.numpy().astype(dtype)))
    out.SetSpacing([float(s) for s in image.spacing])
    out.SetOrigin([float(o) for o in image.origin])
    out.SetDirection(itk.matrix_from_array(np.ascontiguousarray(image.direction)))
    return out


def to_ants(image: Volume):
    """A Volume as an ANTs image: LPS as ITK, array indexed [i, j, k]."""
    import ants

    return ants.from_numpy(
        np.ascontiguousarray(image.array.numpy().astype(np.float32).transpose(2, 1, 0)),
        origin=[float(o) for o in image.origin],
        spacing=[float(s) for s in image.spacing],
        direction=np.array(image.direction, dtype=np.float64),
    )
