"""A boosted-tree voxel classifier: features at several scales, scikit-learn's trees, kept as plain
arrays.

Every tree is stored as a perfect binary tree of fixed depth (feature, threshold, value), so that a model
is an `.npz` without pickled code and is evaluated with array indexing alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.base.errors import UserError
from lib.images import normalise, volume
from lib.images.volume import Volume

SCALES = (0.0, 5.0, 10.0, 20.0, 40.0)  # sigma of the Gaussians, mm
REACH = (20.0, 45.0)  # offsets of the Haar-like differences, mm, each on an image smoothed to a quarter of it


def prepare(image: Volume, mask: torch.Tensor | None, spacing: float) -> tuple[Volume, torch.Tensor]:
    """Image near HU at `spacing` mm, -1000 outside the field of view, and that field (nz, ny, nx)."""
    mask = torch.ones_like(image.array, dtype=torch.bool) if mask is None else mask.bool()
    inside = image.array[mask & (image.array > -3000)]
    gain, offset = normalise.tissue_level(inside)
    # Padding must not bleed into the edge of the field of view: soft tissue stands in while resampling.
    hu = torch.where(mask, (image.array * gain + offset).clamp(-1000, 1500), torch.tensor(0.0))
    small = volume.resample(image.with_array(hu), np.maximum(image.spacing, spacing))
    field = volume.resample(image.with_array(mask.float()), np.maximum(image.spacing, spacing)).array > 0.5
    return small.with_array(torch.where(field, small.array, torch.tensor(-1000.0))), field


def features(small: Volume, field: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Features (n, 5 + 12) of voxels `index` (n, 3) = (k, j, i): means at five scales, differences to
    neighbours.

    Means are taken inside the field of view only, so that its edge looks like nothing.
    """
    weight = field.float()
    filled = small.array * weight
    columns = []

    def at(image, shift=(0, 0, 0)):
        ijk = [(index[:, d] + shift[d]).clamp(0, image.shape[d] - 1) for d in range(3)]
        return image[ijk[0], ijk[1], ijk[2]]

    def blurred(sigma):
        size = sigma / small.spacing
        return volume.gaussian(filled, size) / volume.gaussian(weight, size).clamp(min=1e-2)

    columns += [at(small.array if s == 0 else blurred(s)) for s in SCALES]
    for reach in REACH:
        image = blurred(reach / 4)
        middle = at(image)
        for dim in range(3):
            step = int(round(reach / small.spacing[2 - dim]))
            for sign in (-1, 1):
                shift = [0, 0, 0]
                shift[dim] = sign * step
                columns.append(at(image, shift) - middle)
    return torch.stack(columns, dim=1)


@dataclass
class Forest:
    """Perfect trees. feature, threshold: (trees, 2^depth - 1); value: (trees, 2^depth); baseline:
    log-odds.
    """

    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    baseline: float

    def probability(self, x: torch.Tensor, early: int = 15, hopeless: float = -3.0) -> torch.Tensor:
        """Probability (n,) of the object at feature rows (n, f).

        As in a cascade, rows whose log-odds are below `hopeless` after `early` trees are not looked at
        again.
        """
        raw = torch.full((len(x),), float(self.baseline))
        raw += self._sum(x, slice(0, early))
        open_ = torch.nonzero(raw > hopeless)[:, 0]
        raw[open_] += self._sum(x[open_], slice(early, None))
        return torch.sigmoid(raw)

    def _sum(self, x: torch.Tensor, trees: slice) -> torch.Tensor:
        """Sum (n,) of the leaves that rows (n, f) fall into, over some trees."""
        depth = int(np.log2(self.value.shape[1]))
        flat, row = x.float().reshape(-1), torch.arange(len(x)) * x.shape[1]
        total = torch.zeros(len(x))
        arrays = (torch.as_tensor(a[trees]) for a in (self.feature, self.threshold, self.value))
        for feature, threshold, value in zip(*arrays, strict=True):
            node = torch.zeros(len(x), dtype=torch.long)
            for _ in range(depth):
                node = 2 * node + 1 + (flat[row + feature[node]] > threshold[node])
            total += value[node - len(feature)]
        return total


def fit(x: np.ndarray, y: np.ndarray, settings, seed: int) -> Forest:
    """Train scikit-learn's histogram gradient boosting on features (n, f) and labels (n,), and unfold its
    trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosted = HistGradientBoostingClassifier(
        max_iter=settings.trees,
        max_depth=settings.depth,
        max_leaf_nodes=2**settings.depth,
        learning_rate=settings.learning_rate,
        early_stopping=False,
        random_state=seed,
    )
    boosted.fit(x, y)
    trees = [_unfold(stage[0].nodes, settings.depth) for stage in boosted._predictors]
    arrays = [np.stack(a) for a in zip(*trees, strict=True)]
    return Forest(*arrays, float(np.ravel(boosted._baseline_prediction)[0]))


def _unfold(nodes: np.ndarray, depth: int):
    """One scikit-learn tree as a perfect one: a leaf above the last level is repeated below itself."""
    feature = np.zeros(2**depth - 1, dtype=np.int64)
    threshold = np.full(2**depth - 1, np.inf, dtype=np.float32)
    value = np.zeros(2**depth, dtype=np.float32)

    def walk(source, target, level):
        node = nodes[source]
        if level == depth:
            value[target - len(feature)] = node["value"]
            return
        left = right = source
        if not node["is_leaf"]:
            feature[target], threshold[target] = node["feature_idx"], node["num_threshold"]
            left, right = node["left"], node["right"]
        walk(left, 2 * target + 1, level + 1)
        walk(right, 2 * target + 2, level + 1)

    walk(0, 0, 0)
    return feature, threshold, value


def save(forests: dict[str, Forest], path) -> None:
    """Write forests by name to one `.npz`; written beside, then renamed."""
    path = Path(path)
    arrays = {f"{name}.{key}": np.asarray(a) for name, f in forests.items() for key, a in vars(f).items()}
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def load(path) -> dict[str, Forest]:
    """Forests by name. Raises UserError where the file is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = sorted({key.split(".")[0] for key in file.files})
            keys = ("feature", "threshold", "value", "baseline")
            return {n: Forest(*(file[f"{n}.{k}"] for k in keys)) for n in names}
    except (OSError, ValueError, KeyError) as problem:
        raise UserError(f"{path}: not a trained classifier ({problem}); run notebook 05 again.") from None
