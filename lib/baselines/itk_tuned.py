"""ITK registration as strong as one start allows: what an experienced user changes in `itk`, found on
training-like data.

The metric sees the CBCT's field of view only (the air around it is the strongest edge of a CBCT, and
tells nothing), intensities are cut to where tissue differs, steps are scaled by the physical shift they
cause, and the coarsest level is smoothed enough to look past one vertebra's edge. Settings:
`BaselineSettings.tuned`.
"""

from __future__ import annotations

import time

from lib.baselines import common, mattes
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """From `initial` (moving -> fixed) to the nearest optimum inside the field of view `mask`."""
    begin = time.process_time()
    seed = int(common.generator(settings, rng).integers(2**30))
    small, floating, field = mattes.images(fixed, moving, settings.tuned, mask)
    pose, _ = mattes.optimise(small, floating, initial, settings.tuned, field, seed)
    return Result(pose, time.process_time() - begin)
