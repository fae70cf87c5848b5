"""Geometry is never guessed: what a file does not say, or says twice in two ways, is refused (F1-F3, F8-F16)."""

import math

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from lib.base.errors import UserError
from lib.images import pair, read, volume
from tests.field_files import HU, STRAIGHT, folder, functional_groups, many_frames, nifti, one


def is_phantom(found, spacing=(4, 4, 4), array=HU):
    np.testing.assert_array_equal(found.array.numpy(), array)
    np.testing.assert_allclose(found.spacing, spacing, atol=1e-3)


def refused(path, word, kind="ct", series=None) -> str:
    with pytest.raises(UserError, match=word) as error:
        read.read_image(path, series, kind)
    text = str(error.value)
    assert "\n" not in text and path.name in text and text.endswith(".")
    return text


@pytest.mark.parametrize(
    "change",
    [
        lambda k: {"PixelSpacing": None},
        lambda k: {"PixelSpacing": None, "ImagerPixelSpacing": [4, 4]},
        lambda k: {"PixelSpacing": [4, 4] if k < 12 else [3, 3]},
    ],
)
def test_f1_pixel_size_missing_or_changing(tmp_path, change):
    refused(folder(tmp_path / "f1", change), "do not say how large their pixels are")


def test_f2_frames_whose_place_is_not_said(tmp_path):
    refused(many_frames(tmp_path / "a"), "does not say where they lie.*SliceThickness is no spacing")
    is_phantom(read.read_image(many_frames(tmp_path / "b", SpacingBetweenSlices="2.5"), kind="ct"), (4, 4, 2.5))
    is_phantom(read.read_image(many_frames(tmp_path / "c", **functional_groups(3.0)), kind="ct"), (4, 4, 3))


def test_f3_tilted_gantry_as_nifti(tmp_path):
    tilted = STRAIGHT.copy()
    tilted[1, 2] = 4 * math.tan(math.radians(15))
    refused(nifti(tmp_path / "a.nii.gz", tilted, tilted), "15.0 degrees.*tilted gantry")
    refused(nifti(tmp_path / "b.nii.gz", tilted), "tilted gantry")


def test_a_tilt_with_two_slice_spacings_is_called_a_tilt(tmp_path):
    at = [4 * k if k < 12 else 48 + 8 * (k - 12) for k in range(24)]
    place = lambda k: {"ImagePositionPatient": [-96, -96 + 0.2 * at[k], at[k]]}  # noqa: E731
    refused(folder(tmp_path / "tilt", place), "tilted by 11.3 degrees")


def test_f8_the_moved_image_is_on_the_grid_of_the_file(tmp_path):
    for name, direction in (("a", (1, 0, 0, 0, -1, 0, 0, 0, 1)), ("b", (0, 0, 1, 1, 0, 0, 0, 1, 0))):
        image = sitk.GetImageFromArray(HU[:, ::-1].copy())
        image.SetSpacing((4, 4, 4.5))
        image.SetDirection(direction)
        sitk.WriteImage(image, tmp_path / f"{name}.nii.gz")
        found = read.read_image(tmp_path / f"{name}.nii.gz")
        volume.write(pair.resample_moving(found, found, np.eye(4)), tmp_path / "r.nii.gz")
        again = sitk.ReadImage(tmp_path / "r.nii.gz")
        np.testing.assert_allclose(again.GetDirection(), direction, atol=1e-6)
        np.testing.assert_allclose(again.GetOrigin(), image.GetOrigin(), atol=1e-4)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(again), HU[:, ::-1])


def test_f9_a_localizer_inside_the_series(tmp_path):
    across = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    said = across | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for name, change in (("said", said), ("not_said", across)):
        found = read.read_image(folder(tmp_path / name, lambda k, c=change: c if k == 0 else {}), kind="ct")
        is_phantom(found, array=HU[1:])
        assert any("localizer" in note for note in found.given.notes)


