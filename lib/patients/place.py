"""Where the images of a patient stand in the world, how far the CT reaches, and what an expert would mark on them."""

from __future__ import annotations

import numpy as np

from lib import rigid
from lib.images.volume import Volume
from lib.patients.heart.hardness import DRAWN, Hardness


def world_pose(target, rng: np.random.Generator, tilt: float = 3.0) -> np.ndarray:
    """The patient on the cone-beam scanner's table: a rigid pose (4, 4), CT world -> CBCT world.

    `target` (3,) comes to lie within 30 mm of the CBCT's world origin; angles are normal with `tilt` degrees, at most
    8.
    """
    turn = rigid.params_to_matrix(np.r_[np.zeros(3), np.clip(rng.normal(0, tilt, 3), -8, 8)])
    return rigid.translation(rng.uniform(-30, 30, 3)) @ turn @ rigid.translation(-np.asarray(target, dtype=np.float64))


def crop(ct: Volume, target, rng: np.random.Generator, experiment: str, hardness: Hardness = DRAWN) -> Volume:
    """Cut the CT's ends along z at random, independent of the pose; cardiac CTs in plane too.

    Without this an agent learns to fill the field of view instead of matching anatomy. E1 keeps 110 mm on either side
    of `target` where the CT has them, and loses on average a fifth of what lies beyond; E2 as `hardness` says.
    """
    index = (np.linalg.inv(ct.affine) @ np.append(target, 1.0))[:3]
    heart = experiment == "heart"
    keep = hardness.half_height if heart else 110.0
    low, high = np.zeros(3, dtype=int), np.array(ct.size)
    spare = [index[2] - keep / ct.spacing[2], ct.size[2] - 1 - index[2] - keep / ct.spacing[2]]
    cuts = [int(max(s, 0) * (rng.uniform(*hardness.beyond) if heart else rng.beta(0.8, 3.0))) for s in spare]
    low[2], high[2] = low[2] + cuts[0], high[2] - cuts[1]
    if heart:
        half = rng.uniform(*hardness.half_width) / ct.spacing[:2]
        low[:2] = np.maximum(low[:2], np.floor(index[:2] - half))
        high[:2] = np.minimum(high[:2], np.ceil(index[:2] + half) + 1)
    (i0, j0, k0), (i1, j1, k1) = low, high
    origin = (ct.affine @ np.append(low, 1.0))[:3]
    return Volume(ct.array[k0:k1, j0:j1, i0:i1].contiguous(), ct.spacing, origin, ct.direction)


def annotate(patient, rng: np.random.Generator, landmark_error: float, mesh_error: float) -> dict:
    """What an expert marks in each image: landmarks with normal error (mm per axis), meshes with a smooth one (mm)."""
    marked = {}
    for image in ("fixed", "moving"):
        points, mesh = getattr(patient, f"landmarks_{image}"), getattr(patient, f"mesh_{image}")
        if points is not None:
            marked[f"landmarks_{image}"] = points + rng.normal(0, landmark_error, points.shape)
        if mesh is not None:
            marked[f"mesh_{image}"] = (wobble(np.asarray(mesh[0]), rng, mesh_error), mesh[1])
    return marked


def wobble(vertices: np.ndarray, rng: np.random.Generator, size: float, wavelength: float = 60.0) -> np.ndarray:
    """Vertices (n, 3) moved by a smooth random field of `size` mm (root mean square), longest waves `wavelength` mm."""
    waves = rng.normal(0, 2 * np.pi / wavelength, (12, 3))
    phase = vertices @ waves.T + rng.uniform(0, 2 * np.pi, 12)
    return vertices + np.sqrt(2 / 12) * np.cos(phase) @ rng.normal(0, size / np.sqrt(3), (12, 3))
