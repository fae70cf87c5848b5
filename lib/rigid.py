"""Rigid transforms as the paper writes them (Eq. 1): six parameters, their 4x4 matrix, the distance D, the actions.

A pose `T` maps *moving* world points to *fixed* world points (LPS, mm). Six parameters are `[tx, ty, tz, rx, ry, rz]`
in millimetres and degrees. Everything takes NumPy arrays or torch tensors, batched over leading dimensions, and gives
back the same kind.
"""

from __future__ import annotations

import numpy as np
import torch

ACTION_NAMES = ("+tx", "-tx", "+ty", "-ty", "+tz", "-tz", "+rx", "-rx", "+ry", "-ry", "+rz", "-rz")


def _library(x):
    return torch if isinstance(x, torch.Tensor) else np


def params_to_matrix(params):
    """Eq. 1: `Trans(t) Rx Ry Rz`. (..., 6) in mm and degrees -> (..., 4, 4)."""
    lib = _library(params)
    params = params if lib is torch else np.asarray(params, dtype=np.float64)
    angles = params[..., 3:] * (np.pi / 180.0)
    (cx, cy, cz), (sx, sy, sz) = ((f(angles)[..., 0], f(angles)[..., 1], f(angles)[..., 2]) for f in (lib.cos, lib.sin))
    rows = [
        cy * cz,
        -cy * sz,
        sy,
        sx * sy * cz + cx * sz,
        -sx * sy * sz + cx * cz,
        -sx * cy,
        -cx * sy * cz + sx * sz,
        cx * sy * sz + sx * cz,
        cx * cy,
    ]
    if lib is torch:
        matrix = torch.zeros(*params.shape[:-1], 4, 4, dtype=params.dtype, device=params.device)
        matrix[..., :3, :3] = torch.stack(rows, dim=-1).reshape(*params.shape[:-1], 3, 3)
    else:
        matrix = np.zeros((*params.shape[:-1], 4, 4))
        matrix[..., :3, :3] = np.stack(rows, axis=-1).reshape(*params.shape[:-1], 3, 3)
    matrix[..., :3, 3] = params[..., :3]
    matrix[..., 3, 3] = 1.0
    return matrix


def rotation_to_angles(rotation):
    """Angles (rx, ry, rz) in degrees of `Rx Ry Rz`, ry within +-90. (..., 3, 3) -> (..., 3)."""
    if isinstance(rotation, torch.Tensor):
        ry = torch.asin(rotation[..., 0, 2].clamp(-1.0, 1.0))
        rx = torch.atan2(-rotation[..., 1, 2], rotation[..., 2, 2])
        rz = torch.atan2(-rotation[..., 0, 1], rotation[..., 0, 0])
        return torch.stack([rx, ry, rz], dim=-1) * (180.0 / np.pi)
    ry = np.arcsin(np.clip(rotation[..., 0, 2], -1.0, 1.0))
    rx = np.arctan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    rz = np.arctan2(-rotation[..., 0, 1], rotation[..., 0, 0])
    return np.degrees(np.stack([rx, ry, rz], axis=-1))


def matrix_to_params(matrix):
    """Inverse of `params_to_matrix`, exact for |ry| < 90 degrees. (..., 4, 4) -> (..., 6)."""
    angles = rotation_to_angles(matrix[..., :3, :3])
    if isinstance(matrix, torch.Tensor):
        return torch.cat([matrix[..., :3, 3], angles], dim=-1)
    return np.concatenate([matrix[..., :3, 3], angles], axis=-1)


def invert(matrix):
    """Inverse of rigid transforms, (..., 4, 4). The direction of the mapping turns round."""
    rotation_t = matrix[..., :3, :3].swapaxes(-1, -2)
    inverse = matrix.clone() if isinstance(matrix, torch.Tensor) else np.array(matrix, dtype=np.float64)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ matrix[..., :3, 3:])[..., 0]
    return inverse


def apply(matrix, points):
    """Map points (n, 3) or (..., n, 3) by matrices (4, 4) or (..., 4, 4)."""
    return points @ matrix[..., :3, :3].swapaxes(-1, -2) + matrix[..., None, :3, 3]


