"""greedy (picsl_greedy): rigid registration from the given pose, and with its own random search around
it.

Local normalised correlation weighted by what both images cover (WNCC), three levels: its mutual
information drifts out of the CT where the images overlap in part. `-search` tries random rotations and
shifts about the start and keeps the one with the best metric at the coarsest level. Matrices of greedy
map fixed to moving in RAS.
"""

from __future__ import annotations

import io
import time

import numpy as np
from picsl_greedy import Greedy3D

from lib import rigid
from lib.baselines import common
from lib.cases import Result
from lib.images import volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS <-> RAS


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed, started at `initial`, inside the field of view `mask`."""
    return _run(fixed, moving, initial, settings, mask, rng, search="")


def search(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """The same with `-search`: random starts around `initial` (4, 4), moving -> fixed."""
    options = settings.greedy
    text = f"-search {options.search_starts} {options.search_degrees:g} {options.search_mm:g}"
    return _run(fixed, moving, initial, settings, mask, rng, search=text)


def _run(fixed, moving, initial, settings, mask, rng, search) -> Result:
    begin = time.process_time()
    options = settings.greedy
    small = common.prepare(fixed, options.spacing, options.clamp)
    floating = common.moved_origin(common.prepare(moving, options.spacing, options.clamp), initial)
    field = common.mask_on(fixed, mask, small)
    if options.use_mask:
        small, field = common.crop(small, field)
    images = {"fixed": volume.to_sitk(small), "moving": volume.to_sitk(floating)}
    command = "-d 3 -a -dof 6 -i fixed moving -o result -ia-identity -threads 1 -V 0"
    command += f" -m {options.metric} -n {options.iterations} {search}"
    if options.use_mask:
        images["field"] = volume.to_sitk(small.with_array(field.float()))
        command += " -gm field"
    tool = Greedy3D()
    log = io.StringIO()
    with common.silence():  # its line search comments on each failed step
        tool.execute(command, out=log, err=log, result=None, **images)
    found = RAS @ np.array(tool["result"], dtype=np.float64) @ RAS
    return Result(rigid.invert(rigid.orthogonal(found)) @ initial, time.process_time() - begin)