def test_f10_without_preamble(tmp_path):
    for k in range(24):
        d = one(k)
        del d.file_meta
        d.save_as(tmp_path / f"{k:03d}.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    is_phantom(read.read_image(tmp_path, kind="ct"))


def test_f11_each_side_has_its_own_option(tmp_path):
    folder(tmp_path / "p" / "a")
    folder(tmp_path / "p" / "b", lambda k: {"SeriesInstanceUID": "1.2.4", "SeriesNumber": "4"})
    refused(tmp_path / "p", "choose one with --fixed-series", "cbct")
    assert "--fixed" not in refused(tmp_path / "p", "choose one with --series", "ct")
    is_phantom(read.read_image(tmp_path / "p", "4", "cbct"))


def test_f12_every_slice_a_series(tmp_path):
    text = refused(folder(tmp_path / "f12", lambda k: {"SeriesInstanceUID": f"1.2.9.{k + 1}"}), "series of its own")
    assert text.count("slices)") == 0
    is_phantom(read.read_image(folder(tmp_path / "numbers", lambda k: {"SeriesNumber": str(k)}), kind="ct"))


def test_f13_feet_first(tmp_path):
    is_phantom(read.read_image(folder(tmp_path / "f13", lambda k: {"PatientPosition": "FFS"}), kind="ct"))


def test_f14_axes_off_by_a_tenth_of_a_degree_and_f15_nifti_2(tmp_path):
    off = STRAIGHT.copy()
    off[0, 1] = 0.008
    found = read.read_image(nifti(tmp_path / "f14.nii.gz", off), kind="ct")
    is_phantom(found)
    np.testing.assert_allclose(found.direction.T @ found.direction, np.eye(3), atol=1e-9)
    is_phantom(read.read_image(nifti(tmp_path / "f15.nii.gz", kind=nibabel.Nifti2Image), kind="ct"))


def test_f16_sform_and_qform_disagree(tmp_path):
    other = np.diag([4.0, -4, 4, 1])
    refused(nifti(tmp_path / "f16.nii.gz", other, STRAIGHT), "sform and its qform place it 376 mm apart")
    is_phantom(read.read_image(nifti(tmp_path / "same.nii.gz", STRAIGHT, STRAIGHT), kind="ct"))


def test_a_c_arm_is_a_cone_beam_ct(tmp_path):
    path = many_frames(tmp_path / "xa", Modality="XA", **functional_groups())
    is_phantom(read.read_image(path, kind="cbct"))
    refused(path, "is XA, not CT", "ct")


def test_a_copied_slice_and_an_empty_one(tmp_path):
    path = folder(tmp_path / "s")
    (path / "copy.dcm").write_bytes((path / "005.dcm").read_bytes())
    is_phantom(read.read_image(path, kind="ct"))
    pydicom.dcmwrite(path / "copy.dcm", one(5), enforce_file_format=True)  # its own UID, the same pixels
    is_phantom(read.read_image(path, kind="ct"))
    pydicom.dcmwrite(path / "copy.dcm", one(5, PixelData=one(6).PixelData), enforce_file_format=True)
    refused(path, "two slices at one place")
    (path / "copy.dcm").unlink()
    (path / "023.dcm").write_bytes(b"")
    refused(path, "023.dcm is empty")


# Five and more of the same kind, found by trying.


def test_nifti_that_does_not_say_how_it_lies(tmp_path):
    image = nibabel.Nifti1Image(HU.T, STRAIGHT)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "left and right are not known")


def test_nifti_in_micrometres(tmp_path):
    image = nibabel.Nifti1Image(HU.T, STRAIGHT @ np.diag([1000.0, 1000, 1000, 1]))
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    found = read.read_image(tmp_path / "a.nii", kind="ct")
    is_phantom(found)
    assert "micrometres" in found.given.notes[0]


