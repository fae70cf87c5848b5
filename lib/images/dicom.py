"""DICOM folders: which series there are, which one is meant, whether its slices make an upright volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.base.errors import UserError

TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "PixelSpacing",
    "PatientPosition",
]
POSTURES = {"FF": "feet first", "P": "prone", "DR": "lying on the right side", "DL": "lying on the left side"}
FEWEST = 8  # slices below which a series is no volume (scouts, dose sheets)


@dataclass
class Series:
    """The slices of one DICOM series: paths and headers in the same order."""

    uid: str
    description: str
    number: str
    modality: str
    paths: list[Path] = field(default_factory=list)
    headers: list = field(default_factory=list)

    @property
    def is_volume(self) -> bool:
        localizer = any("LOCALIZER" in (h.get("ImageType") or []) for h in self.headers)
        frames = max(int(h.get("NumberOfFrames") or 1) for h in self.headers)
        return not localizer and (len(self.paths) >= FEWEST or frames >= FEWEST)

    def __str__(self) -> str:
        name = self.description or self.uid
        return f"{self.number or '?'} '{name}' ({self.modality}, {len(self.paths)} slices)"


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(folder: Path) -> list[Series]:
    """All series with pixels under `folder`, by UID. Files that are not DICOM are passed over."""
    import pydicom

    found: dict[str, Series] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if not is_dicom(path):
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except Exception:
            raise UserError(f"{path.name}: damaged DICOM file; copy the folder again.") from None
        uid = str(header.get("SeriesInstanceUID", ""))
        if not header.get("Rows"):
            continue  # RTSTRUCT, dose report: no image
        series = found.setdefault(
            uid,
            Series(
                uid,
                str(header.get("SeriesDescription") or ""),
                str(header.get("SeriesNumber") or ""),
                str(header.get("Modality") or ""),
            ),
        )
        series.paths.append(path)
        series.headers.append(header)
    return list(found.values())


def read_folder(folder: Path, wanted: str | None = None):
    """The SimpleITK image of the one CT series of a folder, or of the series `wanted`. Raises UserError."""
    series = find_series(folder)
    if not series:
        raise UserError(f"{folder}: no DICOM image in this folder; give the folder that holds the slices.")
    return read_series(choose(series, wanted, folder), folder)


def read_file(path: Path):
    """The series that a DICOM file belongs to, from its folder."""
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    return read_folder(path.parent, str(header.get("SeriesInstanceUID", "")))


def choose(series: list[Series], wanted: str | None, folder: Path) -> Series:
    """The series that `wanted` names, else the only volume among them. Raises UserError, listing what there
    is."""
    if wanted:
        exact = [s for s in series if wanted in (s.uid, s.number, s.description)]
        match = exact or [s for s in series if wanted.lower() in s.description.lower()]
        if len(match) != 1:
            which = "no series" if not match else f"{len(match)} series"
            raise UserError(f"{folder.name}: {which} matches '{wanted}'; there are: {_list(series)}.")
        return match[0]
    volumes = [s for s in series if s.is_volume]
    ct = [s for s in volumes if s.modality == "CT"]
    if len(ct) > 1:
        raise UserError(f"{folder.name}: {len(ct)} CT series; choose one with --series: {_list(ct)}.")
    if ct:
        return ct[0]
    if volumes:
        return volumes[0]  # read_series says that it is no CT
    raise UserError(f"{folder.name}: no series of at least {FEWEST} slices; there are: {_list(series)}.")


def _list(series: list[Series]) -> str:
    return ", ".join(str(s) for s in series[:6]) + (" ..." if len(series) > 6 else "")


def read_series(series: Series, folder: Path):
    """Sort the slices along their normal, check that they make an upright grid, and read them."""
    import SimpleITK as sitk

    if series.modality != "CT":
        raise UserError(f"{folder.name}: series {series} is {series.modality or 'of no modality'}, not CT; give a CT.")
    _check_posture(series, folder)
    if len(series.paths) == 1:
        return _read([str(series.paths[0])], folder, sitk)
    order = _sort(series, folder)
    return _read([str(series.paths[i]) for i in order], folder, sitk)


def _check_posture(series: Series, folder: Path) -> None:
    """Raises UserError unless the patient lay head first, supine (or the files do not say): agents know no other."""
    for position in sorted({str(h.get("PatientPosition") or "HFS").strip().upper() for h in series.headers}):
        words = [text for code, text in POSTURES.items() if code in (position[:2], position[2:])]
        if position != "HFS":
            raise UserError(
                f"{folder.name}: series {series} was scanned {' and '.join(words) or position}; the agents know only "
                f"head first, supine: give such a scan."
            )


def _sort(series: Series, folder: Path) -> np.ndarray:
    """Order of the slices, foot to head of their normal. Raises UserError: tilted gantry, missing or double
    slices."""
    heads = series.headers
    try:
        axes = np.array([[float(x) for x in h.ImageOrientationPatient] for h in heads])
        places = np.array([[float(x) for x in h.ImagePositionPatient] for h in heads])
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{folder.name}: its slices say not where they lie (scout images?); give an axial CT series."
        ) from None
    sizes = {(h.Rows, h.Columns) for h in heads}
    if len(sizes) > 1 or np.abs(axes - axes[0]).max() > 1e-3:
        raise UserError(f"{folder.name}: series {series} mixes slice sizes or directions; export one volume.")
    normal = np.cross(axes[0, :3], axes[0, 3:])
    height = places @ normal
    order = np.argsort(height)
    steps = np.diff(height[order])
    if steps.min() < 1e-3:
        raise UserError(
            f"{folder.name}: series {series} has two slices at one place (several phases?); export one of them."
        )
    if np.abs(steps - np.median(steps)).max() > max(0.15 * np.median(steps), 0.05):
        raise UserError(f"{folder.name}: series {series} has slices missing or unevenly spaced; export it whole.")
    drift = places[order[-1]] - places[order[0]]
    angle = np.degrees(np.arccos(np.clip(drift @ normal / np.linalg.norm(drift), -1, 1)))
    if angle > 0.3:
        raise UserError(
            f"{folder.name}: the gantry was tilted by {angle:.1f} degrees; correct the tilt "
            f"(3D Slicer does on "
            "import) and save the volume as NRRD."
        )
    return order


def _read(names: list[str], folder: Path, sitk):
    try:
        if len(names) == 1:
            return sitk.ReadImage(names[0])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        return reader.Execute()
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1][:120]
        raise UserError(f"{folder.name}: its slices cannot be decoded ({line}); copy or export them again.") from None
