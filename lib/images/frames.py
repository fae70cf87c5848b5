"""Where the frames of a DICOM series lie, from the tags themselves: position, orientation and pixel size of each frame.

A reader that finds no pixel size or no place answers 1 mm, in silence. So geometry is taken from what the files say
(ImagePositionPatient, ImageOrientationPatient, PixelSpacing, functional groups), and where they do not say it, refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.base.errors import UserError

TILT = 0.3  # degrees between the slices' normal and their line, above which the gantry was tilted


@dataclass
class Frame:
    """One slice: the file and the frame in it (None: the file is the frame), its place, axes, pixel size, rescale."""

    path: Path
    number: int | None
    place: np.ndarray  # (3,) mm
    axes: np.ndarray  # (6,) direction cosines of a row, of a column
    pixel: np.ndarray  # (2,) mm between rows, between columns
    slope: float = 1.0
    intercept: float = 0.0
    uid: str = ""


@dataclass
class Grid:
    """An upright stack of frames, in order: geometry with columns i, j, k (LPS mm)."""

    frames: list[Frame]
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray


def frames_of(path: Path, header, name: str) -> list[Frame]:
    """The frames of one file. Raises UserError where it does not say where they lie or how large their pixels are."""
    count = int(header.get("NumberOfFrames") or 1)
    shared = _first(header, "SharedFunctionalGroupsSequence")
    each = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if count > 1 and not each:
        return _stack(path, header, count, name)
    if each and len(each) != count:
        raise UserError(
            f"{name}: {path.name} has {count} frames but says of {len(each)} where they lie; export it again."
        )
    found = []
    for number in range(count):
        groups = [header, shared] + ([each[number]] if each else [])
        place = _numbers(_last(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
        axes = _numbers(_last(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        pixel = _numbers(_last(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
        slope = _last(groups, "PixelValueTransformationSequence", "RescaleSlope")
        intercept = _last(groups, "PixelValueTransformationSequence", "RescaleIntercept")
        _complete(place, axes, pixel, header, name)
        found.append(
            Frame(
                path,
                number if header.get("NumberOfFrames") else None,
                place,
                axes,
                pixel,
                *_rescale(slope, intercept, path, name),
                str(header.get("SOPInstanceUID", "")),
            )
        )
    return found


def _stack(path: Path, header, count: int, name: str) -> list[Frame]:
    """Frames without functional groups: one position, and the distance between slices or the offset of each frame."""
    place = _numbers(header.get("ImagePositionPatient"), 3)
    axes = _numbers(header.get("ImageOrientationPatient"), 6)
    pixel = _numbers(header.get("PixelSpacing"), 2)
    step, offsets = header.get("SpacingBetweenSlices"), header.get("GridFrameOffsetVector")
    if step in (None, "") and (offsets is None or len(offsets) != count):
        raise UserError(
            f"{name}: {path.name} holds {count} frames and does not say where they lie (no functional groups and no "
            "SpacingBetweenSlices; SliceThickness is no spacing); export it as single slices or as Enhanced CT."
        )
    _complete(place, axes, pixel, header, name)
    along = np.array([float(x) for x in offsets]) if step in (None, "") else np.arange(count) * float(step)
    normal = np.cross(axes[:3], axes[3:])
    values = _rescale(header.get("RescaleSlope"), header.get("RescaleIntercept"), path, name)
    return [Frame(path, n, place + d * normal, axes, pixel, *values) for n, d in enumerate(along)]


def _rescale(slope, intercept, path: Path, name: str) -> tuple[float, float]:
    """Slope and intercept, 1 and 0 where none is said. Raises UserError where they are no numbers."""
    found = (1.0 if slope in (None, "") else float(slope), 0.0 if intercept in (None, "") else float(intercept))
    if not np.isfinite(found).all():
        raise UserError(f"{name}: the rescale slope or intercept of {path.name} is no number; export it again.")
    return found


def _complete(place, axes, pixel, header, name: str) -> None:
    if place is None or axes is None:
        raise UserError(f"{name}: its slices do not say where they lie (scout images?); give an axial CT series.")
    if pixel is None or not (pixel > 0).all():
        other = " (ImagerPixelSpacing is the detector's)" if header.get("ImagerPixelSpacing") is not None else ""
        raise UserError(
            f"{name}: its slices do not say how large their pixels are: PixelSpacing is missing{other}; export the series "
            "again from where it was made."
        )


def _first(dataset, tag):
    items = dataset.get(tag) if dataset is not None else None
    return items[0] if items else None


def _last(groups, sequence: str, tag: str):
    """The value of `tag` in the last of `groups` that has it, in `sequence` or by itself (the header)."""
    value = None
    for index, group in enumerate(groups):
        item = group if index == 0 else _first(group, sequence)
        if item is not None and item.get(tag) not in (None, ""):
            value = item.get(tag)
    return value


def _numbers(value, count: int) -> np.ndarray | None:
    try:
        found = np.array([float(x) for x in value])
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def stack(frames: list[Frame], sizes: set, label: str, same=None) -> Grid:
    """Frames in order along their normal. label: "folder: series X"; same(a, b): whether two frames hold equal pixels.

    Raises UserError: sizes, directions or pixel sizes that change, a tilted gantry, double or missing slices.
    """
    name, _, series = label.partition(": ")
    axes, places = np.array([f.axes for f in frames]), np.array([f.place for f in frames])
    pixels = np.array([f.pixel for f in frames])
    if len(sizes) > 1 or np.abs(axes - axes[0]).max() > 1e-3:
        raise UserError(f"{name}: {series} mixes slice sizes or directions; export one volume.")
    if np.abs(pixels - pixels[0]).max() > 1e-3 * pixels[0].min():
        raise UserError(
            f"{name}: {series} mixes pixel sizes ({pixels.min():g} to {pixels.max():g} mm), so its slices do not say how "
            "large their pixels are in one volume; export one reconstruction."
        )
    row, column = axes[0, :3], axes[0, 3:]
    normal = np.cross(row, column)
    if abs(np.linalg.norm(row) - 1) > 1e-2 or abs(np.linalg.norm(column) - 1) > 1e-2 or abs(row @ column) > 5e-3:
        raise UserError(f"{name}: the direction of its axes is singular or not at right angles; export it again.")
    height = places @ normal
    order = np.argsort(height, kind="stable")
    _check_tilt(places[order], normal, name)
    order = _without_copies(frames, order, height, label, same)
    steps = np.diff(height[order])
    usual = max(0.15 * np.median(steps), 0.05) if len(steps) else 0.0
    even = np.linspace(
        *height[order[[0, -1]]], len(order)
    )  # where the volume will have its slices: errors must not add up
    if len(steps) == 0 or max(np.abs(steps - np.median(steps)).max(), np.abs(height[order] - even).max()) > usual:
        raise UserError(f"{name}: {series} has slices missing or unevenly spaced; export it whole.")
    places = places[order]
    between = np.linalg.norm(places[-1] - places[0]) / (len(order) - 1)
    spacing = np.array([pixels[0][1], pixels[0][0], between])
    return Grid([frames[i] for i in order], spacing, places[0], np.stack([row, column, normal], axis=1))


def _check_tilt(places: np.ndarray, normal: np.ndarray, name: str) -> None:
    drift = places[-1] - places[0]
    length = np.linalg.norm(drift)
    if length < 1e-3:
        return
    angle = np.degrees(np.arccos(np.clip(drift @ normal / length, -1, 1)))
    if angle > TILT:
        raise UserError(
            f"{name}: the gantry was tilted by {angle:.1f} degrees; correct the tilt (3D Slicer does on import) and save "
            "the volume as NRRD."
        )


def _without_copies(frames, order, height, label: str, same) -> np.ndarray:
    """The order without slices that are there twice, pixel for pixel. Raises UserError for two different ones."""
    name, _, series = label.partition(": ")
    kept = [order[0]]
    for index in order[1:]:
        if height[index] - height[kept[-1]] > 1e-3:
            kept.append(index)
        elif same is None or not same(frames[kept[-1]], frames[index]):
            raise UserError(f"{name}: {series} has two slices at one place (several phases?); export one of them.")
    return np.array(kept)
