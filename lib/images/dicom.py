"""DICOM folders: which series there are, which one is meant, what is no slice of it; then its volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.images import frames, pixels
from lib.images.given import Given

TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "SeriesDescription",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SpacingBetweenSlices",
    "GridFrameOffsetVector",
    "PatientPosition",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "SamplesPerPixel",
    "FrameOfReferenceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ManufacturerModelName",
    "IsocenterPosition",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
]
POSTURES = {"P": "prone", "DR": "lying on the right side", "DL": "lying on the left side"}
FEWEST = 8  # slices below which a series is no volume (scouts, dose sheets)
MODALITIES = {"ct": ("CT",), "cbct": ("CT", "XA"), "image": ("CT", "XA")}  # XA: a C-arm's cone-beam CT
OPTION = {"cbct": "--fixed-series"}  # how the command line chooses a series; of the CT --series


@dataclass
class Series:
    """The slices of one DICOM series: paths and headers in the same order; `notes` say what was left out of it."""

    uid: str
    description: str
    number: str
    modality: str
    paths: list[Path] = field(default_factory=list)
    headers: list = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_volume(self) -> bool:
        count = max(int(h.get("NumberOfFrames") or 1) for h in self.headers)
        return not any(map(_is_scout, self.headers)) and (len(self.paths) >= FEWEST or count >= FEWEST)

    def __str__(self) -> str:
        name = self.description or self.uid
        return f"{self.number or '?'} '{name}' ({self.modality}, {len(self.paths)} slices)"

    def leave_out(self, which: list[int], what: str) -> None:
        """Take slices out of the series, with a note."""
        self.notes.append(f"{len(which)} {what} left out")
        self.paths = [p for i, p in enumerate(self.paths) if i not in which]
        self.headers = [h for i, h in enumerate(self.headers) if i not in which]


def _is_scout(header) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or [])


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, with their preamble or (older systems) without."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or (
        start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00" and len(start) > 16
    )


def find_series(folder: Path) -> list[Series]:
    """All series with pixels under `folder`, by UID, without their localizers and copied files. Files that are not
    DICOM are passed over."""
    found: dict[str, Series] = {}
    empty = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.stat().st_size == 0:
            empty.append(path)
        if not is_dicom(path):
            continue
        try:
            header = pixels.dataset(path, stop_before_pixels=True, specific_tags=TAGS)
            uid, rows = str(header.get("SeriesInstanceUID", "")), header.get("Rows")
        except Exception:
            raise UserError(f"{path.name}: damaged DICOM file; copy the folder again.") from None
        if not rows:
            continue  # RTSTRUCT, dose report: no image
        if not header.get("Columns"):
            raise UserError(f"{path.name}: damaged, it does not say how many columns it has; copy the folder again.")
        words = (str(header.get(tag) or "") for tag in ("SeriesDescription", "SeriesNumber", "Modality"))
        series = found.setdefault(uid, Series(uid, *words))
        series.paths.append(path)
        series.headers.append(header)
    for series in found.values():
        _refuse_empty(series, empty)
        _tidy(series)
    return list(found.values())


def _refuse_empty(series: Series, empty: list[Path]) -> None:
    """Raises UserError where an empty file lies among the slices and is called as they are: it was one of them."""
    for path in empty:
        if path.parent in {p.parent for p in series.paths} and path.suffix in {p.suffix for p in series.paths}:
            raise UserError(f"{path.parent.name}: {path.name} is empty, a slice is lost; copy the folder again.")


def _tidy(series: Series) -> None:
    """Leave out what is no slice of the volume: files that are there twice, and localizers among the slices."""
    uids = [str(h.get("SOPInstanceUID", "")) for h in series.headers]
    copies = [i for i, uid in enumerate(uids) if uid and uid in uids[:i]] if len(set(uids)) < len(uids) else []
    if copies:
        series.leave_out(copies, "copied slice file(s)")
    scouts = [i for i, h in enumerate(series.headers) if _is_scout(h)] or _across(series)
    if scouts and len(series.paths) - len(scouts) >= FEWEST:
        series.leave_out(scouts, "localizer(s)")


def _across(series: Series) -> list[int]:
    """At most three slices that stand across all others: localizers that do not say so."""
    normals = []
    for header in series.headers:
        axes = header.get("ImageOrientationPatient")
        if axes is None or len(axes) != 6:
            return []
        normals.append(np.cross([float(x) for x in axes[:3]], [float(x) for x in axes[3:]]))
    turned = np.abs(np.array(normals) @ np.median(normals, axis=0)) < 0.5
    return np.flatnonzero(turned).tolist() if turned.sum() <= 3 else []


def read_folder(folder: Path, wanted: str | None = None, kind: str = "image"):
    """(array, Given) of the one CT series of a folder, or of the series `wanted`. Raises UserError."""
    series = find_series(folder)
    if not series:
        raise UserError(f"{folder}: no DICOM image in this folder; give the folder that holds the slices.")
    return read_series(choose(series, wanted, folder, kind), folder, kind)


def read_file(path: Path, kind: str = "image"):
    """The series that a DICOM file belongs to, from its folder."""
    header = pixels.dataset(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Rows"])
    if not header.get("Rows"):
        raise UserError(
            f"{path.name}: DICOM, but no image (a structure set, plan or report?); give the folder of slices."
        )
    return read_folder(path.parent, str(header.get("SeriesInstanceUID", "")), kind)


def choose(series: list[Series], wanted: str | None, folder: Path, kind: str = "image") -> Series:
    """The series that `wanted` names, else the only volume among them. Raises UserError, listing what there is."""
    option = OPTION.get(kind, "--series")
    if wanted:
        exact = [s for s in series if wanted in (s.uid, s.number, s.description)]
        match = exact or [s for s in series if wanted.lower() in s.description.lower()]
        if len(match) != 1:
            which = "no series" if not match else f"{len(match)} series"
            ids = f"; name it by its UID: {', '.join(s.uid for s in match[:4])}" if len(match) > 1 else ""
            raise UserError(f"{folder.name}: {which} matches '{wanted}'; there are: {_list(series)}{ids}.")
        return match[0]
    volumes = [s for s in series if s.is_volume]
    right = [s for s in volumes if s.modality in MODALITIES[kind]]
    if len(right) > 1:
        raise UserError(f"{folder.name}: {len(right)} CT series; choose one with {option}: {_list(right)}.")
    if right:
        return right[0]
    if volumes:
        return volumes[0]  # read_series says that it is no CT
    if len(series) >= FEWEST and all(len(s.paths) == 1 for s in series):
        raise UserError(
            f"{folder.name}: every file is a series of its own (anonymised, with new series UIDs?); anonymise it again "
            "with one SeriesInstanceUID a series."
        )
    raise UserError(f"{folder.name}: no series of at least {FEWEST} slices; there are: {_list(series)}.")


def _list(series: list[Series]) -> str:
    return ", ".join(str(s) for s in series[:6]) + (" ..." if len(series) > 6 else "")


def read_series(series: Series, folder: Path, kind: str = "image") -> tuple[np.ndarray, Given]:
    """The volume (nz, ny, nx) of a series, rescaled, and its geometry from its tags. Raises UserError."""
    if series.modality not in MODALITIES[kind]:
        what = series.modality or "of no modality"
        raise UserError(f"{folder.name}: series {series} is {what}, not CT; give a CT.")
    _check_posture(series, folder)
    _check_stacks(series, folder)
    _check_frame(series, folder)
    colour = max(int(h.get("SamplesPerPixel") or 1) for h in series.headers)
    if colour > 1:
        raise UserError(f"{folder.name}: series {series} is a colour picture; a single-channel CT is needed.")
    label = f"{folder.name}: series {series}"
    pairs = list(zip(series.paths, series.headers, strict=True))
    found = [frame for path, header in pairs for frame in frames.frames_of(path, header, folder.name)]
    sizes = {(int(h.Rows), int(h.Columns)) for h in series.headers}
    grid = frames.stack(found, sizes, label, pixels.same(folder.name))
    array = pixels.volume(grid.frames, next(iter(sizes)), folder.name)
    first = series.headers[series.paths.index(grid.frames[0].path)]
    files = dict.fromkeys((str(h.get("SOPClassUID", "")), str(h.get("SOPInstanceUID", ""))) for h in series.headers)
    given = Given(folder.name, array.shape[::-1], grid.spacing, grid.origin, grid.direction, list(series.notes))
    given.dicom, given.files = first, list(files)
    return array, given


def _check_stacks(series: Series, folder: Path) -> None:
    """Raises UserError where every slice number is there several times: two stacks, which may lie in each other's gaps."""
    numbers = [str(h.get("InstanceNumber") or "") for h in series.headers]
    times = {numbers.count(number) for number in set(numbers)}
    if "" not in numbers and len(set(numbers)) >= FEWEST and min(times) > 1:
        raise UserError(
            f"{folder.name}: series {series} holds {min(times)} stacks with the same slice numbers (several phases or "
            "reconstructions?); export one of them."
        )


def _check_frame(series: Series, folder: Path) -> None:
    """Raises UserError where slices count their millimetres from different points: their places cannot be compared."""
    origins = {str(h.get("FrameOfReferenceUID") or "") for h in series.headers} - {""}
    if len(origins) > 1:
        raise UserError(
            f"{folder.name}: series {series} holds slices of {len(origins)} frames of reference (scans merged into one "
            "series?), so their positions cannot be compared; export one scan."
        )


def _check_posture(series: Series, folder: Path) -> None:
    """Raises UserError unless the patient lay supine (or the files do not say): agents know no other. Head or feet first
    is one in the patient's coordinates."""
    for position in sorted({str(h.get("PatientPosition") or "HFS").strip().upper() for h in series.headers}):
        words = [text for code, text in POSTURES.items() if position[2:] == code]
        if words:
            raise UserError(
                f"{folder.name}: series {series} was scanned {words[0]}; the agents know only patients on their back: give "
                "a supine scan."
            )
