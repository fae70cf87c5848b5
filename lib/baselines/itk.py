"""ITK: one run of Mattes mutual information from the given start, as published (M1) and as strong as one start allows.

`register` is the paper's M1. It names the metric, 50 bins, the multi-resolution optimiser ("a variant of gradient
descent for rigid versor transformations") and nothing else. The rest is what the toolkit's own versor example and its
3-D tutorial use: regular-step gradient descent, random samples, three levels, the rotation weighted 1000 times a
millimetre, no mask. Both images are first brought to 3 mm, or a case would take minutes.

`tuned` is what an experienced user changes, found on training-like data. The metric sees the CBCT's field of view only
(the air around it is the strongest edge of a CBCT, and tells nothing), intensities are cut to where tissue differs,
steps are scaled by the physical shift they cause, and the coarsest level is smoothed enough to look past one vertebra's
edge. Settings: `BaselineSettings.itk`, `BaselineSettings.tuned`.
"""

from __future__ import annotations

import time

from lib.baselines import common, mattes
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """From `initial` (moving -> fixed) to the nearest optimum, as published: `mask` is not used."""
    return _once(fixed, moving, initial, settings, settings.itk, mask, rng)


def tuned(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """From `initial` (moving -> fixed) to the nearest optimum inside the field of view `mask`."""
    return _once(fixed, moving, initial, settings, settings.tuned, mask, rng)


def _once(fixed, moving, initial, settings, options, mask, rng) -> Result:
    begin = time.process_time()
    seed = int(common.generator(settings, rng).integers(2**30))
    small, floating, field = mattes.images(fixed, moving, options, mask)
    pose, _ = mattes.optimise(small, floating, initial, options, field, seed)
    return Result(pose, time.process_time() - begin)
