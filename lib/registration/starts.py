"""Where a registration starts: the pose that was given, or how the scans came, and poses around it."""

from __future__ import annotations

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.images.pair import overlap
from lib.images.volume import Volume


def apart(fixed: Volume, moving: Volume) -> bool:
    """Whether the two do not meet in their own coordinates, so that nothing says where along the body the CBCT lies."""
    return overlap(fixed, moving, np.eye(4)) < 0.25


def starting_poses(fixed: Volume, moving: Volume, initial, centre, experiment: str, settings) -> np.ndarray:
    """(starts, 4, 4), moving -> fixed: `initial` (4, 4) and poses around it. Without one: the scanners' own coordinates if
    the images overlap there, else the middles of the two on each other. Raises UserError where the fields of view do not
    meet."""
    given, along = initial is not None, settings.spread_along
    if given and overlap(fixed, moving, np.asarray(initial)) < 0.05:
        raise UserError(
            "The fields of view do not overlap at the initial transform; does it map fixed to moving points?"
        )
    if not given:
        initial = np.eye(4)
        if apart(fixed, moving):
            initial = rigid.translation(np.asarray(centre) - moving.centre)
            length = moving.size[2] * moving.spacing[2]
            along = max(along, min(120.0, length / 2 - 60)) if experiment == "spine" else along
        if overlap(fixed, moving, initial) < 0.05:
            raise UserError(
                "The fields of view do not overlap, not even with their middles on each "
                "other; is this the "
                "same part of the body?"
            )
    rng, n = np.random.default_rng(settings.seed), max(settings.starts, 1)
    offsets = rng.uniform(-1, 1, (n, 6)) * np.repeat([settings.spread_mm, settings.spread_degrees], 3)
    even = np.linspace(-along, along, n + 1 - n % 2)  # with 0 among them
    offsets[:, 2] = even[np.argsort(np.abs(even), kind="stable")][:n]
    offsets[0] = 0.0
    return np.stack([rigid.about(rigid.params_to_matrix(v), centre) @ initial for v in offsets])
