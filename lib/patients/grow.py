"""Patients grown from a real CT: another body shape, other grey values, mirrored; and what a CBCT would
find changed.

The new body at point y is the old one at phi(y) = c + A M (y - c) + u(y): M mirrors left and right, A is a
part of
Eq. 6, u a smooth elastic field. Points of the old body are carried by the inverse of phi.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.errors import UserError
from lib.patients.anatomy import Anatomy, Mesh
from lib.volume import AIR, Volume, gaussian, resample, sample

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
        return torch.stack(
            [o + c + on_grid(f, grid) for o, c, f in zip(old, centre, self.field, strict=True)], dim=-1
        )

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
    """World positions along L (1, 1, nx), P (1, ny, 1), S (nz, 1, 1) of a grid whose direction is the
    identity."""
    x, y, z = (
        (o + s * np.arange(n)).astype(np.float32)
        for o, s, n in zip(grid.origin, grid.spacing, grid.size, strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def on_grid(smooth: Volume, grid: Volume) -> torch.Tensor:
    """A volume along L, P, S linearly interpolated on such a grid, one axis after the other."""
    array = smooth.array
    for axis, positions in zip((2, 1, 0), axes(grid), strict=True):
        last = array.shape[axis] - 1
        where = torch.from_numpy(
            (positions.ravel() - smooth.origin[2 - axis]) / smooth.spacing[2 - axis]
        ).clamp(0, last)
        low = where.long().clamp(max=last - 1)
        part = (where - low).float().reshape([-1 if dim == axis else 1 for dim in range(3)])
        array = array.index_select(axis, low) * (1 - part) + array.index_select(axis, low + 1) * part
    return array


def axis_aligned(volume: Volume, spacing: float, nearest: bool = False) -> Volume:
    """The volume on a grid along L, P, S: turned by whole axes, and not made finer than it is."""
    direction = volume.direction.round()
    if np.abs(direction - volume.direction).max() > 0.05 or np.abs(np.linalg.det(direction)) < 0.5:
        raise UserError("The CT's axes are oblique; resample it along left, posterior, superior first.")
    order = [int(np.flatnonzero(direction[axis])[0]) for axis in range(3)]  # world axis -> grid axis
    array = volume.array.permute(*[2 - order[axis] for axis in (2, 1, 0)])
    flips = [axis for axis in range(3) if direction[axis, order[axis]] < 0]
    array = array.flip([2 - axis for axis in flips])
    corner = np.min([(volume.affine @ [i, j, k, 1])[:3] for i in (0, volume.size[0] - 1)
                     for j in (0, volume.size[1] - 1) for k in (0, volume.size[2] - 1)], axis=0)  # fmt: skip
    out = Volume(array.contiguous(), volume.spacing[order], corner)
    return out if nearest else resample(out, np.maximum(out.spacing, spacing))


def grow(
    volume: Volume,
    labels: Volume | None,
    rng: np.random.Generator,
    spacing: float,
    target: np.ndarray,
    landmarks: np.ndarray | None = None,
    vertebrae: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Anatomy:
    """A new patient from a CT (HU): E1 with `landmarks` and `vertebrae` (n, 3), E2 with `mesh`, the
    epicardium.

    target (3,): where the cone-beam scan is centred. All positions are those of the old body, LPS mm; the
    Anatomy
    holds the new ones. Raises UserError for a CT that is oblique or nothing but air.
    """
    source = axis_aligned(volume, spacing)
    low = source.origin
    high = low + source.spacing * (np.array(source.size) - 1)
    warp = random_warp((low, high), rng, mirror=mesh is None)  # a heart beats on the left
    grid = new_grid(warp, low, high, spacing)
    points = clamp_ends(warp.of_grid(grid), low[2], high[2])
    grid = grid.with_array(sample(source, points))
    numbers = (
        None
        if labels is None
        else sample(axis_aligned(labels, spacing, nearest=True), points, 0.0, "nearest")
    )
    bone = rng.uniform(0.8, 1.15)
    ct, body = (recolour(grid, numbers, rng, bone) for _ in range(2))
    body = body.with_array(new_state(body, rng))
    result = Anatomy(ct, body, warp.inverse(np.asarray(target)[None])[0], meta={"kind": "grown"})
    if landmarks is not None:
        result.landmarks, result.vertebrae = warp.inverse(landmarks), warp.inverse(vertebrae)
    if mesh is not None:
        mirrored = np.linalg.det(warp.matrix) < 0
        result.mesh_ct = (
            warp.inverse(mesh[0]),
            np.asarray(mesh[1])[:, ::-1] if mirrored else np.asarray(mesh[1]),
        )
        result = beat(result, rng)
    return result


def from_scan(scan, experiment: str, rng: np.random.Generator, spacing: float) -> Anatomy:
    """`grow` from a manifest's scan (`lib.manifest.scan`). Raises UserError where it marks no vertebra, or
    no heart."""
    from lib import collections_anatomy

    ct, labels, _ = scan.load()
    if experiment == "heart":
        if scan.manifest.heart is None:
            raise UserError(f"{scan.name}: its manifest marks no heart; choose another scan for E2.")
        mesh = collections_anatomy.heart_mesh(scan.manifest.heart, labels)
        anatomy = grow(
            ct, labels, rng, spacing, np.asarray(mesh[0]).mean(axis=0) + rng.normal(0, 6, 3), mesh=mesh
        )
    else:
        bodies = collections_anatomy.bodies(scan.manifest, labels)
        if len(bodies) < 2:
            raise UserError(f"{scan.name}: its manifest marks no vertebrae; choose another scan for E1.")
        centres = np.array([body.centre for body in bodies])
        ends = sorted([ct.origin[2], 2 * ct.centre[2] - ct.origin[2]])
        target = spine_target(centres, ends, rng)
        anatomy = grow(
            ct, labels, rng, spacing, target, collections_anatomy.landmarks(bodies, target), centres
        )
    anatomy.meta |= {"source": scan.name}
    return anatomy


def spine_target(vertebrae: np.ndarray, ends, rng) -> np.ndarray:
    """In front of a random vertebra that is not too near the ends (z) of the scan."""
    vertebrae = np.asarray(vertebrae, dtype=np.float64)
    room = np.minimum(vertebrae[:, 2] - ends[0], ends[1] - vertebrae[:, 2])
    far = np.flatnonzero(room >= min(60.0, np.sort(room)[-1]))
    return vertebrae[rng.choice(far)] + [rng.normal(0, 12), -rng.uniform(15, 50), rng.normal(0, 5)]


def new_grid(warp: Warp, low, high, spacing: float) -> Volume:
    """A grid that holds the new body: its middle column inside the old scan, end slices cropped at random
    by the caller."""
    half = (high - low) / 2
    size = np.maximum((2 * half / np.abs(np.diag(warp.matrix)) / spacing).astype(int), 8)
    return Volume(torch.empty(*size[::-1].tolist()), spacing, warp.centre - spacing * (size - 1) / 2)


def clamp_ends(points: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Repeat the old scan's end slices where the new body reaches past them."""
    points[..., 2] = points[..., 2].clamp(float(low) + 1e-3, float(high) - 1e-3)
    return points