def test_nifti_whose_sform_has_other_voxels_than_its_header(tmp_path):
    path = nifti(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    data[80:84] = np.float32(2.0).tobytes()
    path.write_bytes(bytes(data))
    refused(path, "its sform has voxels of 4 x 4 x 4 mm, its header of 2 x 4 x 4 mm")


@pytest.mark.parametrize(
    ("name", "line", "word"),
    [
        ("a.mha", b"ElementSpacing", "how large its voxels are"),
        ("a.nrrd", b"space directions", "how large its voxels are"),
        ("a.nrrd", b"space:", "how its axes lie"),
    ],
)
def test_headers_that_leave_out_what_itk_fills_in(tmp_path, name, line, word):
    image = sitk.GetImageFromArray(HU)
    image.SetSpacing((4, 4, 4))
    sitk.WriteImage(image, tmp_path / name)
    lines = (tmp_path / name).read_bytes().split(b"\n")
    kept = [text for text in lines if not text.startswith(line)]
    assert len(kept) == len(lines) - 1
    (tmp_path / name).write_bytes(b"\n".join(kept))
    refused(tmp_path / name, word)


def test_jpeg_and_monochrome1_keep_the_stored_values(tmp_path):
    """What pydicom does not decode here goes through GDCM, which would turn MONOCHROME1 round."""
    path = folder(tmp_path / "plain", lambda k: {"PhotometricInterpretation": "MONOCHROME1"})
    is_phantom(read.read_image(path, kind="ct"))
    (tmp_path / "jpeg").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(24):
        image = sitk.ReadImage(path / f"{k:03d}.dcm")
        plain = sitk.GetImageFromArray((HU[k] + 1024).astype(np.uint16)[None])
        for key in ("0020|000e", "0020|0032", "0020|0037", "0028|0030", "0008|0060", "0008|103e", "0020|0011"):
            plain.SetMetaData(key, image.GetMetaData(key))
        writer.SetFileName(str(tmp_path / "jpeg" / f"{k:03d}.dcm"))
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.Execute(plain)
        d = pydicom.dcmread(tmp_path / "jpeg" / f"{k:03d}.dcm")
        d.PhotometricInterpretation, d.RescaleIntercept, d.RescaleSlope = "MONOCHROME1", "-1024", "1"
        d.PixelSpacing, d.ImagePositionPatient, d.ImageOrientationPatient = (
            [4, 4],
            [-96, -96, 4 * k],
            [1, 0, 0, 0, 1, 0],
        )
        d.Modality = "CT"
        d.save_as(tmp_path / "jpeg" / f"{k:03d}.dcm")
    assert pydicom.dcmread(tmp_path / "jpeg" / "000.dcm").file_meta.TransferSyntaxUID.is_compressed
    is_phantom(read.read_image(tmp_path / "jpeg", kind="ct"))


def test_slices_whose_distance_drifts_are_uneven(tmp_path):
    """Each step within 15 % of the usual one, and the middle slice 14 mm from where the volume would have it."""
    heights = np.cumsum([0.0] + [2.0] * 12 + [2.28] * 11)
    change = lambda k: {"ImagePositionPatient": [-96, -96, float(heights[k])]}  # noqa: E731
    with pytest.raises(UserError, match="unevenly spaced"):
        read.read_image(folder(tmp_path / "drift", change))
    jitter = lambda k: {"ImagePositionPatient": [-96, -96, 2.0 * k + 0.1 * (k % 2)]}  # noqa: E731
    assert read.read_image(folder(tmp_path / "jitter", jitter)).size[2] == 24


@pytest.mark.parametrize(("tags", "word"), [({"Columns": None}, "columns"), ({"RescaleSlope": "nan"}, "is no number")])
def test_a_slice_with_a_damaged_tag_is_one_sentence(tmp_path, tags, word):
    with pytest.raises(UserError, match=word) as error:
        read.read_image(folder(tmp_path / "x", lambda k: tags if k == 5 else {}))
    assert "005.dcm" in str(error.value) and "\n" not in str(error.value)
