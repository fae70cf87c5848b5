"""What a CBCT would find changed since the CT: contrast, gas, the table, where breathing has left the organs, the heart's
beat. Bodies are volumes along L, P, S, in HU.
"""

from __future__ import annotations

import numpy as np
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import AIR, Volume, gaussian, sample
from lib.patients.anatomy import Anatomy
from lib.patients.warps import Warp, axes, clamp_ends, on_grid, smooth_field


def recolour(volume: Volume, labels: torch.Tensor | None, rng, bone: float) -> Volume:
    """Other grey values: a smooth shift of soft tissue, a shift for each labelled organ, weaker or stronger bone."""
    hu = volume.array
    low, high = volume.origin, volume.origin + volume.spacing * np.array(volume.size)
    field = smooth_field(low, high, rng, rng.uniform(3, 12), 100.0, 1)[0]
    soft = ((hu > -180) & (hu < 300)).float()
    shift = on_grid(field, volume)
    if labels is not None:
        table = torch.from_numpy(rng.normal(0, 22, int(labels.max()) + 1).clip(-45, 45).astype(np.float32))
        table[0] = 0
        shift = shift + table[labels.long()]
    shift = gaussian(shift * soft, np.full(3, 1.5 / volume.spacing[0]))
    bright = (hu - 180).clamp(min=0)
    return volume.with_array((hu + shift + (bone - 1) * bright).clamp(-1024, 3071))


def new_state(volume: Volume, rng) -> torch.Tensor:
    """The body when the CBCT is made: no CT table, another one; some gas gone, some new. HU (nz, ny, nx)."""
    from scipy import ndimage

    hu = volume.array.numpy().copy()
    body = body_mask(hu, volume.spacing[0])
    hu[~body] = AIR
    gas, count = ndimage.label(body & (hu < -250))
    if count:
        sizes = np.bincount(gas.ravel()) * np.prod(volume.spacing) / 1000.0
        gone = (sizes < 250.0) & (rng.random(count + 1) < 0.6)  # bowel (ml), not lungs
        gone[0] = False
        hu = np.where(ndimage.binary_dilation(gone[gas]) & body & (hu < 20), rng.uniform(0, 45), hu)
    x, y, z = axes(volume)
    rows = np.flatnonzero(body.any((0, 2)))
    front, back = (volume.origin[1] + volume.spacing[1] * r for r in (rows[0], rows[-1]))
    for _ in range(rng.integers(0, 7)):
        middle = np.array(
            [
                rng.normal(volume.centre[0], 60),
                front + rng.uniform(0.15, 0.5) * (back - front),
                rng.uniform(z.min(), z.max()),
            ]
        )
        box, local = [], []
        for axis, m, half in zip((z, y, x), middle[::-1], rng.uniform(8, 26, 3), strict=True):
            near = np.flatnonzero(np.abs(axis.ravel() - m) < half)
            box.append(slice(near[0], near[-1] + 1) if len(near) else slice(0, 0))
            local.append(((axis - m) / half) ** 2)
        part = hu[tuple(box)]
        part[(local[0][box[0]] + local[1][:, box[1]] + local[2][..., box[2]] < 1) & (part > -150) & (part < 130)] = -900
    if rng.random() < 0.85:
        depth = y - (back + rng.uniform(3, 12)) - (x - volume.centre[0]) ** 2 * rng.choice([0.0, -4e-4])
        table = np.where((depth < 3) | (depth > 25), np.float32(rng.uniform(0, 300)), np.float32(-930))
        hu = np.where((depth > 0) & (depth < 28) & ~body, table, hu)
    return torch.from_numpy(hu.astype(np.float32))


def body_mask(hu: np.ndarray, spacing: float) -> np.ndarray:
    """The patient without the table: the largest piece after an opening of about 8 mm, its holes filled slice by slice."""
    from scipy import ndimage

    turns = max(1, int(round(8.0 / spacing / 2)))
    pieces, count = ndimage.label(ndimage.binary_erosion(hu > -350, iterations=turns))
    if not count:
        raise UserError("There is nothing but air in this CT; check that it is in Hounsfield units.")
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    body = ndimage.binary_dilation(largest, iterations=turns + 1) & (hu > -600)
    return np.stack([ndimage.binary_fill_holes(s) for s in body])


def breath(vertebrae: np.ndarray, rng, size: float) -> dict[str, float]:
    """How breathing may have moved the organs by the time of the CBCT, for `breathe`. `size` (mm): standard deviation
    of `along`, how far up; a third of it forwards or backwards (`across`); most at the height `middle`, half of it 83 %
    of `reach` away from there."""
    along, across = rng.normal(0, [size, 0.3 * size]).clip(-2 * size, 2 * size)
    heights = vertebrae[:, 2]
    numbers = along, across, rng.uniform(heights.min(), heights.max()), rng.uniform(100, 220)
    return dict(zip(("along", "across", "middle", "reach"), map(float, numbers), strict=True))


def breathe(body: Volume, vertebrae: np.ndarray, along: float, across: float, middle: float, reach: float) -> Volume:
    """E1: the body with its organs moved, mm: `along` up and `across` backwards.

    The spine at `vertebrae` (n, 3), the back and the body's wall with its ribs stay: organs slide along them. What aligns
    the organs therefore no longer aligns the spine.
    """
    from scipy import ndimage

    mask = body_mask(body.array.numpy(), body.spacing[0])
    depth = ndimage.distance_transform_edt(mask, sampling=body.spacing[::-1]).astype(np.float32)
    x, y, z = axes(body)
    order = np.argsort(vertebrae[:, 2])
    column = [np.interp(z, vertebrae[order, 2], vertebrae[order, k]).astype(np.float32) for k in (0, 1)]
    # A cylinder with its axis behind the vertebral bodies: they, and a centimetre in front of them, lie inside.
    ahead = np.hypot(x - column[0], y - column[1] - 25) - 52
    share = _rise(ahead / 20) * _rise((column[1] + 40 - y) / 25) * _rise((depth - 22) / 15)
    share *= np.exp(-(((z - middle) / reach) ** 2))
    source = body.points() - torch.from_numpy(share)[..., None] * torch.tensor([0.0, across, along])
    return body.with_array(sample(body, clamp_ends(source, z.min(), z.max())))


def _rise(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = t.clip(0, 1)
    return t * t * (3 - 2 * t)


def beat(anatomy: Anatomy, rng) -> Anatomy:
    """E2: the body at the CBCT in another heart and breathing state, moving between three; adds `heart_pose`."""
    body, vertices = anatomy.body_at_cbct, np.asarray(anatomy.mesh_ct[0])
    high = body.origin + body.spacing * np.array(body.size)
    field = smooth_field(body.origin, high, rng, rng.uniform(1.5, 3.5), 80.0, 3)
    middle, phases = vertices.mean(axis=0), []
    warps = [Warp(middle, np.eye(3), [f.with_array(f.array * part) for f in field]) for part in (0.6, 1.0, 1.4)]
    for warp in warps:
        phases.append(sample(body, clamp_ends(warp.of_grid(body), body.origin[2], high[2] - body.spacing[2])))
    moved = warps[1].inverse(vertices)
    anatomy.body_at_cbct = body.with_array(phases[1])
    anatomy.mesh_cbct = (moved, anatomy.mesh_ct[1])
    anatomy.meta |= {"body_phases": phases, "heart_pose": rigid.fit(vertices, moved).tolist()}
    return anatomy
