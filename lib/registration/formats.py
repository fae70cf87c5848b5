"""The result in the files that other tools load: ITK, elastix, ANTs, greedy, DICOM. `docs/inputs.md` says how each loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import rigid
from lib.base import provenance
from lib.images.transforms import write_transform

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write(name: str, path, result, fixed, moving) -> None:
    """Write `result.pose` (moving -> fixed) in the format `name`. Raises UserError where it cannot be written."""
    if name == "itk":
        write_transform(result.pose, path, result.centre)
    elif name == "ants":
        write_transform(result.pose, path, result.centre, "AffineTransform")
    elif name == "greedy":
        write_greedy(result.pose, path)
    elif name == "elastix":
        write_elastix(result.pose, path, result.centre, fixed)
    else:
        from lib.registration import spatial

        spatial.write(result.pose, fixed, moving, path)


def write_greedy(pose: np.ndarray, path) -> None:
    """A 4x4 matrix in text, fixed -> moving points, RAS mm (greedy's and ITK-SNAP's)."""
    matrix = RAS @ rigid.invert(np.asarray(pose, dtype=np.float64)) @ RAS
    with provenance.atomic(path) as temporary:
        Path(temporary).write_text("\n".join(" ".join(f"{x:.12g}" for x in row) for row in matrix + 0.0) + "\n")


def write_elastix(pose: np.ndarray, path, centre, fixed) -> None:
    """elastix's own file of parameters (for `-t0`, and `transformix -tp`), fixed -> moving points, LPS mm, on the CBCT's grid."""
    inverse = rigid.invert(np.asarray(pose, dtype=np.float64))
    turn, centre = inverse[:3, :3], np.asarray(centre, dtype=float)
    # ITK's Euler3DTransform: R = Rz Rx Ry
    angles = [
        np.arcsin(np.clip(turn[2, 1], -1, 1)),
        np.arctan2(-turn[2, 0], turn[2, 2]),
        np.arctan2(-turn[0, 1], turn[1, 1]),
    ]
    shift = inverse[:3, 3] + turn @ centre - centre
    grid = fixed.given if fixed.given is not None else fixed
    values = {
        "Transform": '"EulerTransform"',
        "NumberOfParameters": "6",
        "TransformParameters": _words([*angles, *shift]),
        "InitialTransformParameterFileName": '"NoInitialTransform"',
        "InitialTransformParametersFileName": '"NoInitialTransform"',
        "HowToCombineTransforms": '"Compose"',
        "FixedImageDimension": "3",
        "MovingImageDimension": "3",
        "FixedInternalImagePixelType": '"float"',
        "MovingInternalImagePixelType": '"float"',
        "Size": " ".join(str(int(n)) for n in grid.size),
        "Index": "0 0 0",
        "Spacing": _words(grid.spacing),
        "Origin": _words(grid.origin),
        "Direction": _words(np.asarray(grid.direction).T.ravel()),  # elastix writes columns
        "UseDirectionCosines": '"true"',
        "CenterOfRotationPoint": _words(centre),
        "ComputeZYX": '"false"',
        "ResampleInterpolator": '"FinalLinearInterpolator"',
        "Resampler": '"DefaultResampler"',
        "DefaultPixelValue": "-1000",
        "ResultImageFormat": '"nii.gz"',
        "ResultImagePixelType": '"short"',
        "CompressResultImage": '"true"',
    }
    with provenance.atomic(path) as temporary:
        Path(temporary).write_text("".join(f"({name} {value})\n" for name, value in values.items()))


def _words(values) -> str:
    return " ".join(f"{float(v) + 0.0:.12g}" for v in values)
