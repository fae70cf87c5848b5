"""How far a pose is from the truth (TRE, MME), and what a list of such errors says.

TRE: mean distance over the landmarks (E1). MME: mean point-to-triangle distance of all vertices of the moved mesh to
the fixed mesh (E2). Percentiles are over *all* cases, failures included. Starts of one patient are not independent, so
confidence intervals are over patients, not cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from lib import rigid
from lib.base.errors import UserError
from lib.base.limits import Count, HalfRanges, Number, PartShare

SUCCESS_MM = {"spine": 10.0, "heart": 20.0}  # the paper: TRE <= 10 mm (E1), MME <= 20 mm (E2)
COARSE_STEPS = 200  # N1
# The paper's Table 1: success, 10th, 50th, 90th percentile (mm); None: N/A there.
PAPER = {
    "spine": {
        "ground_truth": (None, 0.8, 0.9, 1.2),
        "initial": (None, 35.5, 73.9, 116.2),
        "itk": (0.12, 1.9, 77.3, 130.4),
        "quasi_global": (0.20, 1.6, 60.9, 136.2),
        "semantic": (0.24, 3.0, 34.9, 71.0),
        "dsl": (0.92, 1.7, 2.5, 3.8),
        "human": (0.70, 0.8, 1.6, 15.8),
    },
    "heart": {
        "ground_truth": (None, 2.1, 4.0, 5.9),
        "initial": (None, 9.2, 22.8, 30.5),
        "itk": (0.14, 14.9, 34.9, 47.6),
        "quasi_global": (0.14, 16.2, 35.9, 58.7),
        "semantic": (0.72, 7.6, 15.3, 30.6),
        "dsl": (1.00, 3.2, 4.8, 6.9),
        "human": (0.96, 4.0, 6.2, 13.4),
    },
}
FAILURES = ("vertebra", "rotated", "lost", "refused")


@dataclass(frozen=True)
class EvaluationSettings:
    """Test cases and statistics. The defaults are the `smoke` profile."""

    n_starts: Count = 3  # starts a test patient; the paper: 10
    real_starts: Count = 2  # the same for each vertebral level (or heart) of a real scan
    range_spine: HalfRanges = (30.0, 30.0, 150.0, 30.0, 30.0, 30.0)  # +- mm, mm, mm, degrees x 3 (E1)
    range_heart: HalfRanges = (30.0, 30.0, 30.0, 30.0, 30.0, 30.0)  # the same for E2
    # The same for the CBCT itself, about its own centre: 12 parameters, as the paper.
    range_heart_fixed: HalfRanges = (30.0,) * 6
    min_overlap: PartShare = 0.25  # share of the CBCT's field of view inside the CT at the start
    seed: Number = 2017  # of the starts

    def ranges(self, experiment: str) -> tuple[float, ...]:
        """Half-widths of the six uniform perturbations of an experiment, "spine"; of twelve for "heart", the CBCT's own
        last."""
        return self.range_spine if experiment == "spine" else self.range_heart + self.range_heart_fixed


def tre(landmarks_moving: np.ndarray, pose: np.ndarray, landmarks_fixed: np.ndarray) -> float:
    """Target registration error, mm: mean |pose(moving) - fixed| over the landmarks, (n, 3) each."""
    if landmarks_moving is None or landmarks_fixed is None or len(landmarks_moving) == 0:
        raise UserError("The patient has no landmarks in both images, so a TRE cannot be computed; add them.")
    moved = rigid.apply(np.asarray(pose), np.asarray(landmarks_moving))
    return float(np.linalg.norm(moved - landmarks_fixed, axis=1).mean())


def surface_distance(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Exact distance (mm) of each of the points (n, 3) to a triangle mesh.

    The nearest vertex bounds the answer from above, a triangle's centroid and radius from below: only triangles that
    may be nearer than the best so far are measured, in order of their centroids' distance.
    """
    from scipy.spatial import cKDTree
    from trimesh.triangles import closest_point

    points, vertices, faces = (
        np.asarray(points, np.float64),
        np.asarray(vertices, np.float64),
        np.asarray(faces),
    )
    triangles = vertices[faces]
    centroids = triangles.mean(axis=1)
    radius = np.linalg.norm(triangles - centroids[:, None], axis=-1).max(axis=1)
    tree, best = cKDTree(centroids), cKDTree(vertices[np.unique(faces)]).query(points)[0]
    open_, done, k = np.arange(len(points)), 0, min(8, len(faces))
    while len(open_):
        gap, near = (x.reshape(len(open_), k) for x in tree.query(points[open_], k=k))
        may = gap - radius[near] < best[open_, None]
        may[:, :done] = False
        who, which = np.nonzero(may)
        here = points[open_[who]]
        found = np.linalg.norm(closest_point(triangles[near[who, which]], here) - here, axis=1)
        np.minimum.at(best, open_[who], found)
        if k == len(faces):
            break
        open_, done, k = open_[gap[:, -1] - radius.max() < best[open_]], k, min(3 * k, len(faces))
    return best


