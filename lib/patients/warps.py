"""Smooth random warps of a body, and how a smooth volume is read on a grid along L, P, S."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.images.volume import Volume, gaussian, sample

MARGIN = 60.0  # mm by which the elastic field reaches beyond the body


@dataclass
class Warp:
    """phi: points of the new body -> points of the old one. `field`: three volumes of displacement, mm."""

    centre: np.ndarray
    matrix: np.ndarray  # (3, 3), A M
    field: list[Volume]

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        matrix, centre = (torch.as_tensor(a, dtype=torch.float32) for a in (self.matrix, self.centre))
        moved = (points - centre) @ matrix.T + centre
        return moved + torch.stack([sample(f, points, fill=0.0) for f in self.field], dim=-1)

    def of_grid(self, grid: Volume) -> torch.Tensor:
        """phi of all voxels of a grid along L, P, S, (nz, ny, nx, 3): as `__call__`, many times faster."""
        matrix, centre = (torch.as_tensor(a, dtype=torch.float32) for a in (self.matrix, self.centre))
        x, y, z = (torch.from_numpy(a) for a in axes(grid))
        old = [m[0] * (x - centre[0]) + m[1] * (y - centre[1]) + m[2] * (z - centre[2]) for m in matrix]
        return torch.stack([o + c + on_grid(f, grid) for o, c, f in zip(old, centre, self.field, strict=True)], dim=-1)

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """Where old points (n, 3) lie in the new body; Newton-like iteration, to well below 0.1 mm."""
        old, back = np.asarray(points, dtype=np.float64), np.linalg.inv(self.matrix)
        new = (old - self.centre) @ back.T + self.centre
        for _ in range(30):
            new = new + (old - self(torch.as_tensor(new, dtype=torch.float32)).numpy()) @ back.T
        return new


def random_warp(box, rng, size=8.0, wavelength=90.0, affine=0.12, mirror=True) -> Warp:
    """A warp of the box (low, high). `size` mm: the field's standard deviation times two, about its peak."""
    low, high = (np.asarray(b, dtype=np.float64) for b in box)
    matrix = np.eye(3) + rng.uniform(-affine, affine, (3, 3))
    if mirror and rng.random() < 0.5:
        matrix = matrix @ np.diag([-1.0, 1, 1])
    return Warp((low + high) / 2, matrix, smooth_field(low, high, rng, size / 2, wavelength, 3))


def smooth_field(low, high, rng, deviation: float, wavelength: float, count: int) -> list[Volume]:
    """`count` smooth random volumes over a box, with waves of `wavelength` mm or longer."""
    step = wavelength / 6
    shape = np.ceil((high - low + 2 * MARGIN) / step).astype(int)[::-1] + 1
    fields = []
    for _ in range(count):
        noise = gaussian(torch.from_numpy(rng.standard_normal(shape).astype(np.float32)), (1.5, 1.5, 1.5))
        fields.append(Volume(noise * (deviation / float(noise.std())), step, low - MARGIN))
    return fields


def axes(grid: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World positions along L (1, 1, nx), P (1, ny, 1), S (nz, 1, 1) of a grid whose direction is the identity."""
    x, y, z = (
        (o + s * np.arange(n)).astype(np.float32) for o, s, n in zip(grid.origin, grid.spacing, grid.size, strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def on_grid(smooth: Volume, grid: Volume) -> torch.Tensor:
    """A volume along L, P, S linearly interpolated on such a grid, one axis after the other."""
    array = smooth.array
    for axis, positions in zip((2, 1, 0), axes(grid), strict=True):
        last = array.shape[axis] - 1
        where = torch.from_numpy((positions.ravel() - smooth.origin[2 - axis]) / smooth.spacing[2 - axis]).clamp(
            0, last
        )
        low = where.long().clamp(max=last - 1)
        part = (where - low).float().reshape([-1 if dim == axis else 1 for dim in range(3)])
        array = array.index_select(axis, low) * (1 - part) + array.index_select(axis, low + 1) * part
    return array


def clamp_ends(points: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Repeat the old scan's end slices where the new body reaches past them."""
    points[..., 2] = points[..., 2].clamp(float(low) + 1e-3, float(high) - 1e-3)
    return points