def translation(offset) -> np.ndarray:
    """4x4 pure translation by `offset` (3,) mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def about(matrix: np.ndarray, centre) -> np.ndarray:
    """A transform given in coordinates centred at `centre` (world mm), in world coordinates: `C M C^-1`."""
    centre = np.asarray(centre, dtype=np.float64)
    return translation(centre) @ matrix @ translation(-centre)


def centred(matrix: np.ndarray, centre) -> np.ndarray:
    """A world transform in coordinates centred at `centre`: `C^-1 T C`, the inverse of `about`."""
    return about(matrix, -np.asarray(centre, dtype=np.float64))


def fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rigid transform (4, 4) that brings points (n, 3) nearest to their partners, by least squares (Kabsch)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    matrix = np.eye(4)
    matrix[:3, :3] = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T  # no mirror image
    matrix[:3, 3] = b - matrix[:3, :3] @ a
    return matrix


def distance(truth, pose):
    """D(T_g, T): the L2 norm of the six parameters of `T_g T^-1`, millimetres and degrees mixed as in the paper.

    Both poses (..., 4, 4) map moving to fixed, in coordinates centred at the fixed window.
    """
    params = matrix_to_params(truth @ invert(pose))
    return (params**2).sum(-1) ** 0.5


def state(truth: np.ndarray, pose: np.ndarray, centre) -> np.ndarray:
    """The state v = params(T_g T^-1) about `centre`; world poses (..., 4, 4) -> (..., 6)."""
    return matrix_to_params(centred(truth @ invert(pose), centre))


def action_params(step: float = 1.0) -> np.ndarray:
    """(12, 6): plus and minus one step in each parameter, in the order of `ACTION_NAMES`."""
    return np.kron(np.eye(6), np.array([[1.0], [-1.0]])) * step


def actions(step: float = 1.0) -> np.ndarray:
    """(12, 4, 4): the paper's actions. An agent at T goes to `a T`, which changes v by about one unit."""
    return params_to_matrix(action_params(step))


def params_to_matrix_2d(params):
    """The 2-D problem of Fig. 4: (..., 3) [tx, ty mm, theta degrees] -> (..., 3, 3)."""
    lib = _library(params)
    params = params if lib is torch else np.asarray(params, dtype=np.float64)
    angle = params[..., 2] * (np.pi / 180.0)
    c, s, zero, one = lib.cos(angle), lib.sin(angle), 0 * angle, 0 * angle + 1
    rows = [c, -s, params[..., 0], s, c, params[..., 1], zero, zero, one]
    stacked = torch.stack(rows, dim=-1) if lib is torch else np.stack(rows, axis=-1)
    return stacked.reshape(*params.shape[:-1], 3, 3)


def matrix_to_params_2d(matrix):
    """Inverse of `params_to_matrix_2d`."""
    if isinstance(matrix, torch.Tensor):
        theta = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]) * (180.0 / np.pi)
        return torch.cat([matrix[..., :2, 2], theta[..., None]], dim=-1)
    theta = np.degrees(np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return np.concatenate([matrix[..., :2, 2], theta[..., None]], axis=-1)


def actions_2d(step: float = 1.0) -> np.ndarray:
    """(6, 3, 3): plus and minus one step in tx, ty, theta."""
    return params_to_matrix_2d(np.kron(np.eye(3), np.array([[1.0], [-1.0]])) * step)


def displacement(first: np.ndarray, second: np.ndarray, centre) -> np.ndarray:
    """Mean distance (mm) between where two poses (..., 4, 4), moving -> fixed, put the points that the first brings to 50 mm
    from `centre` (fixed world) on each axis."""
    points = np.asarray(centre) + 50.0 * np.concatenate([np.eye(3), -np.eye(3)])
    back = apply(invert(np.asarray(first)), points)
    moved = apply(np.asarray(second), back)
    return np.linalg.norm(moved - points, axis=-1).mean(axis=-1)


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The rigid transform nearest to a (4, 4) whose rotation is one but for rounding: tools refuse it otherwise."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    out = np.array(matrix, dtype=np.float64)
    out[:3, :3] = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return out
