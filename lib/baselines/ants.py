"""ANTs (antspyx): its `Rigid` transform from the given pose, and after its multi-start affine
initialiser.

`Rigid`: Mattes mutual information, 32 bins, random samples. The pyramid is the settings', for the shipped
one starts at a sixth of the grid, too coarse for the 4 mm to which both images are brought here.
`affine_initializer` searches rotations over a part of the sphere from aligned centres of mass, air weighing nothing; it
knows no start and gives an affine transform, whose nearest rotation is taken. It may end tens of millimetres off on a CBCT,
whose centre of mass is not the CT's: `search` therefore compares its end with the given start's.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import ants
import numpy as np

from lib.baselines import common, fair
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed, started at `initial`, inside the field of view `mask`."""
    begin = time.process_time()
    small, field, floating = _images(fixed, moving, initial, settings, mask)
    pose = _rigid(small, field, floating, "Identity", settings, rng)
    return Result(pose @ initial, time.process_time() - begin)


def search(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """`Rigid` from where the multi-start initialiser ends and from `initial`; the better end on common
    regions (`fair`) is kept."""
    begin = time.process_time()
    rng, options = common.generator(settings, rng), settings.ants
    small, field, floating = _images(fixed, moving, initial, settings, mask)
    ends = [_rigid(small, field, floating, "Identity", settings, rng) @ initial]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "start.mat")
        ants.affine_initializer(
            small - options.clamp[0],  # a mass must not be negative, or its centre may lie outside the image
            floating - options.clamp[0],
            options.search_factor,
            options.radian_fraction,
            False,
            options.search_iterations,
            mask=field,
            txfn=path,
        )
        start = common.from_mapping(ants.read_transform(path).apply_to_point) @ initial
    # Laid down anew at the found start, as in `register`: the rigid stage sees no affine part.
    _, _, floating = _images(fixed, moving, start, settings, mask)
    ends.append(_rigid(small, field, floating, "Identity", settings, rng) @ start)
    grid = common.prepare(fixed, options.spacing, options.clamp)
    points, values = common.points_of(grid, common.mask_on(fixed, mask, grid), 10000, rng)
    ct = common.prepare(moving, options.spacing, options.clamp)
    winner, _ = fair.best(ends, values, points, ct, settings.search.min_overlap)
    return Result(ends[winner], time.process_time() - begin)


def _images(fixed, moving, initial, settings, mask):
    options = settings.ants
    small = common.prepare(fixed, options.spacing, options.clamp)
    field = common.mask_on(fixed, mask, small)
    if options.use_mask:
        small, field = common.crop(small, field)
    floating = common.moved_origin(common.prepare(moving, options.spacing, options.clamp), initial)
    mask_image = common.to_ants(small.with_array(field.float())) if options.use_mask else None
    return common.to_ants(small), mask_image, common.to_ants(floating)


def _rigid(fixed, mask, moving, start, settings, rng) -> np.ndarray:
    options = settings.ants
    # The tool's own argument does not make it reproducible; this variable does.
    os.environ["ANTS_RANDOM_SEED"] = str(1 + int(common.generator(settings, rng).integers(2**30)))
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            fixed,
            moving,
            type_of_transform="Rigid",
            initial_transform=start,
            mask=mask,
            outprefix=str(Path(folder) / "rigid_"),
            aff_iterations=options.iterations,
            aff_shrink_factors=options.shrink,
            aff_smoothing_sigmas=options.smooth,
            aff_random_sampling_rate=options.sampling,
            singleprecision=False,
        )
        # One file; it maps fixed to moving points in LPS.
        return common.from_mapping(ants.read_transform(found["fwdtransforms"][0]).apply_to_point)
