"""elastix (itk-elastix): rigid, its shipped default parameter map, started from the given pose.

The shipped map: Mattes mutual information, adaptive stochastic gradient descent, 4 resolutions, 256
iterations each, 2048 new random samples an iteration. Only the seed is added, no result image is asked
for, and its own centre initialisation is off (it is by default). The start is given by laying the moving
image into the fixed world at the initial pose; elastix starts from identity.
"""

from __future__ import annotations

import time

import itk
import numpy as np

from lib import rigid
from lib.baselines import common
from lib.cases import Result


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed. `mask` is used only where `settings.elastix.use_mask` says so."""
    begin = time.process_time()
    options = settings.elastix
    small = common.prepare(fixed, options.spacing, (-1024.0, 3071.0))
    floating = common.moved_origin(common.prepare(moving, options.spacing, (-1024.0, 3071.0)), initial)
    parameters = itk.ParameterObject.New()
    shipped = parameters.GetDefaultParameterMap("rigid")
    shipped["RandomSeed"] = (str(1 + int(common.generator(settings, rng).integers(2**30))),)
    shipped["WriteResultImage"] = ("false",)
    parameters.AddParameterMap(shipped)
    extra = {}
    if options.use_mask:
        small, field = common.crop(small, common.mask_on(fixed, mask, small))
        extra["fixed_mask"] = common.to_itk(small.with_array(field.float()), np.uint8)
    _, found = itk.elastix_registration_method(
        common.to_itk(small),
        common.to_itk(floating),
        parameter_object=parameters,
        log_to_console=False,
        number_of_threads=1,
        **extra,
    )
    return Result(_pose(found) @ initial, time.process_time() - begin)


def _pose(found) -> np.ndarray:
    """elastix's EulerTransform (angles about x, y, z in radians: R = Rz Rx Ry; fixed -> moving) as a
    pose.
    """
    numbers = [float(x) for x in found.GetParameter(0, "TransformParameters")]
    centre = np.array([float(x) for x in found.GetParameter(0, "CenterOfRotationPoint")])
    euler = itk.Euler3DTransform[itk.D].New()
    euler.SetComputeZYX(found.GetParameter(0, "ComputeZYX")[0] == "true")
    euler.SetParameters(itk.OptimizerParameters[itk.D](numbers))
    rotation = itk.array_from_matrix(euler.GetMatrix())
    inverse = rigid.translation(np.array(numbers[3:]) + centre) @ _homogeneous(rotation) @ rigid.translation(-centre)
    return rigid.invert(inverse)


def _homogeneous(rotation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return matrix
