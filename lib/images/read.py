"""Reading what people have: NIfTI, MHA/MHD, NRRD, a DICOM file, or a folder of DICOM series, as a `Volume`
in LPS.

Every input that cannot be registered ends in one `UserError` that names the file and the remedy. Axes are
reordered
and flipped (nothing is interpolated) so that i, j, k run towards Left, Posterior, Superior as nearly as they
can.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.images.volume import Volume, from_sitk

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
FEWEST = 8  # slices along each axis below which an image is no volume


def read_image(path: str | Path, series: str | None = None, kind: str = "image") -> Volume:
    """The image at `path`. `series` picks a DICOM series by its UID, number or (part of its) description.

    kind "ct" also refuses values that cannot be a CT; "cbct" and "image" do not look at them. Raises
    UserError:
    missing or unreadable file, no or several DICOM series, not 3-D, several components, NaN or infinite
    values, a
    constant image, impossible spacing or direction, tilted gantry, missing slices, a modality other than CT.
    """
    from lib.images import dicom

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path.")
    if path.is_dir():
        image = dicom.read_folder(path, series)
    elif dicom.is_dicom(path):
        image = dicom.read_file(path)
    else:
        image = _read_file(path)
    return _to_volume(image, path, kind)


def _read_file(path: Path):
    """A SimpleITK image from one file that is not DICOM."""
    import SimpleITK as sitk

    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(
            f"{path.name}: unknown format; give NIfTI (.nii, .nii.gz), .mha, .mhd, .nrrd or a DICOM folder."
        )
    if not os.access(path, os.R_OK) or path.stat().st_size == 0:
        raise UserError(f"{path.name}: the file is empty or may not be read; copy it again.")
    _check_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
        if len(size) < 3 or min(size[:3]) < 2:
            raise UserError(f"{path.name}: a 2-D image of {' x '.join(map(str, size))}; a volume is needed.")
        if len(size) > 3 and max(size[3:]) > 1:
            raise UserError(
                f"{path.name}: a {len(size)}-D image ({' x '.join(map(str, size))}); save one 3-D frame of it."
            )
        if components > 1:
            raise UserError(
                f"{path.name}: {components} values a voxel (colour or vectors); a single-channel CT is needed."
            )
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _nifti_voxels(path, reader)
        if len(size) > 3:
            reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
        return reader.Execute()
    except RuntimeError as error:
        raise UserError(f"{path.name}: {_reason(str(error))}") from None


def _check_header(path: Path) -> None:
    """What ITK repairs in silence or reports late: spacing and direction in the header."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    elif name.endswith((".mha", ".mhd")):
        _check_text(path, b"ElementSpacing", b"TransformMatrix")


def _check_nifti(path: Path) -> None:
    """Spacing and direction from the raw header; nibabel and ITK both mend them, each in its own way."""
    import gzip

    import nibabel

    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            block = stream.read(540)
        first = block[:4]
        second = 540 in (int.from_bytes(first, "little"), int.from_bytes(first, "big"))
        kind, length = (nibabel.Nifti2Header, 540) if second else (nibabel.Nifti1Header, 348)
        header = kind(block[:length], check=False)
        zooms, dims = np.asarray(header["pixdim"][1:4], dtype=float), int(header["dim"][0])
        rows = np.array([header[f"srow_{axis}"][:3] for axis in "xyz"], dtype=float)
    except Exception:
        raise UserError(f"{path.name}: damaged or not NIfTI; copy or export it again.") from None
    if dims < 3:
        return
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise UserError(f"{path.name}: voxel spacing {_numbers(zooms)} mm; it must be positive, export it again.")
    if int(header["sform_code"]) > 0 and not abs(np.linalg.det(np.nan_to_num(rows))) > 1e-6 * np.prod(zooms):
        raise UserError(f"{path.name}: the direction of its axes is singular; export it again.")


