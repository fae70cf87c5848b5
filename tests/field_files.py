"""Small files as scanners, planning systems and toolkits write them: one phantom, and one change to each."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

Z, Y, X = np.mgrid[:24, :48, :48]
HU = np.where((X - 24) ** 2 + (Y - 24) ** 2 < 400, 40, -1000).astype(np.int16)  # (nz, ny, nx), 4 mm
HU[(X - 24) ** 2 + (Y - 32) ** 2 < 25] = 400
HU[:, 20:24, 14:18] += (3 * Z[:, 20:24, 14:18]).astype(np.int16)
STRAIGHT = np.diag([-4.0, -4, 4, 1])  # RAS


def one(k: int, **change) -> Dataset:
    """One CT slice; change: a tag's new value, or None to leave it out."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID, d.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    d.SOPClassUID, d.SeriesInstanceUID, d.StudyInstanceUID, d.Modality = CTImageStorage, "1.2.3", "1.2", "CT"
    d.SeriesNumber, d.InstanceNumber, d.FrameOfReferenceUID = "3", k + 1, "1.2.8"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    d.ImageType, d.PatientPosition, d.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS", "ABDOMEN"
    d.Rows = d.Columns = 48
    d.PixelSpacing, d.SliceThickness = [4, 4], "4"
    d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-96, -96, 4 * k]
    d.SamplesPerPixel, d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored = 1, "MONOCHROME2", 16, 16
    d.HighBit, d.PixelRepresentation, d.RescaleSlope, d.RescaleIntercept = 15, 0, "1", "-1024"
    d.PixelData = (HU[k] + 1024).astype("<u2").tobytes()
    for tag, value in change.items():
        delattr(d, tag) if value is None else setattr(d, tag, value)
    return d


def folder(path: Path, change=lambda k: {}) -> Path:
    """A series of 24 slices; change(k) says what is other in slice k."""
    path.mkdir(parents=True)
    for k in range(24):
        pydicom.dcmwrite(path / f"{k:03d}.dcm", one(k, **change(k)), enforce_file_format=True)
    return path


def many_frames(path: Path, **change) -> Path:
    """The series as one multi-frame file."""
    path.mkdir()
    d = one(0, NumberOfFrames=24, PixelData=(HU + 1024).astype("<u2").tobytes(), **change)
    pydicom.dcmwrite(path / "vol.dcm", d, enforce_file_format=True)
    return path


def functional_groups(step: float = 4.0) -> dict:
    """Shared and per-frame functional groups as Enhanced CT and X-ray 3-D angiography have them."""

    def item(**tags):
        d = Dataset()
        for tag, value in tags.items():
            setattr(d, tag, value)
        return d

    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[4, 4])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelValueTransformationSequence=[item(RescaleSlope="1", RescaleIntercept="-1024")],
    )
    places = [[-96, -96, step * k] for k in range(24)]
    each = [item(PlanePositionSequence=[item(ImagePositionPatient=place)]) for place in places]
    gone = dict.fromkeys(("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleIntercept"))
    return gone | {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}


def nifti(path: Path, sform=STRAIGHT, qform=None, kind=nibabel.Nifti1Image, array=HU) -> Path:
    """A NIfTI file with a sform (code 1) and, if given, another qform; RAS affines (4, 4)."""
    image = kind(np.asarray(array).T, sform)
    image.set_sform(sform, 1)
    if qform is not None:
        image.set_qform(qform, 1, strip_shears=True)
    nibabel.save(image, path)
    return path
