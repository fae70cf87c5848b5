"""NIfTI: geometry from the header itself, voxels through nibabel; NIfTI-1 and NIfTI-2, plain or gzipped.

Readers differ where a header contradicts itself (one takes the qform, another the sform, a third drops a shear), each in
silence. Here all that it says must agree, or the file is refused.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.images.given import Given, check_spacing, right_angles
from lib.images.slabs import Stack, slabs
from lib.images.whole import read_out

TO_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: metre, millimetre, micrometre; not said: millimetre
APART = 1.0  # mm between where sform and qform put a corner, above which they disagree
LPS = np.diag([-1.0, -1, 1, 1])  # from NIfTI's RAS


def read(path: Path) -> tuple[np.ndarray, Given]:
    """(array (nz, ny, nx), Given) in LPS mm, in the file's own order of axes. Raises UserError."""
    header = _header(path)
    dims = [int(n) for n in header["dim"][1 : 1 + max(int(header["dim"][0]), 0)]]
    _check_dims(dims, path.name)
    zooms = np.asarray(header["pixdim"][1:4], dtype=float)
    check_spacing(zooms, path.name)
    affine = LPS @ _affine(header, zooms, np.array(dims[:3]), path.name)
    direction = right_angles(affine[:3, :3] / zooms, path.name)
    unit = TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    given = Given(path.name, tuple(dims[:3]), zooms * unit, affine[:3, 3] * unit, direction)
    if unit != 1.0:
        given.notes.append(f"its lengths are in {'metres' if unit > 1 else 'micrometres'}; they were turned into mm")
    return _voxels(path, len(header.binaryblock) == 540), given


def _zipped(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name says."""
    with open(path, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _header(path: Path):
    """The raw header, unmended. Raises UserError where the file is none."""
    import nibabel

    try:
        with (gzip.open if _zipped(path) else open)(path, "rb") as stream:
            block = stream.read(540)
        first = block[:4]
        second = 540 in (int.from_bytes(first, "little"), int.from_bytes(first, "big"))
        kind, length = (nibabel.Nifti2Header, 540) if second else (nibabel.Nifti1Header, 348)
        header = kind(block[:length], check=False)
        known = bytes(header["magic"])[:3] in (b"n+1", b"n+2", b"ni1", b"ni2")
    except Exception:
        raise UserError(f"{path.name}: damaged or not NIfTI; copy or export it again.") from None
    if bytes(header["magic"])[:3] in (b"n+1", b"n+2") and 0 <= int(header["vox_offset"]) < length:
        raise UserError(f"{path.name}: its header says that the voxels begin inside the header; export it again.")
    if not known:
        raise UserError(f"{path.name}: damaged or not NIfTI (Analyze says nothing of left and right); export it again.")
    return header


def _check_dims(dims: list[int], name: str) -> None:
    size = " x ".join(map(str, dims))
    if len(dims) < 3 or min(dims[:3]) < 2:
        raise UserError(f"{name}: a 2-D image of {size}; a volume is needed.")
    if max(dims[4:], default=1) > 1:
        raise UserError(f"{name}: {max(dims[4:])} values a voxel (colour or vectors); a single-channel CT is needed.")
    if max(dims[3:], default=1) > 1:
        raise UserError(f"{name}: a {len(dims)}-D image ({size}); save one 3-D frame of it.")


def _affine(header, zooms: np.ndarray, size: np.ndarray, name: str) -> np.ndarray:
    """(4, 4) index -> RAS in the file's unit. Raises UserError: no place said, axes singular or sheared, contradictions."""
    rows = np.eye(4)
    rows[:3] = [header[f"srow_{axis}"] for axis in "xyz"]
    sform, qform = (rows if int(header["sform_code"]) > 0 else None), None
    if int(header["qform_code"]) > 0:
        qform = _quaternion(header, zooms)
    if sform is None and qform is None:
        raise UserError(
            f"{name}: it does not say how its axes lie (sform and qform are not set), so left and right are not known; "
            "convert it again from where it was made, with its orientation."
        )
    for affine in (a for a in (sform, qform) if a is not None):
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * np.prod(zooms):
            raise UserError(f"{name}: the direction of its axes is singular; export it again.")
    if sform is not None:
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        if (np.abs(lengths / zooms - 1) > 5e-3).any():
            right_angles(sform[:3, :3] / lengths, name)  # a shear is the better reason
            raise UserError(
                f"{name}: its sform has voxels of {_numbers(lengths)} mm, its header of {_numbers(zooms)} mm; convert it again."
            )
    if sform is None or qform is None:
        return qform if sform is None else sform
    right_angles(sform[:3, :3] / zooms, name)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size])).reshape(3, -1).T
    apart = np.linalg.norm(corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3], axis=1).max()
    if apart > APART:
        raise UserError(
            f"{name}: its sform and its qform place it {apart:.0f} mm apart, so one of them is wrong; keep the right one "
            "(nibabel: image.set_qform(image.affine, 1), or set_sform) and save it again."
        )
    return sform


def _quaternion(header, zooms: np.ndarray) -> np.ndarray:
    from nibabel.quaternions import quat2mat

    parts = np.array([float(header[f"quatern_{c}"]) for c in "bcd"])
    affine, rest = np.eye(4), 1.0 - parts @ parts
    if not rest > -1e-4:  # NaN, too
        return affine * np.nan
    turn = quat2mat([np.sqrt(max(rest, 0.0)), *parts])  # the least rest counts: 1e-5 of it is a third of a degree
    sign = -1.0 if float(header["pixdim"][0]) < 0 else 1.0
    affine[:3, :3] = turn * zooms * [1, 1, sign]
    affine[:3, 3] = [float(header[f"qoffset_{c}"]) for c in "xyz"]
    return affine


def _voxels(path: Path, second: bool) -> np.ndarray:
    """(nz, ny, nx) through nibabel, slab by slab: ITK turns NaN into 0 and a truncated stream into zeros, silently.
    second: NIfTI-2."""
    import nibabel

    form, zipped = nibabel.Nifti2Image if second else nibabel.Nifti1Image, _zipped(path)
    try:
        with (gzip.open if zipped else open)(path, "rb") as stream:  # gone through once
            return _in_parts(form.from_stream(stream), stream if zipped else None, path.name)
    except nibabel.spatialimages.HeaderDataError as error:
        raise UserError(f"{path.name}: damaged header ({error}); export it again.") from None
    except (EOFError, OSError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError):
        raise UserError(f"{path.name}: truncated or damaged, the file is incomplete; copy it again.") from None


def _in_parts(image, zipped, name: str) -> np.ndarray:
    """The voxels of a nibabel image; `zipped`: the gzip stream behind it, or None."""
    kind = image.get_data_dtype()
    if kind.kind not in "fui":
        raise UserError(f"{name}: voxels of type {kind}; a single-channel CT is needed.")
    stack = Stack(image.shape[2::-1], whole=kind.kind in "ui")
    for part in slabs(stack.array.shape):
        stack.put(part, np.asarray(image.dataobj[:, :, part]).reshape(*image.shape[:2], -1).transpose())
    if zipped is not None:  # nibabel stops at the last voxel, before the checksum
        read_out(zipped, name)
    return stack.array


def _numbers(values) -> str:
    return " x ".join(f"{v:g}" for v in values)
