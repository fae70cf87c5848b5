"""Cutting windows: one gather from a normalised source volume through one composed 4x4, on CPU or GPU alike.

A window is a cube of w^3 voxels. `matrices` map window coordinates (mm, centred at the window) to the *source index*;
everything between (pose, affine co-deformation, the patient's truth, the voxel grid) is composed into them first, so
that each window is interpolated exactly once. Sources carry a border of OUTSIDE voxels: clamping an index to the
border marks it as "no data", and no separate mask is needed.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.normalise import OUTSIDE, Source


@dataclass
class SourceBank:
    """Many sources in one flat buffer, so that one gather serves a batch drawn from many patients."""

    codes: torch.Tensor  # int8, all sources one after the other
    starts: torch.Tensor  # (n,) int64, where each begins
    sizes: torch.Tensor  # (n, 3) nx, ny, nz including the border
    to_index: torch.Tensor  # (n, 4, 4) world -> index

    @classmethod
    def of(cls, sources: list[Source], device="cpu") -> SourceBank:
        lengths = torch.tensor([s.codes.numel() for s in sources])
        return cls(
            torch.cat([s.codes.reshape(-1) for s in sources]).to(device),
            (lengths.cumsum(0) - lengths).to(device),
            torch.tensor([list(s.codes.shape[::-1]) for s in sources]).to(device),
            torch.as_tensor(np.stack([np.linalg.inv(s.affine) for s in sources])).to(device),
        )


def _indices(matrices: torch.Tensor, window: int, voxel: float):
    """Source index along each axis for every window voxel: three tensors (n, w, w, w) [k, j, i], float32."""
    offsets = (torch.arange(window, device=matrices.device, dtype=torch.float32) - (window - 1) / 2) * voxel
    for row in range(3):
        m = matrices[:, row].to(torch.float32)
        i, j, k = (m[:, axis, None] * offsets for axis in range(3))
        yield (k + m[:, 3:4])[:, :, None, None] + j[:, None, :, None] + i[:, None, None, :]


def cut(bank: SourceBank, which: torch.Tensor, matrices: torch.Tensor, window: int, voxel: float,
        linear: bool = True, z_range: torch.Tensor | None = None):  # fmt: skip
    """Windows from sources `which` (n,) through `matrices` (n, 4, 4): values float32 and valid bool, (n, w, w, w).

    z_range (n, 2): slices of the source, in its index, outside which it is taken to have no data (cropped ends).
    """
    x, y, z = _indices(matrices, window, voxel)
    nx, ny, nz = (bank.sizes[which, a].to(torch.float32)[:, None, None, None] for a in range(3))
    start = bank.starts[which][:, None, None, None]
    if z_range is not None:
        keep = (z >= z_range[:, 0, None, None, None]) & (z <= z_range[:, 1, None, None, None])
        z = torch.where(keep, z, torch.zeros_like(z))
    small = bank.codes.numel() < 2**31
    integer = torch.int32 if small else torch.int64

    def fetch(xi, yi, zi):
        index = (zi.to(integer) * ny.to(integer) + yi.to(integer)) * nx.to(integer) + xi.to(integer)
        index += start.to(integer)
        return bank.codes.index_select(0, index.reshape(-1)).reshape(index.shape)

    def clamped(v, n):
        return torch.minimum(v.clamp_(min=0), n - 1)

    nearest = fetch(*(clamped(v.round(), n) for v, n in ((x, nx), (y, ny), (z, nz))))
    valid = nearest != OUTSIDE
    if not linear:
        return torch.where(valid, nearest, 0).float() / 127, valid
    low, frac = [], []
    for v, n in ((x, nx), (y, ny), (z, nz)):
        v = torch.minimum(v.clamp(min=0), n - 1.001)
        low.append(v.floor())
        frac.append(v - low[-1])
    total = torch.zeros_like(x)
    weight_sum = torch.zeros_like(x)
    for corner in range(8):
        bits = [(corner >> a) & 1 for a in range(3)]
        code = fetch(*(lo + b for lo, b in zip(low, bits)))
        weight = torch.ones_like(x)
        for f, b in zip(frac, bits):
            weight = weight * (f if b else 1 - f)
        weight = torch.where(code == OUTSIDE, 0, weight)
        total += weight * code.float()
        weight_sum += weight
    values = total / weight_sum.clamp(min=1e-3) / 127
    return torch.where(valid, values, 0), valid
