"""The registration as planning systems read it: a DICOM Spatial Registration object (PS3.3 A.39.1)."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np

from lib.base import provenance
from lib.base.errors import UserError

STORAGE = "1.2.840.10008.5.1.4.1.1.66.1"  # Spatial Registration Storage
SAME_PATIENT = "PatientName PatientID PatientBirthDate PatientSex"
SAME_STUDY = "StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName"


def write(pose: np.ndarray, fixed, moving, path) -> None:
    """Write `pose` (moving -> fixed, LPS mm) beside the series of both Volumes. Raises UserError: one is not from DICOM,
    or does not name its frame of reference."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    one, other = (_header(v, which) for v, which in ((fixed, "CBCT"), (moving, "CT")))
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = STORAGE
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: names in any script
    for tag in f"{SAME_PATIENT} {SAME_STUDY}".split():
        setattr(d, tag, str(one.get(tag) or ""))
    now = datetime.datetime.now()
    d.Modality, d.SeriesInstanceUID, d.SeriesNumber, d.InstanceNumber = "REG", generate_uid(), "1", "1"
    d.ContentDate, d.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    d.SeriesDate, d.SeriesTime = d.ContentDate, d.ContentTime
    d.Manufacturer, d.SeriesDescription = "agent-registration (research)", "CT to CBCT, rigid"
    d.ContentLabel, d.ContentDescription, d.ContentCreatorName = "REGISTRATION", "CT to CBCT, rigid", ""
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = one.FrameOfReferenceUID, ""
    d.RegistrationSequence = [_item(one, fixed, np.eye(4)), _item(other, moving, np.asarray(pose, dtype=float))]
    d.ReferencedSeriesSequence = [_series(one, fixed)]
    if other.get("StudyInstanceUID") == one.get("StudyInstanceUID"):
        d.ReferencedSeriesSequence.append(_series(other, moving))
    else:
        study = pydicom.Dataset()
        study.StudyInstanceUID, study.ReferencedSeriesSequence = other.StudyInstanceUID, [_series(other, moving)]
        d.StudiesContainingOtherReferencedInstancesSequence = [study]
    with provenance.atomic(path) as temporary:
        pydicom.dcmwrite(Path(temporary), d, enforce_file_format=True)


def check(fixed, moving) -> None:
    """Raises UserError unless both Volumes are DICOM series that can be named: asked before any work."""
    for volume, which in ((fixed, "CBCT"), (moving, "CT")):
        _header(volume, which)


def _header(volume, which: str):
    header = volume.given.dicom if volume.given is not None else None
    if header is None:
        raise UserError(
            f"The {which} is no DICOM series, and a DICOM registration names both series; give DICOM folders, or another "
            "--format."
        )
    for tag in ("FrameOfReferenceUID", "StudyInstanceUID"):
        if not header.get(tag):
            raise UserError(
                f"{volume.given.name}: the {which} names no {tag}, which a DICOM registration needs; use --format itk."
            )
    return header


def _item(header, volume, matrix: np.ndarray):
    """One registered image: its frame of reference, its slices, and the matrix from its coordinates to the CBCT's."""
    import pydicom

    inner, outer, item = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    inner.FrameOfReferenceTransformationMatrixType = "RIGID"
    inner.FrameOfReferenceTransformationMatrix = [f"{x + 0.0:.10g}"[:16] for x in matrix.ravel()]
    outer.MatrixSequence, outer.FrameOfReferenceTransformationComment = [inner], ""
    outer.RegistrationTypeCodeSequence = []
    item.FrameOfReferenceUID = header.FrameOfReferenceUID
    item.ReferencedImageSequence = _slices(volume)
    item.MatrixRegistrationSequence = [outer]
    return item


def _slices(volume) -> list:
    import pydicom

    found = []
    for kind, uid in volume.given.files:
        one = pydicom.Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = kind, uid
        found.append(one)
    return found


def _series(header, volume):
    import pydicom

    series = pydicom.Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = header.SeriesInstanceUID, _slices(volume)
    return series
