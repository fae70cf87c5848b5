"""The 2-D problem of Fig. 4, first half: image pairs cut from aligned volumes, and what the agent sees of them.

A pair is a random oblique plane (MPR) through the CBCT's field of view, cut from both aligned volumes; the moving image
is cut larger than the window, so that it can be moved under it. Both are normalised as in 3-D.

Plane coordinates: (x, y) mm from the window's centre. A 2-D pose T (3x3) maps *moving* plane points to *fixed* plane
points, and rotates about the window's centre. Pairs are cut aligned, so T_g = identity and the residual of the state is
V = T_g T^-1 = T^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.base.errors import UserError
from lib.base.provenance import atomic
from lib.images.normalise import OUTSIDE, field_of_view_centre, prepare
from lib.images.volume import Volume, sample
from lib.network import observe

MARGIN = 1.5  # edge of the moving image over edge of the window


@dataclass
class Pairs:
    """Aligned pairs as int8 codes (value * 127; OUTSIDE where there is no data), `spacing` mm a pixel.

    fixed: (p, w, w); moving: (p, m, m), m about 1.5 w, same centre; both indexed [y, x].
    patient: (p,) which patient a pair came from.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    patient: torch.Tensor
    spacing: float

    def __len__(self):
        return len(self.fixed)

    def to(self, device) -> Pairs:
        """The same pairs on another device."""
        return Pairs(self.fixed.to(device), self.moving.to(device), self.patient.to(device), self.spacing)


def plane(edge: int, spacing: float) -> torch.Tensor:
    """(edge, edge, 2): the (x, y) of each pixel, mm from the centre, indexed [y, x]."""
    axis = (torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2) * spacing
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation (3, 3) drawn uniformly; its first two columns span the plane."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def _cut(values: Volume, mask: Volume, points: np.ndarray) -> torch.Tensor:
    """int8 codes of a prepared volume at world points (..., 3)."""
    points = torch.as_tensor(points, dtype=torch.float32)
    inside = sample(mask, points, fill=0.0) > 0.5
    codes = (sample(values, points, fill=0.0) * 127).round().clamp(-127, 127).to(torch.int8)
    return torch.where(inside, codes, torch.tensor(OUTSIDE, dtype=torch.int8))


def _prepared(volume: Volume, is_cbct: bool, spacing: float) -> tuple[Volume, Volume]:
    source = prepare(volume, is_cbct, spacing)
    steps = np.linalg.norm(source.affine[:3, :3], axis=0)
    values = Volume(source.values, steps, source.affine[:3, 3], source.affine[:3, :3] / steps)
    return values, values.with_array((source.codes != OUTSIDE).float())


def cut_patient(patient, n: int, window: int, spacing: float, rng, jitter_mm=20.0, overlap=0.5) -> Pairs:
    """`n` planes of one patient (fixed, moving, truth), uniform in orientation, within `jitter_mm` of the centre.

    A plane is drawn again where both images cover less than `overlap` of the window. Raises UserError if hardly any
    plane does.
    """
    fixed, moving = _prepared(patient.fixed, True, spacing), _prepared(patient.moving, False, spacing)
    centre, to_moving = field_of_view_centre(patient.fixed), rigid.invert(np.asarray(patient.truth))
    edge = int(round(window * MARGIN / 2)) * 2
    small, large = plane(window, spacing).double().numpy(), plane(edge, spacing).double().numpy()
    border = (edge - window) // 2
    inner = slice(border, border + window)
    cuts = ([], [])
    for _ in range(20 * n + 100):
        axes = random_rotation(rng)[:, :2].T
        middle = centre + rng.uniform(-jitter_mm, jitter_mm, 3)
        a = _cut(*fixed, small @ axes + middle)
        b = _cut(*moving, rigid.apply(to_moving, (large @ axes + middle).reshape(-1, 3)).reshape(edge, edge, 3))
        both = (a != OUTSIDE) & (b[inner, inner] != OUTSIDE)
        if both.float().mean() >= overlap:
            cuts[0].append(a)
            cuts[1].append(b)
        if len(cuts[0]) == n:
            return Pairs(torch.stack(cuts[0]), torch.stack(cuts[1]), torch.zeros(n, dtype=torch.long), spacing)
    raise UserError(
        f"{getattr(patient, 'id', 'patient')}: CT and CBCT hardly overlap; lower drl.window or drl.spacing."
    )


def cut(patients, n: int, window: int, spacing: float, seed: int) -> Pairs:
    """`n` pairs, as evenly as possible over an iterable of `patients` (a list of callables or of patients)."""
    patients = list(patients)
    shares = [n // len(patients) + (k < n % len(patients)) for k in range(len(patients))]
    parts = []
    for k, (patient, share) in enumerate(zip(patients, shares, strict=True)):
        if share:
            part = cut_patient(
                patient() if callable(patient) else patient,
                share,
                window,
                spacing,
                np.random.default_rng([seed, k]),
            )
            part.patient[:] = k
            parts.append(part)
    join = [torch.cat([getattr(p, name) for p in parts]) for name in ("fixed", "moving", "patient")]
    return Pairs(*join, spacing)


def save(pairs: Pairs, path) -> None:
    """Write pairs as NPZ; atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            fixed=pairs.fixed.cpu(),
            moving=pairs.moving.cpu(),
            patient=pairs.patient.cpu(),
            spacing=pairs.spacing,
        )


def load(path) -> Pairs:
    """Pairs written by `save`. Raises UserError."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such image pairs; run notebook 09 from its top.")
    with np.load(path) as data:
        arrays = [torch.from_numpy(data[name]) for name in ("fixed", "moving", "patient")]
        return Pairs(*arrays, float(data["spacing"]))


def render(pairs: Pairs, rows: torch.Tensor, poses: torch.Tensor, observation: str = "difference") -> torch.Tensor:
    """What the agent sees: rows (n,) of the pairs, poses (n, 3, 3) moving -> fixed -> (n, channels, w, w).

    `moved` is the moved image alone, with no trace of the fixed one, not even where it has data.
    """
    window, edge = pairs.fixed.shape[-1], pairs.moving.shape[-1]
    points = plane(window, pairs.spacing).to(pairs.fixed.device)
    inverse = torch.linalg.inv(poses).float()
    moved_points = torch.einsum("nij,yxj->nyxi", inverse[:, :2, :2], points) + inverse[:, None, None, :2, 2]
    grid = moved_points * (2 / ((edge - 1) * pairs.spacing))
    codes = pairs.moving[rows]
    there = (codes != OUTSIDE).float()
    layers = F.grid_sample(torch.stack([codes.float() * there / 127, there], dim=1), grid, align_corners=True)
    if observation == "moved":
        return (layers[:, 0] * (layers[:, 1] > 0.5))[:, None]
    fixed = pairs.fixed[rows]
    valid = ((layers[:, 1] > 0.5) & (fixed != OUTSIDE)).float()
    return observe(fixed.float() / 127, layers[:, 0], valid, observation)
