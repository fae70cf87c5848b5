"""A cone-beam scan without its physics, for one question: what are RTK's projections worth in training?

The body is looked at through a cylinder, a little blurred, darker (or brighter) towards its middle, with noise and a scale
of its own. No beam, no truncation, no streaks, no rings, no motion. Used only where `patients.rtk` is below 1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.images.volume import AIR, Volume, gaussian, sample
from lib.patients.scanner.conebeam import ConeBeamSettings, draw_scanner, mask_cylinder

BLUR = (0.3, 1.0)  # voxels, sigma
CUPPING = (-60.0, 150.0)  # HU by which the rim is brighter than the middle
NOISE = (10.0, 90.0)  # HU, standard deviation


def simulate(body: Volume, centre, rng: np.random.Generator, settings: ConeBeamSettings, pose: np.ndarray) -> Volume:
    """Look at `body` (HU) around `centre` (3,), body world LPS mm; arguments and result as of `conebeam.simulate`, with
    the same fields of view, scale and offset."""
    scanner, (nx, ny, nz) = draw_scanner(rng, settings)
    isocentre = rigid.apply(pose, np.asarray(centre, dtype=np.float64)[None])[0]
    spacing = np.full(3, settings.spacing)
    grid = Volume(torch.empty(nz, ny, nx), spacing, isocentre - spacing * (np.array([nx, ny, nz]) - 1) / 2)
    there = rigid.apply(rigid.invert(pose), grid.points().reshape(-1, 3).double().numpy())
    low, high = body.affine[2, 3], body.affine[2, 3] + body.spacing[2] * (body.size[2] - 1)
    there[:, 2] = there[:, 2].clip(min(low, high), max(low, high))  # the end slices go on, as in `conebeam`
    values = sample(body, torch.from_numpy(there).float(), fill=AIR).reshape(nz, ny, nx)
    values = gaussian(values, rng.uniform(*BLUR))
    y, x = np.mgrid[:ny, :nx] - (np.array([ny, nx])[:, None, None] - 1) / 2
    rim = torch.from_numpy((x**2 + y**2) * settings.spacing**2 / scanner.radius**2)
    values = values + rng.uniform(*CUPPING) * rim.float()
    grain = torch.from_numpy(rng.standard_normal((nz, ny, nx), dtype=np.float32))
    grain = F.avg_pool3d(grain[None, None], 3, 1, 1)[0, 0] * 2 + grain * 0.5  # neighbours share some of it, as in FDK
    values = values + rng.uniform(*NOISE) * grain / grain.std()
    values = values * rng.uniform(*settings.gain) + rng.uniform(*settings.offset)
    return Volume(
        torch.from_numpy(mask_cylinder(values.numpy(), settings.spacing, scanner.radius)), spacing, grid.origin
    )
