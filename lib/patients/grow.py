"""Patients grown from a real CT: another body shape, other grey values, mirrored; and what a CBCT would find changed.

The new body at point y is the old one at phi(y) = c + A M (y - c) + u(y): M mirrors left and right, A is a part of
Eq. 6, u a smooth elastic field. Points of the old body are carried by the inverse of phi.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib import rigid
from lib.errors import UserError
from lib.patients import marks, place
from lib.patients.anatomy import Anatomy
from lib.patients.conebeam import ConeBeamSettings, simulate
from lib.patients.store import Patient
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
    vertebrae: np.ndarray | None = None,
    mesh: marks.Mesh | None = None,
    target: np.ndarray | None = None,
) -> Anatomy:
    """A new patient from a CT (HU): E1 with `vertebrae` (m, 3), E2 with `mesh`, the epicardium. LPS mm.

    target: where the cone-beam scan is centred, in the old body (default: a random level, or the heart).
    """
    source = axis_aligned(volume, spacing)
    low = source.origin
    high = low + source.spacing * (np.array(source.size) - 1)
    warp = random_warp((low, high), rng)
    if mesh is not None:
        target = np.asarray(mesh[0]).mean(axis=0) + rng.normal(0, 6, 3) if target is None else target
    elif target is None:
        target = spine_target(vertebrae, (low[2], high[2]), rng)
    grid = new_grid(warp, low, high, spacing)
    points = clamp_ends(warp(grid.points()), low[2], high[2])
    both = [grid.with_array(sample(source, points)) for _ in range(2)]
    numbers = None if labels is None else sample(axis_aligned(labels, spacing, nearest=True), points, 0.0, "nearest")
    bone = rng.uniform(0.8, 1.15)
    ct, body = (recolour(v, numbers, rng, bone) for v in both)
    body = body.with_array(new_state(body, rng))
    result = Anatomy(ct, body, warp.inverse(np.asarray(target)[None])[0], meta={"kind": "grown", "table": True})
    if mesh is None:
        result.vertebrae = warp.inverse(vertebrae)
        result.landmarks = warp.inverse(marks.rim_landmarks(vertebrae, target))
        return result
    mirrored = np.linalg.det(warp.matrix) < 0
    result.mesh_ct = (warp.inverse(mesh[0]), np.asarray(mesh[1])[:, ::-1] if mirrored else np.asarray(mesh[1]))
    return beat(result, rng)


def from_scan(scan, experiment: str, rng: np.random.Generator, spacing: float) -> Anatomy:
    """`grow` from a manifest's scan (`lib.manifest.scan`)."""
    ct, labels, vertebrae, mesh = marks.of_scan(scan, experiment)
    anatomy = grow(ct, labels, rng, spacing, vertebrae if experiment == "spine" else None, mesh)
    anatomy.meta |= {"source": scan.name}
    return anatomy


def from_real(
    volume: Volume,
    centre,
    rng: np.random.Generator,
    settings: ConeBeamSettings,
    dataset: str,
    id: str,
    landmarks: np.ndarray | None = None,
    mesh: marks.Mesh | None = None,
    vertebrae: np.ndarray | None = None,
) -> Patient:
    """A test patient: a real CT, unmodified, and a simulated CBCT of the same body centred at `centre` (CT world)."""
    body = resample(volume, np.maximum(volume.spacing, min(settings.spacing, 2.0)))
    pose = place.world_pose(centre, rng)
    fixed = simulate(body, centre, rng, settings, pose=pose)
    patient = Patient(id, "spine" if mesh is None else "heart", dataset, fixed, volume, pose, vertebrae=vertebrae)
    if landmarks is not None:
        patient.landmarks_moving = np.asarray(landmarks, dtype=np.float64)
        patient.landmarks_fixed = rigid.apply(pose, patient.landmarks_moving)
    if mesh is not None:
        patient.mesh_moving, patient.mesh_fixed = mesh, (rigid.apply(pose, np.asarray(mesh[0])), mesh[1])
    patient.meta = {"source": dataset, "group": dataset, "simulated_cbct": True}
    return patient


def spine_target(vertebrae: np.ndarray, ends, rng) -> np.ndarray:
    """In front of a random vertebra that is not too near the ends (z) of the scan."""
    vertebrae = np.asarray(vertebrae, dtype=np.float64)
    room = np.minimum(vertebrae[:, 2] - ends[0], ends[1] - vertebrae[:, 2])
    far = np.flatnonzero(room >= min(60.0, np.sort(room)[-1]))
    return vertebrae[rng.choice(far)] + [rng.normal(0, 12), -rng.uniform(15, 50), rng.normal(0, 5)]


def new_grid(warp: Warp, low, high, spacing: float) -> Volume:
    """A grid that holds the new body: its middle column inside the old scan, end slices cropped at random by the caller."""
    half = (high - low) / 2
    size = np.maximum((2 * half / np.abs(np.diag(warp.matrix)) / spacing).astype(int), 8)
    return Volume(torch.empty(*size[::-1].tolist()), spacing, warp.centre - spacing * (size - 1) / 2)


def clamp_ends(points: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Repeat the old scan's end slices where the new body reaches past them."""
    points[..., 2] = points[..., 2].clamp(float(low) + 1e-3, float(high) - 1e-3)
    return points


def recolour(volume: Volume, labels: torch.Tensor | None, rng, bone: float) -> Volume:
    """Other grey values: a smooth shift of soft tissue, a shift for each labelled organ, weaker or stronger bone."""
    hu = volume.array
    low, high = volume.origin, volume.origin + volume.spacing * np.array(volume.size)
    field = smooth_field(low, high, rng, rng.uniform(3, 12), 100.0, 1)[0]
    soft = ((hu > -180) & (hu < 300)).float()
    shift = sample(field, volume.points(), 0.0)
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
    x, y, z = (volume.points().numpy()[..., n] for n in range(3))
    rows = np.flatnonzero(body.any((0, 2)))
    front, back = (volume.origin[1] + volume.spacing[1] * r for r in (rows[0], rows[-1]))
    for _ in range(rng.integers(0, 7)):
        middle = np.array([rng.normal(volume.centre[0], 60), front + rng.uniform(0.15, 0.5) * (back - front),
                           rng.uniform(z.min(), z.max())])  # fmt: skip
        axes = rng.uniform(8, 26, 3)
        inside = sum(((a - m) / s) ** 2 for a, m, s in zip((x, y, z), middle, axes, strict=True)) < 1
        hu[inside & (hu > -150) & (hu < 130)] = -900
    if rng.random() < 0.85:
        depth = y - (back + rng.uniform(3, 12)) - (x - volume.centre[0]) ** 2 * rng.choice([0.0, -4e-4])
        hu = np.where((depth > 0) & (depth < 28) & ~body, np.where((depth < 3) | (depth > 25), rng.uniform(0, 300), -930), hu)
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


def beat(anatomy: Anatomy, rng) -> Anatomy:
    """E2: the body at the CBCT in another heart and breathing state, moving between three; adds `heart_pose`."""
    body, vertices = anatomy.body_at_cbct, np.asarray(anatomy.mesh_ct[0])
    high = body.origin + body.spacing * np.array(body.size)
    field = smooth_field(body.origin, high, rng, rng.uniform(1.5, 3.5), 80.0, 3)
    middle, phases = vertices.mean(axis=0), []
    warps = [Warp(middle, np.eye(3), [f.with_array(f.array * part) for f in field]) for part in (0.6, 1.0, 1.4)]
    for warp in warps:
        phases.append(sample(body, clamp_ends(warp(body.points()), body.origin[2], high[2] - body.spacing[2])))
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
