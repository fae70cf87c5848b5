"""Reading what people have: NIfTI, MHA/MHD, NRRD, a DICOM file, or a folder of DICOM series, as a `Volume` in LPS.

Every input that cannot be registered ends in one `UserError` that names the file and the remedy. Axes are reordered and
flipped (nothing is interpolated) so that i, j, k run towards Left, Posterior, Superior as nearly as they can. What the
file itself said stands in `Volume.given`; what its numbers mean is decided in `lib.images.values`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from lib.base.errors import UserError
from lib.images.given import Given, check_spacing, right_angles
from lib.images.volume import Volume

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
FEWEST = 8  # slices along each axis below which an image is no volume


def read_image(path: str | Path, series: str | None = None, kind: str = "image", compact: bool = False) -> Volume:
    """The image at `path`. `series` picks a DICOM series by its UID, number or (part of its) description.

    kind "ct" and "cbct" bring the values to HU (`lib.images.values.settle`), and "ct" refuses what cannot be one; "image"
    leaves them. compact: int16 stays int16 (a large CT: half the memory). Raises UserError: missing or unreadable file,
    no or several DICOM series, not 3-D, several components, NaN or infinite values, a constant image, impossible spacing
    or direction, geometry that is not said, tilted gantry, missing slices, a modality other than CT (or XA, for a CBCT).
    """
    from lib.images import dicom, headers, nifti

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path.")
    if series is not None and not path.is_dir():
        raise UserError(f"{path.name}: a series was named ({series}), but this is a file; leave the series out.")
    if path.is_dir():
        array, given = dicom.read_folder(path, series, kind)
    elif dicom.is_dicom(path):
        array, given = dicom.read_file(path, kind)
    else:
        _check_file(path)
        array, given = nifti.read(path) if path.name.lower().endswith((".nii", ".nii.gz")) else headers.read(path)
    return _to_volume(array, given, kind, compact)


def _check_file(path: Path) -> None:
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(
            f"{path.name}: unknown format; give NIfTI (.nii, .nii.gz), .mha, .mhd, .nrrd or a DICOM folder."
        )
    if not os.access(path, os.R_OK) or path.stat().st_size == 0:
        raise UserError(f"{path.name}: the file is empty or may not be read; copy it again.")


def _to_volume(array: np.ndarray, given: Given, kind: str, compact: bool) -> Volume:
    """Checks common to all formats, axes to LPS, values to HU where `kind` asks for it."""
    from lib.images import values

    name = given.name
    check_spacing(given.spacing, name)
    given.direction = right_angles(np.asarray(given.direction, dtype=float), name)
    if min(array.shape) < FEWEST:
        size = " x ".join(map(str, array.shape[::-1]))
        raise UserError(f"{name}: only {size} voxels; a volume of at least {FEWEST} slices along each axis is needed.")
    values.check_range(float(array.min()), float(array.max()), name)
    if empty := _empty_between(array):
        given.notes.append(
            f"{len(empty)} of its slices between others (the first is number {empty[0] + 1}) hold nothing; if it should, export "
            "it again"
        )
    volume = to_lps(array, given)
    if not compact or volume.array.dtype != torch.int16:
        volume.array = volume.array.float()
    if kind == "image":
        return volume
    volume, found = values.settle(volume, kind, name, own=True)
    if found.words:
        given.notes.append(found.words)
    given.guessed = found.words if found.guessed else ""
    return volume


def _empty_between(array: np.ndarray) -> list[int]:
    """Numbers of the slices of one value alone that lie between slices that hold something: lost on the way, most often."""
    empty = [n for n, plane in enumerate(array) if (thin := plane[::4, ::4]).min() == thin.max() and np.ptp(plane) == 0]
    full = sorted({*range(len(array))} - {*empty})
    return [n for n in empty if full and full[0] < n < full[-1]]


def to_lps(array: np.ndarray, given: Given) -> Volume:
    """The Volume of an array in the file's own order of axes: reordered and flipped towards L, P, S, as ITK does it."""
    import SimpleITK as sitk

    small = sitk.Image([2, 3, 4], sitk.sitkUInt8)
    small.SetDirection([float(d) for d in given.direction.ravel()])
    turned = sitk.DICOMOrient(small, "LPS")
    axes = [n - 2 for n in turned.GetSize()]  # the new i, j, k in terms of the old
    direction = np.reshape(turned.GetDirection(), (3, 3))
    if axes != [0, 1, 2]:
        array = np.ascontiguousarray(array.transpose([2 - axes[2 - n] for n in range(3)]))
    elif not array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
    origin, spacing = np.array(given.origin, dtype=float), np.asarray(given.spacing, dtype=float)[axes]
    for new, old in enumerate(axes):
        if direction[:, new] @ given.direction[:, old] < 0:
            origin = origin + given.direction[:, old] * given.spacing[old] * (given.size[old] - 1)
            _flip(array, 2 - new)
    return Volume(torch.from_numpy(array), spacing, origin, direction, given)


def _flip(array: np.ndarray, axis: int) -> None:
    """Turn an axis round in place, so that a large volume is in memory once."""
    if axis == 0:
        for k in range(len(array) // 2):
            array[[k, len(array) - 1 - k]] = array[[len(array) - 1 - k, k]]
        return
    for plane in array:
        plane[:] = np.flip(plane, axis - 1).copy()
