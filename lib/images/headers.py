"""MetaImage (.mha, .mhd) and NRRD through ITK, after a look at the header: ITK mends in silence what it does not find."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.images.given import Given
from lib.images.slabs import Stack, slabs

SPACES = (b"left-posterior-superior", b"right-anterior-superior", b"left-anterior-superior", b"lps", b"ras", b"las")
LARGE = 2**26  # voxels from which on a file is read in parts


def read(path: Path) -> tuple[np.ndarray, Given]:
    """(array (nz, ny, nx), Given) in LPS mm, in the file's own order of axes. Raises UserError."""
    import SimpleITK as sitk

    if path.name.lower().endswith((".mha", ".mhd")):
        _check_meta(path)
    else:
        _check_nrrd(path)
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
        array, place = _voxels(reader, size, path)
    except RuntimeError as error:
        raise UserError(f"{path.name}: {_reason(str(error))}") from None
    direction = np.reshape(place.GetDirection(), (3, 3))
    return array, Given(path.name, size[:3], np.array(place.GetSpacing()), np.array(place.GetOrigin()), direction)


def _voxels(reader, size, path: Path):
    """(nz, ny, nx), and its first part as ITK's image, for its place. A large plain MetaImage comes slab by slab."""
    import SimpleITK as sitk

    shape, stack, place = tuple(size[2::-1]), None, None
    plain = path.name.lower().endswith((".mha", ".mhd")) and not _is_compressed(path)
    parts = slabs(shape) if plain and np.prod(shape) > LARGE else [slice(0, shape[0])]
    for part in parts:
        reader.SetExtractIndex([0, 0, part.start, *[0] * (len(size) - 3)])
        reader.SetExtractSize([*size[:2], part.stop - part.start, *[0] * (len(size) - 3)])
        image = reader.Execute()
        view = sitk.GetArrayViewFromImage(image)
        stack = stack or Stack(shape, whole=view.dtype.kind in "ui")
        for inner in slabs(view.shape):
            stack.put(slice(part.start + inner.start, part.start + inner.stop), view[inner])
        place = place or image
    return stack.array, place


def _lines(path: Path, mark: bytes) -> list[bytes]:
    """Lines of a text header, up to the line that begins with `mark`."""
    with open(path, "rb") as stream:
        lines = stream.read(16384).split(b"\n")
    ends = [n for n, line in enumerate(lines) if (line.strip().startswith(mark) if mark else not line.strip())]
    return [line.strip() for line in lines[: ends[0] + 1]] if ends else [line.strip() for line in lines[:200]]


def _is_compressed(path: Path) -> bool:
    lines = [line.lower().replace(b" ", b"") for line in _lines(path, b"ElementDataFile")]
    return b"compresseddata=true" in lines


def _check_meta(path: Path) -> None:
    """Raises UserError: spacing that is missing or impossible, a singular direction."""
    lines = [line for line in _lines(path, b"ElementDataFile") if line.count(b"=") == 1 and len(line) < 400]
    fields = {key.strip(): value.split() for key, value in (line.split(b"=") for line in lines)}
    if b"NDims" not in fields:
        raise UserError(f"{path.name}: damaged or not an image (no MetaImage header); copy or export it again.")
    said = fields.get(b"ElementSpacing") or fields.get(b"ElementSize")
    if said is None:
        raise UserError(f"{path.name}: it does not say how large its voxels are (no ElementSpacing); export it again.")
    try:
        spacing = np.array([float(x) for x in said])
        matrix = np.array([float(x) for x in fields.get(b"TransformMatrix", [])])
    except ValueError:
        raise UserError(f"{path.name}: damaged header; export it again.") from None
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        text = " x ".join(f"{v:g}" for v in spacing)
        raise UserError(f"{path.name}: voxel spacing {text} mm; spacing must be positive, export it again.")
    if matrix.size == 9 and (not np.isfinite(matrix).all() or abs(np.linalg.det(matrix.reshape(3, 3))) < 1e-6):
        raise UserError(f"{path.name}: the direction of its axes is singular; export it again.")


def _check_nrrd(path: Path) -> None:
    """Raises UserError: a header without the size of its voxels or without the space that its axes lie in."""
    lines = _lines(path, b"")
    if not lines or not lines[0].startswith(b"NRRD"):
        raise UserError(f"{path.name}: damaged or not NRRD; copy or export it again.")
    pairs = [line.split(b":", 1) for line in lines[1:] if b":" in line and not line.startswith(b"#")]
    fields = {key.strip().lower(): value.strip().lower() for key, value in pairs}
    if not {b"space directions", b"spacings"} & set(fields):
        raise UserError(
            f"{path.name}: it does not say how large its voxels are (no space directions); export it again."
        )
    other = {text for text in fields.get(b"space units", b"").replace(b'"', b" ").split() if text != b"mm"}
    if other - {b"millimeter", b"millimeters", b"millimetre"}:
        raise UserError(f"{path.name}: its lengths are not in mm (space units); export it again in mm.")
    if fields.get(b"space", SPACES[0]).removesuffix(b"-time") not in SPACES or _left_out(fields):
        raise UserError(
            f"{path.name}: its axes do not lie in a patient's space (space, space directions); export it again as "
            "left-posterior-superior."
        )
    if b"space" not in fields:
        raise UserError(
            f"{path.name}: it does not say how its axes lie in the patient (no 'space'); export it again with its directions."
        )


def _left_out(fields: dict[bytes, bytes]) -> bool:
    """Whether one of three axes has no direction; the fourth of four may have none."""
    return fields.get(b"space directions", b"").count(b"(") not in (0, 3)


def _reason(message: str) -> str:
    """An ITK error as a sentence."""
    text = message.lower()
    if "spacing" in text:
        return "voxel spacing is zero or negative; export it again."
    if "direction" in text or "determinant" in text or "cosines" in text:
        return "the direction of its axes is singular; export it again."
    if "no such file" in text or "bytes" in text or "fread" in text or "data file" in text:
        return "its voxels cannot be read: it is cut off, or the file that holds them is missing; copy it again, whole."
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"damaged or not an image ({lines[-1][:120] if lines else 'unreadable'}); copy or export it again."
