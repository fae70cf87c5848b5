"""From the CT's heart to the heart at the intervention: a smooth displacement of heart, diaphragm and lungs.

The field is kept backwards: the tissue at x of the later body came from x - u(x) of the body as drawn. It is zero at
the spine, the ribs and outside, so the patient's rigid frame stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.patients.heart.chest import Chest
from lib.patients.heart.organ import Heart
from lib.patients.shapes import Canvas

PITCH = 12.0  # mm between the nodes of a field


@dataclass
class Field:
    """Displacement u (3, kz, ky, kx), mm along x, y, z, on nodes evenly from the first voxel to the last."""

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

    def smallest_jacobian(self) -> float:
        """Least local volume ratio between the nodes; below 0 the tissue would fold."""
        pitch = (self.high - self.low) / (np.array(self.values.shape[:0:-1]) - 1)
        slopes = np.stack([np.stack(np.gradient(u, *pitch[::-1])[::-1]) for u in self.values])  # du_a / dx_b
        return float(np.linalg.det(np.moveaxis(np.eye(3)[:, :, None, None, None] - slopes, (0, 1), (-2, -1))).min())

    def warp(self, array: np.ndarray) -> np.ndarray:
        """The body (nz, ny, nx) after the displacement, linear; only the part that moves is computed."""
        moving = np.abs(self.values).max(axis=0) > 1e-3
        box, weights = [], []
        for axis, n in enumerate(array.shape):
            k = moving.shape[axis]
            used = np.flatnonzero(moving.any(axis=tuple({0, 1, 2} - {axis})))
            if len(used) == 0:
                return array.copy()
            position = np.linspace(0, k - 1, n)  # of each voxel among the nodes
            box.append(slice(*np.searchsorted(position, [used[0] - 1, used[-1] + 1.001])))
            weights.append(np.maximum(0, 1 - np.abs(position[box[-1], None] - np.arange(k))).astype(np.float32))
        u = self.values
        for weight in weights:  # axis after axis: (3, kz, ky, kx) -> (3, nz, ny, nx)
            u = np.moveaxis(np.tensordot(u, weight, axes=(1, 1)), -1, 3)
        grid = np.empty((*u.shape[1:], 3), np.float32)
        for axis, part in enumerate(box[::-1]):
            here = np.linspace(-1, 1, array.shape[2 - axis], dtype=np.float32)[part]
            view = [1, 1, 1]
            view[2 - axis] = len(here)
            grid[..., axis] = here.reshape(view) - u[axis] * np.float32(2 / (self.high - self.low)[axis])
        out = array.copy()
        out[tuple(box)] = F.grid_sample(
            torch.from_numpy(array)[None, None],
            torch.from_numpy(grid)[None],
            padding_mode="border",
            align_corners=True,
        )[0, 0].numpy()
        return out


def nodes(canvas: Canvas):
    """Coordinates x, y, z (sparse) of the field's nodes, and the corners of the grid."""
    x, y, z = (
        np.linspace(a[0], a[-1], int(len(a) * canvas.spacing / PITCH) + 2, dtype=np.float32) for a in canvas.axes
    )
    low, high = (np.array([axis[n] for axis in canvas.axes], float) for n in (0, -1))
    return (x[None, None, :], y[None, :, None], z[:, None, None]), low, high


def swell(rng: np.random.Generator, shape, wavelength: float) -> np.ndarray:
    """Smooth random vectors (3, *shape) of about unit variance; `wavelength` in nodes."""
    from scipy.ndimage import zoom

    few = [max(4, int(round(n / wavelength)) + 1) for n in shape]
    return np.stack(
        [zoom(rng.standard_normal(few), np.divide(shape, few), order=3, grid_mode=False) for _ in range(3)]
    ).astype(np.float32)


def individual(canvas: Canvas, rng: np.random.Generator, amount: float) -> Field:
    """A smooth displacement of the whole drawing (`amount`: standard deviation in mm): no two are alike."""
    (x, y, z), low, high = nodes(canvas)
    values = swell(rng, (z.size, y.size, x.size), 75 / PITCH)
    return Field(low, high, np.float32(amount) * values)


def step(v):
    v = np.clip(v, 0, 1)
    return v * v * (3 - 2 * v)


def freedom(chest: Chest, x, y, z) -> np.ndarray:
    """1 where tissue may move freely, 0 at the chest wall and the spine."""
    sx, sy = chest.spine(z)
    spine = np.sqrt((x - sx) ** 2 + 0.6 * (y - sy - 8) ** 2) - 22
    sideways = step(-chest.cavity().distance(x, y, z) / 24)
    return (sideways * step(spine / 22)).astype(np.float32)


