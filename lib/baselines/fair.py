"""Choosing between poses fairly.

Mutual information is comparable only over one region. A pose that leaves a sliver of the CBCT inside the
CT has a few thousand samples and, often, the highest score of all: a naive search over starts picks it.
Here a pose must keep a good share of the field of view inside the CT, and two poses are compared on the
points that both of them cover.
"""

from __future__ import annotations

import numpy as np
import torch

from lib.baselines import common
from lib.images.volume import Volume


def best(poses, fixed_values: torch.Tensor, points: torch.Tensor, moving: Volume, min_overlap: float):
    """Index of the pose that wins most comparisons on common regions, and each pose's overlap (n,).

    `points` (m, 3): fixed-world points of the field of view with values `fixed_values` (m,). Poses below
    `min_overlap` take no part; if all are, the one with the most overlap wins.
    """
    seen = [common.pull(moving, pose, points) for pose in poses]
    overlap = np.array([float(there.float().mean()) for _, there in seen])
    allowed = [i for i in range(len(poses)) if overlap[i] >= min_overlap]
    if not allowed:
        return int(overlap.argmax()), overlap
    wins, margin = np.zeros(len(poses)), np.zeros(len(poses))
    for n, i in enumerate(allowed):
        for j in allowed[n + 1 :]:
            difference = compare(seen[i], seen[j], fixed_values)
            wins[i if difference > 0 else j] += 1
            margin[i], margin[j] = margin[i] + difference, margin[j] - difference
    return max(allowed, key=lambda i: (wins[i], margin[i])), overlap


def compare(first, second, fixed_values: torch.Tensor) -> float:
    """Normalised mutual information of the first pose less that of the second, on the points both cover.

    Where they share too little to tell, each is taken on its own points.
    """
    both = first[1] & second[1]
    if both.float().mean() < 0.2:
        return _score(first[0], first[1], fixed_values) - _score(second[0], second[1], fixed_values)
    return _score(first[0], both, fixed_values) - _score(second[0], both, fixed_values)


def _score(values: torch.Tensor, where: torch.Tensor, fixed_values: torch.Tensor) -> float:
    return common.normalised_mi(values[where], fixed_values[where])


def screen(
    poses: np.ndarray,
    fixed_values: torch.Tensor,
    points: torch.Tensor,
    moving: Volume,
    min_overlap: float,
    weighed: bool = False,
):
    """Normalised mutual information (n,) of many poses (n, 4, 4), each on its own points; 0 below
    `min_overlap`. weighed: times the overlap, for among hundreds of poses the best score goes by chance to one at
    the CT's end, where half the points are left.

    Bins are laid once, over the values of each image, so that a pose costs one interpolation and one
    histogram.
    """
    bins, scores = 24, np.zeros(len(poses))
    row = common.bin_indices(fixed_values, fixed_values, bins)
    typical = moving.array[moving.array > -500].reshape(-1)
    typical = typical[:: max(1, len(typical) // 20000)]
    for n, pose in enumerate(poses):
        values, there = common.pull(moving, pose, points)
        overlap = float(there.float().mean())
        if overlap >= min_overlap and len(typical):
            scores[n] = common.joint_score(row[there], common.bin_indices(values[there], typical, bins), bins)
            scores[n] *= overlap if weighed else 1.0
    return scores


def distinct(poses: np.ndarray, scores: np.ndarray, count: int, points: torch.Tensor, apart: float) -> list[int]:
    """Indices of the `count` best poses that are at least `apart` mm from one another, on the mean over
    `points`.
    """
    chosen: list[int] = []
    probe = points[:: max(1, len(points) // 50)].double().numpy()
    moved = []
    for n in np.argsort(-scores, kind="stable"):
        inverse = np.linalg.inv(poses[n])
        where = probe @ inverse[:3, :3].T + inverse[:3, 3]
        if all(np.linalg.norm(where - other, axis=1).mean() >= apart for other in moved):
            chosen.append(int(n))
            moved.append(where)
        if len(chosen) == count:
            break
    return chosen
