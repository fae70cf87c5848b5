"""A boosted-tree voxel classifier: features at several scales, and scikit-learn's trees, kept without pickled code."""

from __future__ import annotations

from itertools import islice
from zipfile import BadZipFile

import numpy as np
import skops.io
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from skops.io.exceptions import UntrustedTypesFoundException

from lib.base import provenance
from lib.base.errors import UserError
from lib.images import normalise, volume
from lib.images.volume import Volume

SCALES = (0.0, 5.0, 10.0, 20.0, 40.0)  # sigma of the Gaussians, mm
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]  # all that the trees need beside arrays
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


def fit(x: np.ndarray, y: np.ndarray, settings, seed: int) -> HistGradientBoostingClassifier:
    """scikit-learn's histogram gradient boosting on features (n, f) and labels (n,)."""
    trees = HistGradientBoostingClassifier(
        max_iter=settings.trees,
        max_depth=settings.depth,
        max_leaf_nodes=2**settings.depth,
        learning_rate=settings.learning_rate,
        early_stopping=False,
        random_state=seed,
    )
    return trees.fit(x, y)


def probability(trees: HistGradientBoostingClassifier, x: torch.Tensor, early: int = 15, hopeless: float = -3.0):
    """Probability (n,) of the object at feature rows (n, f).

    As in a cascade, rows whose log-odds are below `hopeless` after `early` trees are not looked at again.
    """
    rows = x.numpy()
    raw = next(islice(trees.staged_decision_function(rows), early - 1, None)).reshape(-1)
    still = raw > hopeless
    if still.any():
        raw[still] = trees.decision_function(rows[still])
    return torch.sigmoid(torch.as_tensor(raw, dtype=torch.float32))


def save(models: dict[str, HistGradientBoostingClassifier], path) -> None:
    """Write classifiers by name to one file; written beside, then renamed."""
    with provenance.atomic(path) as temporary:
        skops.io.dump(models, temporary)


def load(path) -> dict[str, HistGradientBoostingClassifier]:
    """Classifiers by name. Raises UserError where the file holds anything else: nothing unknown is run."""
    try:
        return skops.io.load(path, trusted=TRUSTED)
    except (OSError, ValueError, KeyError, BadZipFile, UntrustedTypesFoundException) as problem:
        raise UserError(f"{path}: not a trained classifier ({problem}); run notebook 05 again.") from None
