"""What a drawn or grown patient consists of, before any scanner has seen it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.images.volume import Volume

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (n, 3) LPS mm, faces (m, 3)


@dataclass
class Anatomy:
    """One patient in the CT's frame (LPS mm: x = left, y = posterior, z = superior).

    `ct` is what the diagnostic scanner sees, `body_at_cbct` the same body, grid and rigid frame, in HU, as it is when
    the cone-beam scan is made: other gas, contrast, table and devices (E2: a heart in another state).
    """

    ct: Volume
    body_at_cbct: Volume
    target: np.ndarray  # (3,) where the cone-beam scan is centred
    landmarks: np.ndarray | None = None  # E1: (32, 3) on the edges of vertebrae
    vertebrae: np.ndarray | None = None  # E1: (m, 3) centres of vertebral bodies, head to foot
    labels: Volume | None = None  # E1: 0 elsewhere, 1.. = vertebrae from head to foot
    mesh_ct: Mesh | None = None  # E2: closed epicardium
    mesh_cbct: Mesh | None = None
    meta: dict = field(default_factory=dict)  # habitus, levels, interfering objects ...
