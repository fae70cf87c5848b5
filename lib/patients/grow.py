"""Patients grown from a real CT: another body shape, other grey values, mirrored.

The new body at point y is the old one at phi(y) = c + A M (y - c) + u(y): M mirrors left and right, A is a part of Eq. 6,
u a smooth elastic field. Points of the old body are carried by the inverse of phi.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.base.errors import UserError
from lib.images.volume import Volume, resample, sample
from lib.patients import habitus
from lib.patients.anatomy import Anatomy, Mesh
from lib.patients.another_day import beat, breath, breathe, new_state, recolour
from lib.patients.warps import Warp, clamp_ends, random_warp

ROOM, NEAR_END = 60.0, 15.0  # mm between a target and the CT's end: half a field of view, half a vertebra


def axis_aligned(volume: Volume, spacing: float, nearest: bool = False) -> Volume:
    """The volume on a grid along L, P, S: turned by whole axes, and not made finer than it is."""
    direction = volume.direction.round()
    if np.abs(direction - volume.direction).max() > 0.05 or np.abs(np.linalg.det(direction)) < 0.5:
        raise UserError("The CT's axes are oblique; resample it along left, posterior, superior first.")
    order = [int(np.flatnonzero(direction[axis])[0]) for axis in range(3)]  # world axis -> grid axis
    array = volume.array.permute(*[2 - order[axis] for axis in (2, 1, 0)])
    flips = [axis for axis in range(3) if direction[axis, order[axis]] < 0]
    array = array.flip([2 - axis for axis in flips])
    corner = np.min(
        [
            (volume.affine @ [i, j, k, 1])[:3]
            for i in (0, volume.size[0] - 1)
            for j in (0, volume.size[1] - 1)
            for k in (0, volume.size[2] - 1)
        ],
        axis=0,
    )
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
    breathing: float = 0.0,
) -> Anatomy:
    """A new patient from a CT (HU): E1 with `landmarks` and `vertebrae` (n, 3), E2 with `mesh`, the epicardium.

    target (3,): where the cone-beam scan is centred. All positions are those of the old body, LPS mm; the
    Anatomy holds the new ones. breathing (mm): how far E1's organs have moved at the CBCT, `breathe`.
    Raises UserError for a CT that is oblique or nothing but air.
    """
    source = axis_aligned(volume, spacing)
    low = source.origin
    high = low + source.spacing * (np.array(source.size) - 1)
    warp = random_warp((low, high), rng, mirror=mesh is None)  # a heart beats on the left
    grid = new_grid(warp, low, high, spacing)
    points = clamp_ends(warp.of_grid(grid), low[2], high[2])
    grid = grid.with_array(sample(source, points))
    numbers = None if labels is None else sample(axis_aligned(labels, spacing, nearest=True), points, 0.0, "nearest")
    bone = rng.uniform(0.8, 1.15)
    ct, body = (recolour(grid, numbers, rng, bone) for _ in range(2))
    body = body.with_array(new_state(body, rng))
    result = Anatomy(ct, body, warp.inverse(np.asarray(target)[None])[0], meta={"kind": "grown"})
    if landmarks is not None:
        result.landmarks, result.vertebrae = warp.inverse(landmarks), warp.inverse(vertebrae)
        if breathing:  # a generator of its own: all else is as it would be without
            state = breath(result.vertebrae, rng.spawn(1)[0], breathing)
            result.body_at_cbct, result.meta["breath"] = breathe(body, result.vertebrae, **state), state["along"]
    if mesh is not None:
        mirrored = np.linalg.det(warp.matrix) < 0
        result.mesh_ct = (
            warp.inverse(mesh[0]),
            np.asarray(mesh[1])[:, ::-1] if mirrored else np.asarray(mesh[1]),
        )
        result = beat(result, rng)
    return result


@dataclass(frozen=True)
class Wider:
    """Patients grown for E1 beyond the usual: scanned at any vertebra, also those that were marked later, up to the CT's
    ends; half of them with up to `fat` mm more under the skin."""

    every_level: bool = False
    fat: float = 0.0


def from_scan(
    scan, experiment: str, rng: np.random.Generator, spacing: float, breathing: float = 0.0, wider: Wider = Wider()
) -> Anatomy:
    """`grow` from a manifest's scan (`lib.patients.scans.manifest.scan`). Raises UserError where it marks no vertebra, or
    no heart."""
    from lib.patients.scans import marks

    ct, labels, _ = scan.load()
    if experiment == "heart":
        if scan.manifest.heart is None:
            raise UserError(f"{scan.name}: its manifest marks no heart; choose another scan for E2.")
        mesh = marks.heart_mesh(scan.manifest.heart, labels)
        anatomy = grow(ct, labels, rng, spacing, np.asarray(mesh[0]).mean(axis=0) + rng.normal(0, 6, 3), mesh=mesh)
    else:
        bodies = marks.bodies(scan.manifest, labels, further=wider.every_level)
        if len(bodies) < 2:
            raise UserError(f"{scan.name}: its manifest marks no vertebrae; choose another scan for E1.")
        centres = np.array([body.centre for body in bodies])
        ends = sorted([ct.origin[2], 2 * ct.centre[2] - ct.origin[2]])
        target = spine_target(centres, ends, rng, NEAR_END if wider.every_level else ROOM)
        more = rng.spawn(1)[0] if wider.fat else None  # a generator of its own, as breathing has
        if more is not None and more.random() < 0.5:
            ct = habitus.heavier(axis_aligned(ct, spacing), more.uniform(0, wider.fat))
        anatomy = grow(ct, labels, rng, spacing, target, marks.landmarks(bodies, target), centres, breathing=breathing)
    anatomy.meta |= {"source": scan.name}
    return anatomy


def spine_target(vertebrae: np.ndarray, ends, rng, room_mm: float = ROOM) -> np.ndarray:
    """In front of a random vertebra that is not too near the ends (z) of the scan."""
    vertebrae = np.asarray(vertebrae, dtype=np.float64)
    room = np.minimum(vertebrae[:, 2] - ends[0], ends[1] - vertebrae[:, 2])
    far = np.flatnonzero(room >= min(room_mm, np.sort(room)[-1]))
    return vertebrae[rng.choice(far)] + [rng.normal(0, 12), -rng.uniform(15, 50), rng.normal(0, 5)]


def new_grid(warp: Warp, low, high, spacing: float) -> Volume:
    """A grid that holds the new body: its middle column inside the old scan, end slices cropped at random by the
    caller."""
    half = (high - low) / 2
    size = np.maximum((2 * half / np.abs(np.diag(warp.matrix)) / spacing).astype(int), 8)
    return Volume(torch.empty(*size[::-1].tolist()), spacing, warp.centre - spacing * (size - 1) / 2)
