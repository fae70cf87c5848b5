"""Pixels of DICOM frames: the stored values, rescaled by their own slope and intercept, one slice at a time.

MONOCHROME1 is about display; the stored values are meant, so they are never turned round. pydicom decodes what needs no
further library (uncompressed, deflated, RLE); GDCM decodes JPEG, of a copy that says slope 1 and MONOCHROME2.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.images.frames import Frame
from lib.images.slabs import Stack

PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
RLE = "1.2.840.10008.1.2.5"


def dataset(path: Path, **options):
    """A DICOM file's dataset, also without its preamble."""
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    found = pydicom.dcmread(path, force=True, **options)
    if "TransferSyntaxUID" not in found.file_meta:
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return found


def volume(frames: list[Frame], shape: tuple[int, int], name: str) -> np.ndarray:
    """The frames as (nz, ny, nx), rescaled: int16 where every value fits, else float32. Raises UserError."""
    whole = all(f.slope == int(f.slope) and f.intercept == int(f.intercept) for f in frames)
    stack = Stack((len(frames), *shape), whole)
    source = Stored(name)
    for k, frame in enumerate(frames):
        plane = source(frame).astype(np.float64) * frame.slope + frame.intercept
        if plane.shape != shape:
            raise UserError(f"{name}: {frame.path.name} is not one plane of {shape[1]} x {shape[0]}; export it again.")
        stack.put(k, plane)
    return stack.array


class Stored:
    """Stored values of frames; remembers the last file of several frames."""

    def __init__(self, name: str):
        self.name, self.path, self.planes = name, None, None

    def __call__(self, frame: Frame) -> np.ndarray:
        """(ny, nx) as stored. Raises UserError where the file cannot be decoded."""
        try:
            if frame.number is None:
                return self._decode(frame.path, None)
            return self._decode(frame.path, frame.number)
        except UserError:
            raise
        except Exception as error:  # pydicom, NumPy and GDCM each have their own
            line = (str(error).strip().splitlines() or ["unreadable"])[-1][:100]
            raise UserError(
                f"{self.name}: {frame.path.name} cannot be decoded ({line}); copy or export the series again."
            ) from None

    def _decode(self, path: Path, number: int | None) -> np.ndarray:
        import pydicom

        if self.path == path:
            return self.planes[number or 0]
        header = dataset(path, stop_before_pixels=True)
        syntax = str(header.file_meta.TransferSyntaxUID)
        if number is not None and syntax in (*PLAIN[:3], RLE) and _has_preamble(path):
            return pydicom.pixels.pixel_array(path, index=number, raw=True)
        full = dataset(path)
        planes = full.pixel_array if syntax in (*PLAIN, RLE) else _by_gdcm(full)
        planes = planes[None] if planes.ndim == 2 else planes
        if number is not None:
            self.path, self.planes = path, planes
        return planes[number or 0]


def _has_preamble(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _by_gdcm(full) -> np.ndarray:
    """Stored values through SimpleITK, of a copy that asks for no rescale and no inversion."""
    import SimpleITK as sitk

    full.RescaleSlope, full.RescaleIntercept = "1", "0"
    if full.PhotometricInterpretation == "MONOCHROME1":
        full.PhotometricInterpretation = "MONOCHROME2"
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in full.get(name) or []:
            for item in group.get("PixelValueTransformationSequence") or []:
                item.RescaleSlope, item.RescaleIntercept = "1", "0"
    with tempfile.TemporaryDirectory() as folder:
        full.save_as(Path(folder) / "a.dcm", enforce_file_format=True)
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(folder) / "a.dcm")))
    return array


def same(name: str):
    """A function of two frames: whether they hold the same values."""
    source = Stored(name)
    return lambda a, b: (a.slope, a.intercept) == (b.slope, b.intercept) and np.array_equal(source(a), source(b))