def beat(heart: Heart, x, y, z, squeeze: float, descent: float) -> np.ndarray:
    """Contraction: the ventricles shrink towards the long axis by the share `squeeze`, the base comes down by
    `descent` mm while the apex stays, the atria fill."""
    p = np.stack(np.broadcast_arrays(x - heart.centre[0], y - heart.centre[1], z - heart.centre[2]))
    a = heart.axis
    along = np.tensordot(a, p, 1)
    across = p - a[:, None, None, None] * along
    ventricle = step((along + 28) / 40) - 0.5 * step((-along - 5) / 30)
    near = np.exp(-(((p**2).sum(axis=0) / (78 * heart.scale) ** 2) ** 2))
    return (-squeeze * across * ventricle + descent * a[:, None, None, None] * step((50 - along) / 80)) * near


def strain(heart: Heart, rng: np.random.Generator, x, y, z) -> np.ndarray:
    """Another filling and posture: the heart longer in one direction, narrower in others, its volume kept."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    stretch = np.array([1.0, rng.uniform(-1, 0.5), 0])
    stretch[2] = -stretch[:2].sum()
    matrix = turn @ np.diag(stretch * rng.uniform(0.06, 0.11) * rng.choice([-1, 1])) @ turn.T
    p = np.stack(np.broadcast_arrays(x - heart.centre[0], y - heart.centre[1], z - heart.centre[2]))
    return np.tensordot(matrix, p, 1) * np.exp(-(((p**2).sum(axis=0) / (95 * heart.scale) ** 2) ** 2))


def breath(x, y, z, down: float, forward: float) -> np.ndarray:
    """Breathing: everything follows the diaphragm, the tops of the lungs hardly at all."""
    share = np.broadcast_arrays(step((135 - z) / 190), x, y)[0]
    domes = 1 + 0.5 * step((-z - 10) / 40) * step((np.abs(x) - 10) / 60)
    return np.stack([0 * share * domes, forward * share * domes, -down * share * domes])


class Motion:
    """All displacements of one patient: CT -> intervention, and beat and breath while the gantry turns."""

    def __init__(self, canvas: Canvas, chest: Chest, heart: Heart, rng: np.random.Generator):
        (x, y, z), self.low, self.high = nodes(canvas)
        free = freedom(chest, x, y, z)
        bumps = swell(rng, free.shape, rng.uniform(60, 90) / PITCH)
        squeeze = rng.choice([-1, 1], p=[0.4, 0.6]) * rng.uniform(0.02, 0.06)
        self.change = free * (
            beat(heart, x, y, z, squeeze, 70 * squeeze) + strain(heart, rng, x, y, z) + rng.uniform(1, 2.5) * bumps
        )
        self.shift = free * breath(x, y, z, rng.normal(0, 6), rng.normal(0, 2)) + free * np.reshape(
            [rng.normal(0, 2.5), rng.normal(0, 1.5), 0], (3, 1, 1, 1)
        )
        self.pulse = free * beat(heart, x, y, z, 1.0, 60.0)
        self.air = free * breath(x, y, z, 1.0, 0.15)

    def field(self, change: float = 1.0, pulse: float = 0.0, air: float = 0.0) -> Field:
        """With `change` times the patient's non-rigid change, plus a pulse (share) and a breath (mm)."""
        values = self.shift + change * self.change + pulse * self.pulse + air * self.air
        return Field(self.low, self.high, np.ascontiguousarray(values, dtype=np.float32))

    def tuned(self, mesh, residual: float, fold: float = 0.15) -> tuple[float, Field]:
        """(strength, field) of the change that leaves `residual` mm between the meshes at the best pose, as far as the
        tissue does not fold: no volume shrinks to less than `fold` of itself."""
        strength = 1.0
        for _ in range(4):
            left = best_pose(mesh, self.field(strength).move(mesh[0]))[1]
            strength = float(np.clip(strength * residual / max(left, 1e-3), 0.1, 3.0))
        while self.field(strength).smallest_jacobian() < fold and strength > 0.1:
            strength *= 0.9
        return strength, self.field(strength)


def best_pose(mesh, moved: np.ndarray) -> tuple[np.ndarray, float]:
    """Rigid pose (4, 4) that brings the epicardium's vertices closest to where they went, and about the mean surface
    distance (mm) it leaves: that along the normals."""
    vertices, faces = mesh
    pose = rigid.fit(vertices, moved)
    points = rigid.apply(pose, vertices)
    return pose, float(np.abs(((moved - points) * normals((moved, faces))).sum(axis=1)).mean())


def normals(mesh) -> np.ndarray:
    """Unit normals (n, 3) at the vertices."""
    vertices, faces = mesh
    corner = vertices[faces]
    face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = np.stack(
        [sum(np.bincount(faces[:, n], face[:, axis], len(vertices)) for n in range(3)) for axis in range(3)],
        axis=1,
    )
    return out / np.linalg.norm(out, axis=1, keepdims=True)
