"""What people have on disk: formats, orientations, DICOM, and one sentence for each bad input."""

import gzip
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from lib.base.errors import UserError
from lib.images import dicom, read

RNG = np.random.default_rng(0)


def phantom(shape=(24, 30, 36)) -> np.ndarray:
    """HU with air, tissue and a bright corner that tells every orientation apart."""
    array = RNG.integers(-20, 80, shape).astype(np.int16)
    array[:3], array[-3:] = -1000, -1000
    array[4:8, 5:10, 6:14] = 700
    return array


def image(array=None, spacing=(1.5, 2.0, 3.0), origin=(10, -20, 30)):
    result = sitk.GetImageFromArray(phantom() if array is None else array)
    result.SetSpacing(spacing)
    result.SetOrigin(origin)
    return result


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith((".", "?", ").")) and 20 < len(text) < 400, text
    return text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_formats_give_the_same_volume(tmp_path, suffix):
    source = image()
    sitk.WriteImage(source, str(tmp_path / f"a{suffix}"), useCompression=suffix != ".nii")
    volume = read.read_image(tmp_path / f"a{suffix}", kind="ct")
    np.testing.assert_allclose(volume.array.numpy(), sitk.GetArrayFromImage(source), atol=1e-3)
    np.testing.assert_allclose(volume.spacing, (1.5, 2, 3), atol=1e-5)
    np.testing.assert_allclose(volume.origin, (10, -20, 30), atol=1e-4)


@pytest.mark.parametrize("code", ["RAS", "LPI", "PIR", "SAL", "ILP"])
def test_any_orientation_lands_on_the_same_world_points(tmp_path, code):
    source = image()
    sitk.WriteImage(sitk.DICOMOrient(source, code), str(tmp_path / "a.nii.gz"))
    volume = read.read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.direction, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(volume.origin, (10, -20, 30), atol=1e-3)
    np.testing.assert_allclose(volume.array.numpy(), sitk.GetArrayFromImage(source), atol=1e-3)


def test_oblique_images_keep_their_direction(tmp_path):
    source = image()
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15)
    source.SetDirection(turn.GetMatrix())
    sitk.WriteImage(source, str(tmp_path / "a.nrrd"))
    volume = read.read_image(tmp_path / "a.nrrd")
    np.testing.assert_allclose(volume.direction, np.reshape(turn.GetMatrix(), (3, 3)), atol=1e-5)
    world = source.TransformIndexToPhysicalPoint((5, 6, 7))
    np.testing.assert_allclose((volume.affine @ [5, 6, 7, 1])[:3], world, atol=1e-3)


def test_unsigned_ct_with_offset_and_other_units_are_read(tmp_path):
    sitk.WriteImage(image((phantom() + 1024).astype(np.uint16)), str(tmp_path / "a.nii"))
    read.read_image(tmp_path / "a.nii", kind="ct")
    sitk.WriteImage(image((phantom() + 1000).astype(np.float32) / 50), str(tmp_path / "b.nii"))
    read.read_image(tmp_path / "b.nii", kind="cbct")  # a cone-beam CT need not be in HU


def bad_header(path, key, value):
    sitk.WriteImage(image(), str(path), useCompression=False)
    path.write_bytes(path.read_bytes().replace(key, value, 1))


