"""M1, ITK registration as published: Mattes mutual information, 50 bins, multi-resolution, gradient
descent on versors.

The paper names the metric, the number of bins, the multi-resolution optimiser ("a variant of gradient
descent for rigid versor transformations") and nothing else. The rest is what the toolkit's own versor
example and its 3-D tutorial use: regular-step gradient descent, random samples, three levels, the
rotation weighted 1000 times a millimetre, no mask. Both images are first brought to 3 mm, or a case would
take minutes.
"""

from __future__ import annotations

import time

from lib.baselines import common, mattes
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """From `initial` (moving -> fixed) to the nearest optimum. `mask` is taken for the common signature
    and not used.
    """
    begin = time.process_time()
    seed = int(common.generator(settings, rng).integers(2**30))
    small, floating, _ = mattes.images(fixed, moving, settings.itk)
    pose, _ = mattes.optimise(small, floating, initial, settings.itk, None, seed)
    return Result(pose, time.process_time() - begin)