def _nifti_voxels(path: Path, reader):
    """A NIfTI image: ITK finds the geometry, nibabel reads the voxels, because ITK turns NaN into 0 and
    a truncated stream into zeros, without a word."""
    import zlib

    import nibabel
    import SimpleITK as sitk

    try:
        array = np.asanyarray(nibabel.load(path).dataobj)
    except (EOFError, OSError, ValueError, zlib.error):
        raise UserError(f"{path.name}: truncated or damaged, the file is incomplete; copy it again.") from None
    array = array.reshape(array.shape[:3]).transpose()
    kinds = {"f": np.float32, "u": np.float32, "i": np.int16 if array.dtype.itemsize <= 2 else np.float32}
    if array.dtype.kind not in kinds:
        raise UserError(f"{path.name}: voxels of type {array.dtype}; a single-channel CT is needed.")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=kinds[array.dtype.kind]))
    image.SetSpacing(reader.GetSpacing()[:3])
    image.SetOrigin(reader.GetOrigin()[:3])
    direction = np.reshape(reader.GetDirection(), (len(reader.GetSize()),) * 2)[:3, :3]
    image.SetDirection([float(x) for x in direction.ravel()])
    return image


def _check_text(path: Path, spacing_key: bytes, matrix_key: bytes) -> None:
    """Spacing and direction of a MetaImage, from its text header."""
    with open(path, "rb") as stream:
        lines = stream.read(8192).split(b"\n")
    fields = dict(line.split(b"=", 1) for line in lines if line.count(b"=") == 1 and len(line) < 400)
    fields = {key.strip(): value for key, value in fields.items()}
    try:
        spacing = np.array([float(x) for x in fields.get(spacing_key, b"1").split()])
        matrix = np.array([float(x) for x in fields.get(matrix_key, b"").split()])
    except ValueError:
        raise UserError(f"{path.name}: damaged header; export it again.") from None
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise UserError(
            f"{path.name}: voxel spacing {_numbers(spacing)} mm; spacing must be positive, export it again."
        )
    if matrix.size == 9 and (not np.isfinite(matrix).all() or abs(np.linalg.det(matrix.reshape(3, 3))) < 1e-6):
        raise UserError(f"{path.name}: the direction of its axes is singular; export it again.")


def _to_volume(image, path: Path, kind: str) -> Volume:
    """Checks common to all formats, axes to LPS, float32."""
    import SimpleITK as sitk

    name = path.name
    spacing, direction = np.array(image.GetSpacing()), np.array(image.GetDirection()).reshape(3, 3)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise UserError(f"{name}: voxel spacing {_numbers(spacing)} mm; spacing must be positive, export it again.")
    if not np.isfinite(direction).all() or abs(np.linalg.det(direction)) < 1e-3:
        raise UserError(f"{name}: the direction of its axes is singular; export it again.")
    if not np.allclose(direction.T @ direction, np.eye(3), atol=5e-3):
        raise UserError(
            f"{name}: its axes are not at right angles (tilted gantry or shear); resample it to an upright grid."
        )
    if min(image.GetSize()) < FEWEST:
        size = " x ".join(map(str, image.GetSize()))
        raise UserError(f"{name}: only {size} voxels; a volume of at least {FEWEST} slices along each axis is needed.")
    volume = from_sitk(sitk.DICOMOrient(image, "LPS"))
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{name}: it holds NaN or infinite values; replace them by -1000 (air).")
    if high - low < 1e-6:
        raise UserError(f"{name}: every voxel is {low:g}; the image is empty, export it again.")
    if kind == "ct":
        check_ct_values(volume, name)
    return volume


def check_ct_values(volume: Volume, name: str) -> None:
    """Raises UserError unless the values can be a CT: air well below 0 HU, or stored with an offset of about
    1000."""
    values = volume.array[::2, ::2, ::2].flatten()
    if float(values.min()) < -200:
        return
    tissue = values[(values > 100) & (values < 3000)]
    peak = float(tissue.median()) if len(tissue) > 100 else 0.0
    if not 850 < peak < 1250:
        raise UserError(
            f"{name}: its values ({float(values.min()):g} to {float(values.max()):g}) are "
            f"not those of a CT; "
            "give a CT in Hounsfield units (is it an MR or a mask?)."
        )


def _numbers(values) -> str:
    return " x ".join(f"{v:g}" for v in values)


def _reason(message: str) -> str:
    """An ITK error as a sentence."""
    text = message.lower()
    if "spacing" in text:
        return "voxel spacing is zero or negative; export it again."
    if "direction" in text or "determinant" in text or "cosines" in text:
        return "the direction of its axes is singular; export it again."
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"damaged or not an image ({lines[-1][:120] if lines else 'unreadable'}); copy or export it again."
