"""From the CT's heart to the heart at the intervention: a smooth displacement of heart, diaphragm and lungs.

The field is kept backwards: the tissue at x of the later body came from x - u(x) of the body as drawn. It is zero
at the spine, the ribs and outside, so the rigid frame of the patient stays (the ribs and the spine do not move).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lib.patients import shapes
from lib.patients.heart_chest import Chest
from lib.patients.heart_organ import Heart
from lib.patients.shapes import Canvas

STRIDE = 6  # voxels between the nodes of the field


@dataclass
class Field:
    """Displacement u (3, kz, ky, kx) in mm (x, y, z) on nodes spread evenly from `low` to `high` (first to last voxel)."""

    low: np.ndarray
    high: np.ndarray
    values: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """u (n, 3) at points (n, 3), zero beyond the ends."""
        grid = torch.as_tensor(2 * (points - self.low) / (self.high - self.low) - 1, dtype=torch.float32)
        u = F.grid_sample(torch.as_tensor(self.values)[None], grid[None, None, None], align_corners=True)
        return u[0, :, 0, 0].T.numpy().astype(float)

    def move(self, points: np.ndarray) -> np.ndarray:
        """Where tissue at `points` goes: solves x = p + u(x)."""
        x = points.copy()
        for _ in range(40):
            x = points + self.at(x)
        return x

    def warp(self, array: np.ndarray) -> np.ndarray:
        """The body (nz, ny, nx) after the displacement, linear interpolation; only the part that moves is computed."""
        size = array.shape
        u = F.interpolate(torch.as_tensor(self.values)[None], size=size, mode="trilinear", align_corners=True)[0]
        span = torch.as_tensor(self.high - self.low, dtype=torch.float32)
        grid = torch.empty((*size, 3))
        for axis, n in enumerate(size[::-1]):
            view = [1, 1, 1]
            view[2 - axis] = n
            grid[..., axis] = torch.linspace(-1, 1, n).reshape(view) - u[axis] * (2 / span[axis])
        return F.grid_sample(torch.as_tensor(array)[None, None], grid[None], padding_mode="border",
                             align_corners=True)[0, 0].numpy()


def nodes(canvas: Canvas):
    """Coordinates x, y, z (sparse) of the field's nodes, and the corners of the grid."""
    low = np.array([axis[0] for axis in canvas.axes], float)
    high = np.array([axis[-1] for axis in canvas.axes], float)
    x, y, z = (np.linspace(a, b, len(axis) // STRIDE + 2, dtype=np.float32) for a, b, axis in zip(low, high, canvas.axes))
    return (x[None, None, :], y[None, :, None], z[:, None, None]), low, high


def step(v):
    v = np.clip(v, 0, 1)
    return v * v * (3 - 2 * v)


def freedom(chest: Chest, x, y, z) -> np.ndarray:
    """1 where tissue may move freely, 0 at the chest wall and the spine."""
    sx, sy = chest.spine(z)
    spine = np.sqrt((x - sx) ** 2 + 0.6 * (y - sy - 8) ** 2) - 20
    sideways = step(-chest.cavity().distance(x, y, z) / 24)
    return (sideways * step(spine / 22)).astype(np.float32)


def beat(heart: Heart, x, y, z, squeeze: float, descent: float) -> np.ndarray:
    """Contraction: ventricles shrink towards the long axis by the share `squeeze`, the base comes down by `descent` mm
    while the apex stays, the atria fill."""
    p = np.stack(np.broadcast_arrays(x - heart.centre[0], y - heart.centre[1], z - heart.centre[2]))
    a = heart.axis
    along = np.tensordot(a, p, 1)
    across = p - a[:, None, None, None] * along
    ventricle = step((along + 28) / 40) - 0.5 * step((-along - 5) / 30)
    near = np.exp(-((p ** 2).sum(axis=0) / (78 * heart.scale) ** 2) ** 2)
    return (-squeeze * across * ventricle + descent * a[:, None, None, None] * step((50 - along) / 80)) * near


def breath(x, y, z, down: float, forward: float) -> np.ndarray:
    """Breathing: everything follows the diaphragm, the tops of the lungs hardly at all."""
    share = np.broadcast_arrays(step((135 - z) / 190), x, y)[0]
    domes = 1 + 0.5 * step((-z - 10) / 40) * step((np.abs(x) - 10) / 60)
    return np.stack([0 * share * domes, forward * share * domes, -down * share * domes])


class Motion:
    """All displacements of one patient; `state` = CT -> intervention, `phase` adds beat and breath while the gantry turns."""

    def __init__(self, canvas: Canvas, chest: Chest, heart: Heart, rng: np.random.Generator):
        (x, y, z), self.low, self.high = nodes(canvas)
        free = freedom(chest, x, y, z)
        coarse = [max(3, int(round(n * STRIDE * canvas.spacing / 42))) for n in free.shape]
        bumps = np.stack([shapes.enlarge(rng.standard_normal(coarse, dtype=np.float32), free.shape) for _ in range(3)])
        squeeze = rng.choice([-1, 1], p=[0.25, 0.75]) * rng.uniform(0.06, 0.16)
        self.change = free * (beat(heart, x, y, z, squeeze, 70 * squeeze) + rng.uniform(2, 4) * bumps)
        self.shift = free * breath(x, y, z, rng.normal(0, 6), rng.normal(0, 2)) + free * np.reshape(
            [rng.normal(0, 2.5), rng.normal(0, 1.5), 0], (3, 1, 1, 1))
        self.pulse = free * beat(heart, x, y, z, 1.0, 60.0)
        self.air = free * breath(x, y, z, 1.0, 0.15)

    def field(self, change: float = 1.0, pulse: float = 0.0, air: float = 0.0) -> Field:
        """The displacement with `change` times the patient's non-rigid change, plus a pulse (share) and a breath (mm)."""
        values = self.shift + change * self.change + pulse * self.pulse + air * self.air
        return Field(self.low, self.high, np.ascontiguousarray(values, dtype=np.float32))

    def tuned(self, mesh, residual: float) -> tuple[float, Field]:
        """The strength of the change that leaves `residual` mm between the meshes at the best rigid pose."""
        strength = 1.0
        for _ in range(4):
            field = self.field(strength)
            left = best_pose(mesh, field.move(mesh[0]))[1]
            strength = float(np.clip(strength * residual / max(left, 1e-3), 0.15, 2.6))
        return strength, self.field(strength)


def normals(mesh) -> np.ndarray:
    """Unit normals (n, 3) at the vertices."""
    vertices, faces = mesh
    corner = vertices[faces]
    face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = np.zeros_like(vertices)
    for n in range(3):
        np.add.at(out, faces[:, n], face)
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def best_pose(mesh, moved: np.ndarray) -> tuple[np.ndarray, float]:
    """Rigid pose (4, 4) from the CT to the moved epicardium with the least distance along the surface normals (as ICP
    on the meshes would find, the correspondences being known), and the mean distance (mm) it leaves."""
    vertices, faces = mesh
    normal = normals((moved, faces))
    pose = np.eye(4)
    for _ in range(4):
        points = vertices @ pose[:3, :3].T + pose[:3, 3]
        middle = points.mean(axis=0)
        rows = np.concatenate([np.cross(points - middle, normal) / 40, normal], axis=1)
        solution = np.linalg.lstsq(rows, ((moved - points) * normal).sum(axis=1), rcond=None)[0]
        angle = np.linalg.norm(solution[:3]) / 40
        turn = np.eye(3)
        if angle > 1e-9:
            k = solution[:3] / 40 / angle
            cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
            turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        update = np.eye(4)
        update[:3, :3], update[:3, 3] = turn, middle + solution[3:] - turn @ middle
        pose = update @ pose
    points = vertices @ pose[:3, :3].T + pose[:3, 3]
    return pose, float(np.abs(((moved - points) * normal).sum(axis=1)).mean())
