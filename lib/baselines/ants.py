"""ANTs (antspyx): its `Rigid` transform from the given pose, and after its multi-start affine
initialiser.

`Rigid` as shipped: Mattes mutual information, 32 bins, a random fifth of the voxels, four levels.
`affine_initializer` searches rotations over a part of the sphere from aligned centres of mass; it knows
no start and gives an affine transform, whose nearest rotation is taken. Both images are first brought to
4 mm.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import ants
import numpy as np

from lib.baselines import common
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed, started at `initial`, inside the field of view `mask`."""
    begin = time.perf_counter()
    small, field, floating = _images(fixed, moving, initial, settings, mask)
    pose = _rigid(small, field, floating, "Identity", settings, rng)
    return Result(pose @ initial, time.perf_counter() - begin)


def search(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """`Rigid` from where the multi-start initialiser ends."""
    begin = time.perf_counter()
    small, field, floating = _images(fixed, moving, initial, settings, mask)
    options = settings.ants
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "start.mat")
        ants.affine_initializer(
            small, floating, options.search_factor, options.radian_fraction, False,
            options.search_iterations, mask=field, txfn=path,
        )  # fmt: skip
        start = common.from_mapping(ants.read_transform(path).apply_to_point)
    # Laid down anew at the found start, as in `register`: the rigid stage sees no affine part.
    _, _, floating = _images(fixed, moving, start @ initial, settings, mask)
    pose = _rigid(small, field, floating, "Identity", settings, rng)
    return Result(pose @ start @ initial, time.perf_counter() - begin)


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
    seed = 1 + int(common.generator(settings, rng).integers(2**30))
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            fixed, moving, type_of_transform="Rigid", initial_transform=start, mask=mask,
            outprefix=str(Path(folder) / "rigid_"), random_seed=seed, singleprecision=False,
        )  # fmt: skip
        # One file; it maps fixed to moving points in LPS.
        return common.from_mapping(ants.read_transform(found["fwdtransforms"][0]).apply_to_point)
