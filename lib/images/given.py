"""What a file said that a volume was read from, and the checks of geometry that all formats share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.base.errors import UserError

RIGHT_ANGLE = 5e-3  # cosine between two axes (0.3 degrees) below which they are at right angles


@dataclass
class Given:
    """What the file said. Geometry in the file's own order of axes: LPS mm, direction (3, 3) with columns i, j, k."""

    name: str
    size: tuple[int, int, int] = (0, 0, 0)  # (nx, ny, nz)
    spacing: np.ndarray = field(default_factory=lambda: np.ones(3))
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    notes: list[str] = field(default_factory=list)  # what was left out or taken to be so
    guessed: str = ""  # what had to be guessed of its values; "" for nothing
    dicom: object | None = None  # header of its first slice (pydicom), where it is DICOM
    files: list[tuple[str, str]] = field(default_factory=list)  # (SOP class, SOP instance) of its DICOM files


def right_angles(direction: np.ndarray, name: str) -> np.ndarray:
    """The direction (3, 3) with its columns at exact right angles. Raises UserError: singular, tilted or sheared axes."""
    if not np.isfinite(direction).all() or abs(np.linalg.det(direction)) < 1e-3:
        raise UserError(f"{name}: the direction of its axes is singular; export it again.")
    columns = direction / np.linalg.norm(direction, axis=0)
    off = np.abs(columns.T @ columns - np.eye(3)).max()
    if off > RIGHT_ANGLE:
        angle = np.degrees(np.arcsin(min(off, 1.0)))
        raise UserError(
            f"{name}: its axes are not at right angles (off by {angle:.1f} degrees: a tilted gantry or shear); resample it "
            "to an upright grid (3D Slicer hardens the transform that it makes on import) and save it as NRRD."
        )
    if np.abs(direction.T @ direction - np.eye(3)).max() < 1e-4:
        return direction
    left, _, right = np.linalg.svd(columns)
    return left @ right


def check_spacing(spacing, name: str) -> None:
    """Raises UserError unless every spacing is a positive number."""
    if not (np.isfinite(spacing).all() and (np.asarray(spacing) > 0).all()):
        text = " x ".join(f"{v:g}" for v in spacing)
        raise UserError(f"{name}: voxel spacing {text} mm; spacing must be positive, export it again.")