def recolour(volume: Volume, labels: torch.Tensor | None, rng, bone: float) -> Volume:
    """Other grey values: a smooth shift of soft tissue, a shift for each labelled organ, weaker or stronger
    bone."""
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
        middle = np.array([rng.normal(volume.centre[0], 60), front + rng.uniform(0.15, 0.5) * (back - front),
                           rng.uniform(z.min(), z.max())])  # fmt: skip
        box, local = [], []
        for axis, m, half in zip((z, y, x), middle[::-1], rng.uniform(8, 26, 3), strict=True):
            near = np.flatnonzero(np.abs(axis.ravel() - m) < half)
            box.append(slice(near[0], near[-1] + 1) if len(near) else slice(0, 0))
            local.append(((axis - m) / half) ** 2)
        part = hu[tuple(box)]
        part[
            (local[0][box[0]] + local[1][:, box[1]] + local[2][..., box[2]] < 1)
            & (part > -150)
            & (part < 130)
        ] = -900
    if rng.random() < 0.85:
        depth = y - (back + rng.uniform(3, 12)) - (x - volume.centre[0]) ** 2 * rng.choice([0.0, -4e-4])
        table = np.where((depth < 3) | (depth > 25), np.float32(rng.uniform(0, 300)), np.float32(-930))
        hu = np.where((depth > 0) & (depth < 28) & ~body, table, hu)
    return torch.from_numpy(hu.astype(np.float32))


def body_mask(hu: np.ndarray, spacing: float) -> np.ndarray:
    """The patient without the table: the largest piece after an opening of about 8 mm, its holes filled
    slice by slice."""
    from scipy import ndimage

    turns = max(1, int(round(8.0 / spacing / 2)))
    pieces, count = ndimage.label(ndimage.binary_erosion(hu > -350, iterations=turns))
    if not count:
        raise UserError("There is nothing but air in this CT; check that it is in Hounsfield units.")
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    body = ndimage.binary_dilation(largest, iterations=turns + 1) & (hu > -600)
    return np.stack([ndimage.binary_fill_holes(s) for s in body])


def beat(anatomy: Anatomy, rng) -> Anatomy:
    """E2: the body at the CBCT in another heart and breathing state, moving between three; adds
    `heart_pose`."""
    body, vertices = anatomy.body_at_cbct, np.asarray(anatomy.mesh_ct[0])
    high = body.origin + body.spacing * np.array(body.size)
    field = smooth_field(body.origin, high, rng, rng.uniform(1.5, 3.5), 80.0, 3)
    middle, phases = vertices.mean(axis=0), []
    warps = [
        Warp(middle, np.eye(3), [f.with_array(f.array * part) for f in field]) for part in (0.6, 1.0, 1.4)
    ]
    for warp in warps:
        phases.append(sample(body, clamp_ends(warp.of_grid(body), body.origin[2], high[2] - body.spacing[2])))
    moved = warps[1].inverse(vertices)
    anatomy.body_at_cbct = body.with_array(phases[1])
    anatomy.mesh_cbct = (moved, anatomy.mesh_ct[1])
    anatomy.meta |= {"body_phases": phases, "heart_pose": fit(vertices, moved).tolist()}
    return anatomy


def fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rigid transform (4, 4) that brings points (n, 3) nearest to their partners, by least squares."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    rotation = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, b - rotation @ a
    return matrix