def mme(mesh_moving, pose: np.ndarray, mesh_fixed) -> float:
    """Mesh-to-mesh error, mm: mean distance of the moving mesh's vertices, moved by `pose` (4, 4; moving -> fixed), to the
    fixed mesh; meshes are (vertices (n, 3), faces (m, 3)). Not zero at the truth where the organ changed its shape."""
    if mesh_moving is None or mesh_fixed is None:
        raise UserError("The patient has no mesh in both images, so an MME cannot be computed; add them.")
    moved = rigid.apply(np.asarray(pose), np.asarray(mesh_moving[0], dtype=np.float64))
    return float(surface_distance(moved, mesh_fixed[0], mesh_fixed[1]).mean())


def success(error_mm, experiment: str):
    """Whether errors (scalar or array, mm) are within the paper's limit for "spine" or "heart"."""
    return np.asarray(error_mm) <= SUCCESS_MM[experiment]


def vertebrae_off(vertebrae, truth: np.ndarray, pose: np.ndarray, centre, limit: float = 10.0) -> int:
    """By how many whole vertebrae `pose` is off (0: none, or not by whole ones); positive = towards the feet.

    vertebrae (m, 3): centres in the moving world, head to foot. Off by k means that the levels seen by the
    CBCT (near `centre`) lie within `limit` mm, on average, of their k-th neighbours' true places.
    """
    if vertebrae is None or len(vertebrae) < 3:
        return 0
    true, moved = rigid.apply(truth, vertebrae), rigid.apply(pose, vertebrae)
    levels = np.argsort(np.linalg.norm(true - centre, axis=1))[:3]
    gaps = {}
    for k in range(-len(true) + 1, len(true)):
        kept = [i for i in levels if 0 <= i - k < len(true)]  # moved level i - k sits where level i belongs
        if len(kept) >= 2:
            gaps[k] = np.mean([np.linalg.norm(moved[i - k] - true[i]) for i in kept])
    best = min(gaps, key=gaps.get)
    return int(best) if gaps[best] <= limit else 0


def classify(ok: bool, refused: bool, v_final, vertebrae: int = 0) -> str:
    """One word for how a case ended: "" for a success, else one of `FAILURES`.

    v_final (6,): the state (mm, degrees) at the end. Whole vertebrae come first, since such a case did arrive somewhere;
    "rotated": off by more than 10 degrees but 20 mm or less.
    """
    if ok:
        return ""
    if refused:
        return "refused"
    if vertebrae:
        return "vertebra"
    rotated = np.linalg.norm(v_final[3:]) > 10 and np.linalg.norm(v_final[:3]) <= 20
    return "rotated" if rotated else "lost"


def percentiles(errors, q=(10, 50, 90)) -> np.ndarray:
    """Percentiles over all cases, failures included; NaN for none."""
    errors = np.asarray(errors, dtype=np.float64)
    return np.percentile(errors, q) if len(errors) else np.full(len(q), np.nan)


