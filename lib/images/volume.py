"""A volume: a tensor with its place in the world (LPS millimetres), sampling, and ITK transforms in and out.

NIfTI's RAS is converted at the door by ITK. A pose maps moving world points to fixed world points; the
transform files we write map *fixed* to *moving*, as ITK, elastix, ANTs and 3D Slicer expect.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lib.base.errors import UserError
from lib.base.provenance import atomic
from lib.images.given import Given
from lib.images.transforms import read_transform, write_transform

AIR = -1000.0
__all__ = ["AIR", "Given", "Volume", "read_transform", "write_transform"]


@dataclass
class Volume:
    """`array` (nz, ny, nx), indexed [k, j, i], float32 (int16 where it was read so: `lib.images.read`); spacing, origin (3,)
    in mm; direction (3, 3), columns = i, j, k."""

    array: torch.Tensor
    spacing: np.ndarray = field(default_factory=lambda: np.ones(3))
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    given: Given | None = None  # the file it was read from, where it was

    def __post_init__(self):
        self.spacing = np.broadcast_to(np.asarray(self.spacing, dtype=np.float64), (3,)).copy()
        self.origin = np.asarray(self.origin, dtype=np.float64)
        self.direction = np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4): voxel index (i, j, k, 1) -> world."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * self.spacing
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def size(self) -> tuple[int, int, int]:
        """(nx, ny, nz)."""
        return tuple(self.array.shape[::-1])

    @property
    def centre(self) -> np.ndarray:
        """World position of the middle of the grid."""
        return self.affine[:3, :3] @ ((np.array(self.size) - 1) / 2) + self.origin

    def with_array(self, array: torch.Tensor) -> Volume:
        """The same place in the world with another array of the same shape."""
        return replace(self, array=array)

    def points(self) -> torch.Tensor:
        """World positions of all voxels, (nz, ny, nx, 3) float32."""
        k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in self.array.shape), indexing="ij")
        affine = torch.as_tensor(self.affine, dtype=torch.float32)
        return torch.stack([i, j, k], dim=-1) @ affine[:3, :3].T + affine[:3, 3]


def sample(volume: Volume, points: torch.Tensor, fill: float = AIR, mode: str = "linear") -> torch.Tensor:
    """Values at world points (..., 3); `fill` outside the grid. mode: "linear" or "nearest"."""
    to_index = torch.as_tensor(np.linalg.inv(volume.affine), dtype=torch.float32, device=volume.array.device)
    index = points.to(to_index) @ to_index[:3, :3].T + to_index[:3, 3]
    size = torch.tensor(volume.size, dtype=torch.float32, device=index.device)
    grid = (2 * index / (size - 1).clamp(min=1) - 1).reshape(1, 1, 1, -1, 3)
    kind = "bilinear" if mode == "linear" else "nearest"
    source = (volume.array.float() - fill)[None, None]
    values = F.grid_sample(source, grid, mode=kind, padding_mode="zeros", align_corners=True)
    inside = ((index >= -0.5) & (index <= size - 0.5)).all(-1)
    return torch.where(inside, values.reshape(points.shape[:-1]) + fill, torch.tensor(fill, device=index.device))


def along(array: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """Apply a (n_out, n_in) matrix along axis 0 = i, 1 = j, 2 = k of (nz, ny, nx). A dense product beats any gather."""
    matrix = matrix.to(array.device)
    if axis == 0:
        return array @ matrix.T
    if axis == 1:
        return matrix @ array
    return (matrix @ array.reshape(array.shape[0], -1)).reshape(-1, *array.shape[1:])


def linear_rows(target: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """(len(target), len(knots)) weights of linear interpolation between equidistant `knots`; held constant outside."""
    step = knots[1] - knots[0] if len(knots) > 1 else 1.0
    return (1 - (target.clamp(knots[0], knots[-1])[:, None] - knots).abs() / step).clamp(min=0)


def gaussian_rows(distance: torch.Tensor, sigma: float) -> torch.Tensor:
    """Rows of Gaussian weights summing to one; cut at the edges of the grid, so that nothing bleeds in from outside."""
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    weights = weights.where(
        weights > 1e-6, torch.zeros((), dtype=weights.dtype)
    )  # denormals would cost a factor of ten
    return weights / weights.sum(dim=1, keepdim=True)


def resample(volume: Volume, spacing) -> Volume:
    """Resampling to `spacing` mm on the same axes, anti-aliased where it gets coarser, linear where it gets finer.

    The corner of the grid (not the centre of its first voxel) stays where it was.
    """
    spacing = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,)).copy()
    if np.allclose(spacing, volume.spacing):
        return volume
    array = volume.array.float()
    for axis in np.argsort(volume.spacing / spacing):
        old, new, n = volume.spacing[axis], spacing[axis], volume.size[axis]
        count = max(int(n * old / new + 1e-6), 1)
        target = (torch.arange(count, dtype=torch.float64) + 0.5) * new
        at = (torch.arange(n, dtype=torch.float64) + 0.5) * old
        distance = target.clamp(float(at[0]), float(at[-1]))[:, None] - at
        matrix = gaussian_rows(distance, 0.42 * new) if new > 1.2 * old else linear_rows(target, at)
        array = along(array, matrix.float(), int(axis))
    corner = volume.origin - volume.direction @ (volume.spacing / 2)
    return Volume(array, spacing, corner + volume.direction @ (spacing / 2), volume.direction)


def gaussian(array: torch.Tensor, sigma) -> torch.Tensor:
    """Separable Gaussian smoothing of (nz, ny, nx); sigma (3,) in voxels along i, j, k."""
    out = array.float()
    for axis, s in enumerate(np.broadcast_to(np.asarray(sigma, dtype=np.float64), (3,))):
        if s >= 0.1:
            index = torch.arange(out.shape[2 - axis], dtype=torch.float32)
            out = along(out, gaussian_rows(index[:, None] - index, float(s)), axis)
    return out


def from_sitk(image) -> Volume:
    """A SimpleITK image (3-D) as a Volume."""
    import SimpleITK as sitk

    array = torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.float32))
    return Volume(array, image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))


def to_sitk(volume: Volume, dtype=np.float32):
    """A Volume as a SimpleITK image of `dtype`."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.cpu().numpy().astype(dtype, copy=False)))
    image.SetSpacing([float(s) for s in volume.spacing])
    image.SetOrigin([float(o) for o in volume.origin])
    image.SetDirection([float(d) for d in volume.direction.ravel()])
    return image


