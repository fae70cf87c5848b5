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

from lib.images.normalise import OUTSIDE, Source


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


def _coordinates(matrices: torch.Tensor, window: int, voxel: float) -> list[torch.Tensor]:
    """Source index along i, j, k for every window voxel: three tensors (n, w, w, w) [k, j, i], float32."""
    offsets = (torch.arange(window, device=matrices.device, dtype=torch.float32) - (window - 1) / 2) * voxel
    found = []
    for row in range(3):
        m = matrices[:, row].to(torch.float32)
        i, j, k = (m[:, axis, None] * offsets for axis in range(3))
        plane = (k + m[:, 3:4])[:, :, None, None] + j[:, None, :, None]  # one full-size pass per axis, not three
        found.append(plane + i[:, None, None, :])
    return found


def _wide(values: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    return values.to(dtype)[:, None, None, None]


def cut(
    bank: SourceBank,
    which: torch.Tensor,
    matrices: torch.Tensor,
    window: int,
    voxel: float,
    linear: bool = True,
    z_range: torch.Tensor | None = None,
):
    """Windows from sources `which` (n,) through `matrices` (n, 4, 4): values float32 (0 where invalid), valid bool, (n, w, w, w).

    z_range (n, 2): slices of the source, in its index, outside which it is taken to have no data (cropped ends).
    """
    coordinates = _coordinates(matrices, window, voxel)
    sizes = bank.sizes[which]
    if z_range is not None:
        z = coordinates[2]
        z.masked_fill_((z < _wide(z_range[:, 0])) | (z > _wide(z_range[:, 1])), 0.0)
    codes = _nearest(bank, which, sizes, [c.clone() if linear else c for c in coordinates])
    valid = codes != OUTSIDE
    values = _linear(bank, which, sizes, coordinates) if linear else codes.float().mul_(1 / 127)
    return values.mul_(valid), valid


def _index(bank, which, sizes, x, y, z) -> torch.Tensor:
    """Where in the flat buffer integer positions lie that are given as float tensors."""
    integer = torch.int32 if bank.codes.numel() < 2**31 else torch.int64
    index = z.to(integer).mul_(_wide(sizes[:, 1], integer)).add_(y.to(integer))
    return index.mul_(_wide(sizes[:, 0], integer)).add_(x.to(integer)).add_(_wide(bank.starts[which], integer))


def _fetch(bank, index) -> torch.Tensor:
    """int8 codes at places of the flat buffer."""
    return bank.codes.index_select(0, index.view(-1)).view(index.shape)


def _inside(v, high) -> torch.Tensor:
    """Index along one axis clamped to the source, in place; in two passes, since `clamp` with tensors is far slower."""
    return torch.minimum(v.clamp_(min=0), _wide(high), out=v)


def _nearest(bank, which, sizes, coordinates) -> torch.Tensor:
    for axis, v in enumerate(coordinates):
        _inside(v.round_(), sizes[:, axis] - 1)
    return _fetch(bank, _index(bank, which, sizes, *coordinates))


def _linear(bank, which, sizes, coordinates) -> torch.Tensor:
    """Trilinear, over the corners that have data."""
    low, part = [], []
    for axis, v in enumerate(coordinates):
        _inside(v, sizes[:, axis] - 1.001)
        low.append(v.floor())
        part.append(v - low[-1])
    total, weights = torch.zeros_like(part[0]), torch.zeros_like(part[0])
    first = _index(bank, which, sizes, *low)
    row, plane = (_wide(n, first.dtype) for n in (sizes[:, 0], sizes[:, 0] * sizes[:, 1]))
    for corner in range(8):
        bits = [(corner >> a) & 1 for a in range(3)]
        codes = _fetch(bank, first + bits[0] + bits[1] * row + bits[2] * plane)
        weight = torch.ones_like(total)
        for f, b in zip(part, bits, strict=False):
            weight = weight * (f if b else 1 - f)
        weight.masked_fill_(codes == OUTSIDE, 0.0)
        total.addcmul_(weight, codes.float())
        weights += weight
    return total.div_(weights.clamp_(min=1e-3).mul_(127))