def capture_range(initial_mm, ok, share: float = 0.95) -> tuple[float, bool]:
    """From how far away a method still succeeds: the largest initial error in mm such that `share` of all starts up to
    it succeed, and whether that is the farthest start (the range may then be larger). (0, False) where not even the
    nearest start succeeds."""
    initial = np.asarray(initial_mm, dtype=np.float64)
    nearest = np.argsort(initial, kind="stable")
    rate = np.asarray(ok, dtype=np.float64)[nearest].cumsum() / np.arange(1, len(initial) + 1)
    good = np.flatnonzero(rate >= share)
    if not len(good):
        return 0.0, False
    return float(initial[nearest[good[-1]]]), bool(good[-1] == len(initial) - 1)


def wilson(k: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion k/n."""
    if n == 0:
        return np.nan, np.nan
    p, d = k / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / d, z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values, clusters, statistic=np.median, n: int = 2000, seed: int = 2017) -> tuple[float, float]:
    """95 % interval of `statistic(values)`, resampling whole clusters (patients). NaN for fewer than two.

    Few patients show less spread than there is: the percentiles lie farther out, as Student's t does beyond the normal
    (expanded percentile interval: Hesterberg, What Teachers Should Know About the Bootstrap, 2015).
    """
    values, names = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    groups = [values[names == name] for name in sorted(set(names.tolist()))]
    if len(groups) < 2:
        return np.nan, np.nan
    draws = np.random.default_rng(seed).integers(len(groups), size=(n, len(groups)))
    found = [statistic(np.concatenate([groups[i] for i in draw])) for draw in draws]
    return tuple(float(x) for x in np.percentile(found, expanded(len(groups))))


def expanded(clusters: int) -> tuple[float, float]:
    """The percentiles of a bootstrap over so many clusters between which 95 % lie."""
    tail = 100 * float(special.ndtr(-np.sqrt(clusters / (clusters - 1)) * _t(clusters)))
    return tail, 100 - tail


def _t(clusters: int) -> float:
    """Student's t of a 95 % interval over so many clusters."""
    return float(special.stdtrit(clusters - 1, 0.975))


def _clustered(values: np.ndarray, clusters) -> tuple[float, float, int]:
    """Mean of values, its variance as the sums of whole clusters give it, and the number of clusters."""
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    k, mean = len(names), float(values.mean())
    left = np.bincount(place, values - mean)
    return mean, float(k / max(1, k - 1) * (left**2).sum() / len(values) ** 2), k


def success_interval(ok, clusters) -> tuple[float, float]:
    """95 % interval of a success rate, clustered by patient: Wilson's with Student's t, and as sample size the number of
    independent cases that would vary as much (Korn and Graubard 1998; Dean and Pagano 2015), at least the patients and at
    most the cases. Where all cases agree it is the number of patients: that is all that is known."""
    ok = np.asarray(ok, dtype=np.float64)
    if len(ok) == 0:
        return np.nan, np.nan
    rate, variance, k = _clustered(ok, clusters)
    if k < 2:
        return wilson(rate, 1)
    agree = ok.min() == ok.max()
    size = k if agree else np.clip(rate * (1 - rate) / max(variance, 1e-12), k, len(ok))
    return wilson(rate * size, size, _t(k))


def paired(first, second, clusters) -> dict[str, float]:
    """Mean of `first - second` (same cases, same order) with its 95 % interval, Student's over the patients. NaN bounds where
    there is one patient, or no case differs."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(difference)
    if not n or len(set(np.asarray(clusters).tolist())) < 2 or not difference.any():
        return {"difference": float(difference.mean()) if n else np.nan, "low": np.nan, "high": np.nan, "n": n}
    mean, variance, k = _clustered(difference, clusters)
    half = _t(k) * np.sqrt(variance)
    return {"difference": mean, "low": mean - half, "high": mean + half, "n": n}
