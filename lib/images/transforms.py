"""Rigid transforms in ITK's files: written as fixed -> moving points (LPS), read back as a pose (moving -> fixed).

A file is judged by its kind and its parts before anything is computed with it: ITK fills what a file lacks from memory
that nobody wrote, and NaN ends the process.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.base.provenance import atomic

# Numbers (parameters, fixed parameters) of each rigid or affine kind, as ITK's text and HDF5 files hold them.
KINDS = {
    "Euler3DTransform": (6, (3, 4)),
    "CenteredEuler3DTransform": (9, (0, 1)),
    "VersorRigid3DTransform": (6, (3,)),
    "Rigid3DTransform": (12, (3,)),
    "QuaternionRigidTransform": (7, (3,)),
    "VersorTransform": (3, (3,)),
    "Similarity3DTransform": (7, (3,)),
    "ScaleVersor3DTransform": (9, (3,)),
    "ScaleSkewVersor3DTransform": (15, (3,)),
    "AffineTransform": (12, (3,)),
    "MatrixOffsetTransformBase": (12, (3,)),
    "TranslationTransform": (3, (0,)),
    "IdentityTransform": (0, (0, 3, 4)),
    "CompositeTransform": (None, None),
}


def write_transform(pose: np.ndarray, path, centre=(0.0, 0.0, 0.0), kind: str = "Euler3DTransform") -> None:
    """Write `pose` (moving -> fixed) as the ITK transform that maps fixed -> moving points (LPS).

    kind: Euler3DTransform, AffineTransform or MatrixOffsetTransformBase (what ANTs writes).
    """
    import SimpleITK as sitk

    inverse = rigid.invert(rigid.orthogonal(np.asarray(pose, dtype=np.float64)))
    transform = sitk.Euler3DTransform() if kind == "Euler3DTransform" else sitk.AffineTransform(3)
    transform.SetCenter([float(c) for c in centre])
    matrix = [float(m) for m in inverse[:3, :3].ravel()]
    transform.SetMatrix(matrix, 1e-5) if kind == "Euler3DTransform" else transform.SetMatrix(matrix)
    offset = inverse[:3, 3] + inverse[:3, :3] @ np.asarray(centre) - np.asarray(centre)
    transform.SetTranslation([float(t) for t in offset])
    try:
        with atomic(path) as temporary:
            sitk.WriteTransform(transform, str(temporary))
            sitk.ReadTransform(str(temporary))  # on a full disk it is written without a word
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"{path}: the transform could not be written ({str(error).strip().splitlines()[-1]})."
        ) from None


def read_transform(path) -> np.ndarray:
    """Read an ITK rigid transform (fixed -> moving points) as a pose (moving -> fixed). Raises UserError."""
    import SimpleITK as sitk

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path of the transform.")
    _check_parts(path)
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError:
        raise UserError(f"{path}: not an ITK transform file; save it from 3D Slicer as .tfm.") from None
    if transform.GetDimension() != 3:
        raise UserError(f"{path}: a transform in {transform.GetDimension()} dimensions; give one in 3 dimensions.")
    if not transform.IsLinear():
        raise UserError(f"{path}: the transform is not rigid (it bends); give a rotation and translation only.")
    matrix = _matrix(transform)
    if not np.isfinite(matrix).all():
        raise UserError(f"{path}: the transform holds NaN or infinite numbers; save it again.")
    return rigid.invert(_rigid(matrix, str(path)))


def as_pose(given) -> np.ndarray | None:
    """A pose (4, 4) moving -> fixed, from one, or from the path of an ITK file; None stays None. Raises UserError."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else read_transform(given)
    matrix = np.asarray(given, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise UserError(f"The initial pose is of shape {matrix.shape}; give a (4, 4) of finite numbers.")
    return _rigid(matrix, "The initial pose")


def _rigid(matrix: np.ndarray, name: str) -> np.ndarray:
    """The matrix (4, 4), orthogonal to the last digit: files have few. Raises UserError where it is not rigid."""
    turn = matrix[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise UserError(f"{name}: the transform is not rigid; give a rotation and translation only.")
    return rigid.orthogonal(matrix)


def _matrix(transform) -> np.ndarray:
    """(4, 4) of a linear transform, from four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(e))) - origin for e in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
    return matrix


def _check_parts(path: Path) -> None:
    """Raises UserError where a file of ITK's lacks numbers, has other words than numbers, or is of no rigid kind."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give an ITK transform file (.tfm).") from None
    if start.startswith(b"\x89HDF"):
        parts = _hdf5_parts(path)
    elif start.startswith(b"#Insight Transform File"):
        parts = _text_parts(path)
    elif start[128:] == b"DICM":
        raise UserError(f"{path}: a DICOM file; an ITK transform is needed: load it in 3D Slicer and save it as .tfm.")
    elif start.lstrip().startswith((b"(Transform", b"//")) or b"(Transform " in start:
        raise UserError(f"{path}: elastix's parameters, not an ITK transform file; save it from 3D Slicer as .tfm.")
    elif path.suffix == ".mat":
        return  # MATLAB 4, as ANTs writes it: ITK checks its sizes
    else:
        raise UserError(f"{path}: not an ITK transform file; save it from 3D Slicer as .tfm.")
    if not parts:
        raise UserError(f"{path}: cut off, it holds no transform; save it again.")
    if len(parts) > 1 and not parts[0][0].startswith("CompositeTransform"):
        raise UserError(f"{path}: it holds {len(parts)} transforms side by side; save one, or a composite of them.")
    for kind, parameters, fixed in parts:
        _check_part(path, kind, parameters, fixed)


def _check_part(path: Path, kind: str, parameters: list[float] | None, fixed: list[float] | None) -> None:
    words = kind.split("_")
    if len(words) > 2 and words[-2:] != ["3", "3"]:
        raise UserError(f"{path}: a transform in {words[-1]} dimensions ({words[0]}); give one in 3 dimensions.")
    if words[0] not in KINDS:
        raise UserError(f"{path}: the transform is not rigid ({words[0]}); give a rotation and translation only.")
    count, fixed_counts = KINDS[words[0]]
    if count is None:
        return
    if parameters is None or len(parameters) != count or fixed is None or len(fixed) not in fixed_counts:
        raise UserError(f"{path}: cut off or damaged: a {words[0]} has {count} parameters; save it again.")
    if not np.isfinite([*parameters, *fixed]).all():
        raise UserError(f"{path}: the transform holds NaN or infinite numbers; save it again.")


def _text_parts(path: Path):
    """(kind, parameters, fixed parameters) of each transform in a text file; None for numbers that are not there."""
    found: list[list] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "Transform":
            found.append([rest.strip(), None, None])
        elif name.strip() in ("Parameters", "FixedParameters") and found:
            try:
                numbers = [float(word) for word in rest.split()]
            except ValueError:
                hint = " (a decimal comma?)" if "," in rest else ""
                raise UserError(f"{path}: {name.strip()} are not numbers{hint}; write 1.5, not 1,5.") from None
            found[-1][1 if name.strip() == "Parameters" else 2] = numbers
    return found


def _hdf5_parts(path: Path):
    """Kind only, through SimpleITK, which checks the sizes of HDF5 sets; numbers are looked at by their result."""
    import SimpleITK as sitk

    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError:
        raise UserError(f"{path}: cut off or damaged; save it again.") from None
    if not np.isfinite([*transform.GetParameters(), *transform.GetFixedParameters()]).all():
        raise UserError(f"{path}: the transform holds NaN or infinite numbers; save it again.")
    return [("CompositeTransform", None, None)]
