"""MetaImage (.mha, .mhd) and NRRD through ITK, after a look at the header and at the checksum of what is compressed: ITK
mends in silence what it does not find, and goes on where a stream is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.base.talk import is_text
from lib.images.given import Given
from lib.images.slabs import Stack, slabs
from lib.images.whole import check_stream

SPACES = (b"left-posterior-superior", b"right-anterior-superior", b"left-anterior-superior", b"lps", b"ras", b"las")
ZIPPED = (b"gzip", b"gz")  # encodings of NRRD
LONGEST = 2**20  # bytes of a text header: tools keep whole histories in it
LARGE = 2**26  # voxels from which on a file is read in parts
# What a MetaImage must say, by any of ITK's names for it.
PLACE = {
    "how large its voxels are (no ElementSpacing)": (b"elementspacing",),
    "how its axes lie (no TransformMatrix)": (b"transformmatrix", b"rotation", b"orientation"),
    "where it lies (no Offset)": (b"offset", b"position", b"origin"),
}


def read(path: Path) -> tuple[np.ndarray, Given]:
    """(array (nz, ny, nx), Given) in LPS mm, in the file's own order of axes. Raises UserError."""
    import SimpleITK as sitk

    if not is_text(path):
        raise UserError(f"{ascii(path.name)}: the name holds bytes that are no UTF-8; rename the file.")
    if _is_meta(path):
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
    if compressed := _stream(path):
        check_stream(*compressed, path.name)
    direction = np.reshape(place.GetDirection(), (3, 3))
    return array, Given(path.name, size[:3], np.array(place.GetSpacing()), np.array(place.GetOrigin()), direction)


def _voxels(reader, size, path: Path):
    """(nz, ny, nx), and its first part as ITK's image, for its place. A large plain MetaImage comes slab by slab."""
    import SimpleITK as sitk

    shape, stack, place = tuple(size[2::-1]), None, None
    plain = _is_meta(path) and _stream(path) is None
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


def _is_meta(path: Path) -> bool:
    return path.name.lower().endswith((".mha", ".mhd"))


def _header(path: Path) -> tuple[list[bytes], int]:
    """Lines of a text header, and the byte at which it ends: a MetaImage's after ElementDataFile, an NRRD's after an empty
    line."""
    with open(path, "rb") as stream:
        lines = stream.read(LONGEST).split(b"\n")
    meta = _is_meta(path)
    last = [
        n for n, line in enumerate(lines) if (line.strip().startswith(b"ElementDataFile") if meta else not line.strip())
    ]
    lines = lines[: last[0] + 1] if last else lines[:200]
    return [line.strip() for line in lines], sum(len(line) + 1 for line in lines)


def _fields(path: Path) -> dict[bytes, bytes]:
    """What a header says: key, in lower case -> value."""
    sign = b"=" if _is_meta(path) else b":"
    pairs = [line.split(sign, 1) for line in _header(path)[0] if sign in line and not line.startswith(b"#")]
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _stream(path: Path) -> tuple[Path, int] | None:
    """Where the compressed voxels of a file begin: (file, byte); None where they are plain, or in many files."""
    fields = _fields(path)
    if fields.get(b"compresseddata", b"").lower() != b"true" and fields.get(b"encoding", b"").lower() not in ZIPPED:
        return None
    names = (fields.get(key) for key in (b"elementdatafile", b"data file", b"datafile"))
    name = next((name for name in names if name), b"local")
    if name.lower() == b"local":
        return path, _header(path)[1]
    beside = path.parent / os.fsdecode(name)
    return (beside, 0) if beside.is_file() else None


def _check_meta(path: Path) -> None:
    """Raises UserError: spacing, directions or origin that are missing, impossible spacing, a singular direction."""
    fields = {key: value.split() for key, value in _fields(path).items()}
    if b"ndims" not in fields:
        raise UserError(f"{path.name}: damaged or not an image (no MetaImage header); copy or export it again.")
    said = {}
    for what, names in PLACE.items():
        found = [fields[name] for name in names if name in fields]
        if not found:
            raise UserError(f"{path.name}: it does not say {what}; export it again.")
        said[names[0]] = found[0]
    try:
        spacing = np.array([float(x) for x in said[b"elementspacing"]])
        matrix = np.array([float(x) for x in said[b"transformmatrix"]])
    except ValueError:
        raise UserError(f"{path.name}: damaged header; export it again.") from None
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        text = " x ".join(f"{v:g}" for v in spacing)
        raise UserError(f"{path.name}: voxel spacing {text} mm; spacing must be positive, export it again.")
    if matrix.size == 9 and (not np.isfinite(matrix).all() or abs(np.linalg.det(matrix.reshape(3, 3))) < 1e-6):
        raise UserError(f"{path.name}: the direction of its axes is singular; export it again.")


def _check_nrrd(path: Path) -> None:
    """Raises UserError: a header without the size of its voxels or without the space that its axes lie in."""
    if not _header(path)[0][0].startswith(b"NRRD"):
        raise UserError(f"{path.name}: damaged or not NRRD; copy or export it again.")
    fields = {key: value.lower() for key, value in _fields(path).items()}
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
    if b"space origin" not in fields:
        raise UserError(
            f"{path.name}: it does not say where it lies (no 'space origin'); export it again with its origin."
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
