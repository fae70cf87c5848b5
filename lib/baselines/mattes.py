"""One run of SimpleITK's registration with Mattes mutual information: what `itk`, `itk_tuned` and their
kin share.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from lib.baselines import common
from lib.baselines.settings import MattesSettings
from lib.images import volume
from lib.images.volume import Volume


def images(fixed: Volume, moving: Volume, settings: MattesSettings, mask=None):
    """Both images as the optimiser will see them: (fixed, moving, fixed mask or None), resampled,
    clamped, cut.
    """
    small = common.prepare(fixed, settings.spacing, settings.clamp)
    moving = common.prepare(moving, settings.spacing, settings.clamp)
    if not settings.use_mask:
        return small, moving, None
    small, field = common.crop(small, common.mask_on(fixed, mask, small))
    return small, moving, field


def optimise(
    fixed: Volume, moving: Volume, initial: np.ndarray, settings: MattesSettings, mask=None, seed: int = 0, part=None
):
    """Mattes mutual information from one start, over the pyramid of the settings.

    Takes images as they come from `images`; `part`: a Volume, 1 where the moving image counts, else 0. Gives
    (pose (4, 4) moving -> fixed, metric: the negative mutual information). Raises RuntimeError where ITK refuses, for
    instance when all samples fall outside the moving image.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    if settings.metric == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(settings.bins)
    voxels = [np.prod([max(n // k, 1) for n in fixed.size]) for k in settings.shrink]
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(
        [float(min(1.0, settings.samples / n)) for n in voxels], seed=1 + seed % 2**30
    )
    if mask is not None:
        method.SetMetricFixedMask(volume.to_sitk(fixed.with_array(mask.float()), np.uint8))
    if part is not None:
        method.SetMetricMovingMask(volume.to_sitk(part, np.uint8))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([int(s) for s in settings.shrink])
    method.SetSmoothingSigmasPerLevel([float(s) for s in settings.smooth])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    _optimiser(method, settings)
    if settings.rotation_scale > 0:
        method.SetOptimizerScales([settings.rotation_scale] * 3 + [1.0] * 3)
    else:
        method.SetOptimizerScalesFromPhysicalShift()
    transform = common.to_versor(initial, common.mask_centre(fixed, mask))
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(volume.to_sitk(fixed), volume.to_sitk(moving))
    return common.from_mapping(transform.TransformPoint), float(method.GetMetricValue())


def _optimiser(method, settings: MattesSettings) -> None:
    if settings.optimiser == "regular_step":
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=settings.learning_rate,
            minStep=settings.min_step,
            numberOfIterations=settings.iterations,
            relaxationFactor=0.5,
            gradientMagnitudeTolerance=1e-6,
        )
    elif settings.optimiser == "line_search":
        method.SetOptimizerAsGradientDescentLineSearch(
            learningRate=settings.learning_rate,
            numberOfIterations=settings.iterations,
            convergenceMinimumValue=1e-5,
            convergenceWindowSize=8,
        )
    else:
        raise ValueError(f"unknown optimiser {settings.optimiser}: regular_step or line_search")