def read(path) -> Volume:
    """Read any 3-D image SimpleITK reads (NIfTI, MHA, NRRD). Raises UserError. For scanners' files see `lib.images.read`."""
    import SimpleITK as sitk

    if not Path(path).exists():
        raise UserError(f"{path}: no such file; check the path.")
    try:
        return from_sitk(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise UserError(f"{path}: not a readable 3-D image ({str(error).strip().splitlines()[-1]}).") from None


def write(volume: Volume, path, dtype=np.int16) -> None:
    """Write NIfTI, MHA or NRRD by the file name. Raises UserError where it cannot be written."""
    import SimpleITK as sitk

    array = volume.array.round() if np.issubdtype(dtype, np.integer) else volume.array
    try:
        with atomic(path) as temporary:
            sitk.WriteImage(to_sitk(volume.with_array(array), dtype), str(temporary), useCompression=True)
            _check_complete(temporary, array.numel() * np.dtype(dtype).itemsize)
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path}: could not be written ({str(error).strip().splitlines()[-1]}).") from None


def _check_complete(path: Path, voxels: int) -> None:
    """Raises OSError unless a NIfTI file holds `voxels` bytes of voxels: it is written to a full disk without a word."""
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    size = path.stat().st_size
    if path.suffix == ".gz":  # ends with the size of what is in it, but for multiples of 4 GB
        with open(path, "rb") as file:
            file.seek(max(0, size - 4))
            size = int.from_bytes(file.read(), "little")
    if not 0 <= (size - voxels) % 2**32 < 4096:  # the header
        raise OSError(f"{path.name} is incomplete")