def make_bad(name, path):
    """Write the bad input `name`; returns its path."""
    array = phantom().astype(np.float32)
    if name == "missing":
        return path / "nothing.nii.gz"
    if name == "truncated":
        sitk.WriteImage(image(), str(path / "whole.nii.gz"))
        data = (path / "whole.nii.gz").read_bytes()
        (path / "a.nii.gz").write_bytes(data[: len(data) * 2 // 3])
        return path / "a.nii.gz"
    if name in ("truncated mha", "truncated nrrd"):
        suffix = name.split()[1]
        sitk.WriteImage(image(), str(path / f"whole.{suffix}"), useCompression=True)
        data = (path / f"whole.{suffix}").read_bytes()
        (path / f"a.{suffix}").write_bytes(data[: len(data) * 2 // 3])
        return path / f"a.{suffix}"
    if name == "empty":
        (path / "a.nii.gz").write_bytes(b"")
        return path / "a.nii.gz"
    if name == "text":
        (path / "a.txt").write_text("not an image")
        return path / "a.txt"
    if name == "garbage":
        (path / "a.nii").write_bytes(b"garbage" * 100)
        return path / "a.nii"
    if name == "2-D":
        sitk.WriteImage(sitk.GetImageFromArray(array[0]), str(path / "a.mha"))
        return path / "a.mha"
    if name == "one slice":
        sitk.WriteImage(sitk.GetImageFromArray(array[:1]), str(path / "a.nii"))
        return path / "a.nii"
    if name == "thin":
        sitk.WriteImage(sitk.GetImageFromArray(array[:5]), str(path / "a.nii"))
        return path / "a.nii"
    if name == "4-D":
        sitk.WriteImage(sitk.JoinSeries([image(), image()]), str(path / "a.nii"))
        return path / "a.nii"
    if name == "colour":
        sitk.WriteImage(sitk.Compose([image(), image(), image()]), str(path / "a.mha"))
        return path / "a.mha"
    if name in ("NaN", "inf"):
        array[5, 5, 5] = float(name)
        sitk.WriteImage(image(array), str(path / "a.nii"))
        return path / "a.nii"
    if name == "constant":
        sitk.WriteImage(image(array * 0 - 1000), str(path / "a.nii"))
        return path / "a.nii"
    if name == "mask as CT":
        sitk.WriteImage(image((array > 0).astype(np.uint8)), str(path / "a.nii"))
        return path / "a.nii"
    if name == "MR as CT":
        sitk.WriteImage(image((array + 1000) / 4), str(path / "a.nii"))
        return path / "a.nii"
    matrix = b"TransformMatrix = 1 0 0 0 1 0 0 0 1"
    key, value = {
        "zero spacing": (b"ElementSpacing = 1.5 2 3", b"ElementSpacing = 0 2 3"),
        "negative spacing": (b"ElementSpacing = 1.5 2 3", b"ElementSpacing = -1.5 2 3"),
        "singular direction": (matrix, b"TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        "shear": (matrix, b"TransformMatrix = 1 0 0 0 1 0 0 0.3 1"),
    }[name]
    bad_header(path / "a.mha", key, value)
    return path / "a.mha"


BAD = {
    "missing": "no such file",
    "truncated": "truncated",
    "truncated mha": "cut off",
    "truncated nrrd": "cut off",
    "empty": "empty",
    "text": "unknown format",
    "garbage": "damaged",
    "2-D": "2-D",
    "one slice": "2-D|only",
    "thin": "only",
    "4-D": "4-D",
    "colour": "values a voxel",
    "NaN": "NaN",
    "inf": "infinite",
    "constant": "every voxel",
    "mask as CT": "not those of a CT",
    "MR as CT": "not those of a CT",
    "zero spacing": "positive",
    "negative spacing": "positive",
    "singular direction": "singular",
    "shear": "right angles|singular",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_end_in_one_sentence(tmp_path, name):
    path = make_bad(name, tmp_path)
    with pytest.raises(UserError, match=BAD[name]) as error:
        read.read_image(path, kind="ct")
    assert path.name in sentence(error)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("value", [0.0, -2.0, np.nan])
def test_bad_nifti_spacing(tmp_path, axis, value):
    sitk.WriteImage(image(), str(tmp_path / "a.nii"))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[76 + 4 * axis : 80 + 4 * axis] = np.float32(value).tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(data))
    with pytest.raises(UserError, match="spacing"):
        read.read_image(tmp_path / "a.nii")


def test_gzip_with_bytes_after_the_image_is_read(tmp_path):
    sitk.WriteImage(image(), str(tmp_path / "a.nii"))
    with gzip.open(tmp_path / "b.nii.gz", "wb") as stream:
        stream.write((tmp_path / "a.nii").read_bytes() + b"more")
    assert read.read_image(tmp_path / "b.nii.gz").size == (36, 30, 24)


def write_dicom(
    folder,
    array,
    spacing=(1.5, 2.0, 3.0),
    modality="CT",
    tilt=0.0,
    skip=(),
    uid=None,
    number=1,
    description="CHEST",
    prefix="a",
    flip=False,
    kind=("ORIGINAL", "PRIMARY", "AXIAL"),
    position="HFS",
):
    """A series of slices as a scanner writes them: stored with an offset of 1024; file names say nothing of
    the order."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    for k in range(len(array)):
        if k in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        d = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        d.SeriesInstanceUID, d.StudyInstanceUID, d.SeriesNumber = uid, generate_uid(), number
        d.SeriesDescription, d.Modality, d.ImageType = description, modality, list(kind)
        d.Rows, d.Columns = array.shape[1:]
        d.PixelSpacing = [spacing[1], spacing[0]]
        d.SliceThickness = spacing[2]
        d.PatientPosition = position
        d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        d.ImagePositionPatient = [10, -20 + k * tilt, 30 + k * spacing[2]]
        d.InstanceNumber = len(array) - k if flip else k + 1
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation = 15, 0
        d.RescaleSlope, d.RescaleIntercept = 1, -1024
        d.PixelData = (array[k] + 1024).astype(np.uint16).tobytes()
        d.save_as(folder / f"{prefix}{(k * 7) % 97:03d}.dcm", enforce_file_format=True)
    return uid


def test_dicom_folder(tmp_path):
    array = phantom()
    write_dicom(tmp_path, array, flip=True)
    (tmp_path / "readme.txt").write_text("hello")
    for source in (tmp_path, next(tmp_path.glob("*.dcm"))):
        volume = read.read_image(source, kind="ct")
        np.testing.assert_array_equal(volume.array.numpy(), array)
        np.testing.assert_allclose(volume.spacing, (1.5, 2, 3))
        np.testing.assert_allclose(volume.origin, (10, -20, 30))


def test_dicom_series_is_chosen_or_asked_for(tmp_path):
    array = phantom()
    one = write_dicom(tmp_path / "x", array, number=2, description="PANCREAS")
    scout = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    write_dicom(tmp_path / "s", array[:2], number=1, description="SCOUT", kind=scout)
    assert read.read_image(tmp_path).size == (36, 30, 24)  # the scout is no volume
    write_dicom(tmp_path / "y", array[::-1].copy(), number=3, description="PANCREAS LATE")
    with pytest.raises(UserError, match="--series") as error:
        read.read_image(tmp_path)
    assert "PANCREAS LATE" in sentence(error)
    for wanted in (one, "2", "PANCREAS"):
        np.testing.assert_array_equal(read.read_image(tmp_path, wanted).array.numpy(), array)
    np.testing.assert_array_equal(read.read_image(tmp_path, "late").array.numpy(), array[::-1])
    for wanted in ("brain", "pancr"):
        with pytest.raises(UserError, match="matches"):
            read.read_image(tmp_path, wanted)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"modality": "MR"}, "not CT"),
        ({"tilt": 0.8}, "tilted"),
        ({"skip": (9, 10)}, "missing"),
        ({"position": "HFP"}, "scanned prone; .*supine"),
        ({"position": "FFP"}, "scanned prone;"),
        ({"position": "HFDL"}, "left side"),
    ],
)
def test_bad_dicom_series(tmp_path, change, word):
    write_dicom(tmp_path, phantom(), **change)
    with pytest.raises(UserError, match=word) as error:
        read.read_image(tmp_path)
    sentence(error)


def test_two_phases_in_one_series(tmp_path):
    uid = write_dicom(tmp_path, phantom())
    write_dicom(tmp_path, phantom(), uid=uid, prefix="b")
    with pytest.raises(UserError, match="2 stacks"):
        read.read_image(tmp_path)


def test_folder_without_dicom_or_with_damaged_files(tmp_path):
    with pytest.raises(UserError, match="no DICOM") as error:
        read.read_image(tmp_path)
    sentence(error)
    write_dicom(tmp_path, phantom())
    some = next(tmp_path.glob("*.dcm"))
    some.write_bytes(some.read_bytes()[:-2000])
    with pytest.raises(UserError):
        read.read_image(tmp_path)
    shutil.rmtree(tmp_path)


def test_series_without_positions(tmp_path):
    write_dicom(tmp_path, phantom())
    for path in tmp_path.glob("*.dcm"):
        d = pydicom.dcmread(path)
        del d.ImagePositionPatient
        d.save_as(path)
    with pytest.raises(UserError, match="where they lie"):
        read.read_image(tmp_path)
    assert len(dicom.find_series(tmp_path)) == 1
