"""Transforms in and out (F17, F18): judged by their kind and parts, and loaded by the tools that they are written for."""

import struct

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images import read
from lib.images.transforms import as_pose
from lib.images.volume import Volume, read_transform, write_transform
from lib.registration import couch, formats, spatial
from tests.field_files import folder, nifti

HEAD = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}_double_3_3\n"
POSE = rigid.about(rigid.params_to_matrix(np.array([6.0, -4, 9, 7, -5, 11])), [10, 20, 30])
FIXED = np.array([20.0, -30, 40])
MOVING = rigid.apply(rigid.invert(POSE), FIXED[None])[0]


class Result:
    """What the writers of `formats` ask of a registration."""

    pose, centre = POSE, np.array([5.0, 6, 7])


def refused(path, word):
    with pytest.raises(UserError, match=word) as error:
        read_transform(path)
    assert "\n" not in str(error.value)


def test_f17_a_2d_transform(tmp_path):
    for name in ("a.tfm", "a.h5"):
        sitk.WriteTransform(sitk.Euler2DTransform(), tmp_path / name)
        refused(tmp_path / name, "2 dimensions")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (HEAD.format("Euler3DTransform") + "Parameters: 0 0 0 1 2\nFixedParameters: 0 0 0 0\n", "cut off"),
        (HEAD.format("Euler3DTransform") + "Parameters: 0 0 0 1 2 3\n", "cut off"),
        (HEAD.format("Euler3DTransform"), "cut off"),
        ("#Insight Transform File V1.0\n", "cut off"),
        (HEAD.format("VersorRigid3DTransform") + "Parameters: 0 0 0 1 2\nFixedParameters: 0 0 0\n", "cut off"),
        (HEAD.format("AffineTransform") + "Parameters: 1 0 0 0 1 0 0 0 1 1 2\nFixedParameters: 0 0 0\n", "cut off"),
        (HEAD.format("Euler3DTransform") + "Parameters: 0 0 0 1,5 2 3\nFixedParameters: 0 0 0 0\n", "decimal comma"),
        (HEAD.format("Euler3DTransform") + "Parameters: nan 0 0 1 2 3\nFixedParameters: 0 0 0 0\n", "NaN"),
        (HEAD.format("Euler3DTransform") + "Parameters: 0 0 0 inf 2 3\nFixedParameters: 0 0 0 0\n", "NaN or inf"),
        (HEAD.format("BSplineTransform") + "Parameters: 0\nFixedParameters: 0\n", "not rigid"),
        ('(Transform "EulerTransform")\n', "elastix's parameters"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "not an ITK transform"),
    ],
)
def test_f18_cut_off_or_no_numbers(tmp_path, text, word):
    (tmp_path / "a.tfm").write_text(text)
    refused(tmp_path / "a.tfm", word)


def test_every_rigid_kind_is_read(tmp_path):
    back = rigid.invert(POSE)
    versor = sitk.VersorRigid3DTransform()
    versor.SetMatrix(back[:3, :3].ravel().tolist(), 1e-6)
    versor.SetTranslation(back[:3, 3].tolist())
    affine = sitk.AffineTransform(back[:3, :3].ravel().tolist(), back[:3, 3].tolist())
    for name, one in (
        ("v.tfm", versor),
        ("a.txt", affine),
        ("c.h5", sitk.CompositeTransform([versor])),
        ("a.mat", affine),
    ):
        sitk.WriteTransform(one, tmp_path / name)
        np.testing.assert_allclose(read_transform(tmp_path / name), POSE, atol=1e-6)
    affine.SetMatrix([1.2, 0, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteTransform(affine, tmp_path / "scaled.tfm")
    refused(tmp_path / "scaled.tfm", "not rigid")


def test_itk_and_simpleitk_load_it(tmp_path):
    import itk

    write_transform(POSE, tmp_path / "t.tfm", (5.0, 6, 7))
    np.testing.assert_allclose(sitk.ReadTransform(tmp_path / "t.tfm").TransformPoint(FIXED.tolist()), MOVING, atol=1e-6)
    (found,) = itk.transformread(str(tmp_path / "t.tfm"))
    np.testing.assert_allclose(np.array(found.TransformPoint(FIXED.tolist())), MOVING, atol=1e-6)


def test_ants_loads_its_file(tmp_path):
    import ants

    formats.write("ants", tmp_path / "t.mat", Result, None, None)
    found = ants.apply_ants_transform_to_point(ants.read_transform(str(tmp_path / "t.mat")), FIXED)
    np.testing.assert_allclose(found, MOVING, atol=1e-4)


def blob(centre) -> Volume:
    """A bright ball at `centre` (LPS mm), which no grid's middle hides."""
    grid = Volume(torch.zeros(48, 48, 48), 4.0, [-90.0, -95, -85])
    distance = (grid.points() - torch.as_tensor(centre, dtype=torch.float32)).norm(dim=-1)
    return grid.with_array(1000 * torch.exp(-((distance / 12) ** 2)))


def middle(image) -> np.ndarray:
    """World position of the mass of a SimpleITK image."""
    array = sitk.GetArrayFromImage(image).astype(float).clip(min=0)
    index = [
        float((array * np.arange(n).reshape([-1 if d == a else 1 for d in range(3)])).sum() / array.sum())
        for a, n in enumerate(array.shape)
        for d in [0]
    ]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index[::-1]))


def test_elastix_loads_its_file(tmp_path):
    """transformix moves a ball at the CT's point to the CBCT's."""
    import itk

    from lib.images.volume import to_sitk

    moving, fixed = blob(MOVING), blob(FIXED)
    formats.write("elastix", tmp_path / "t.txt", Result, fixed, moving)
    sitk.WriteImage(to_sitk(moving), tmp_path / "m.mha")
    parameters = itk.ParameterObject.New()
    parameters.ReadParameterFile(str(tmp_path / "t.txt"))
    parameters.SetParameter(0, "ResultImagePixelType", "float")
    parameters.SetParameter(0, "DefaultPixelValue", "0")
    moved = itk.transformix_filter(itk.imread(str(tmp_path / "m.mha"), itk.F), parameters)
    itk.imwrite(moved, str(tmp_path / "r.mha"))
    np.testing.assert_allclose(middle(sitk.ReadImage(tmp_path / "r.mha")), FIXED, atol=0.3)


def test_greedy_loads_its_file(tmp_path):
    from picsl_greedy import Greedy3D

    from lib.images.volume import to_sitk

    formats.write("greedy", tmp_path / "t.mat", Result, None, None)
    tool = Greedy3D()
    images = {"fixed": to_sitk(blob(FIXED)), "moving": to_sitk(blob(MOVING)), "moved": None}
    tool.execute(f"-d 3 -rf fixed -rm moving moved -r {tmp_path / 't.mat'} -V 0", **images)
    np.testing.assert_allclose(middle(tool["moved"]), FIXED, atol=0.3)


def elements(data: bytes, start: int, end: int, found: list) -> None:
    """(tag, value) of every element of explicit little-endian DICOM, sequences opened: a reader of its own."""
    long = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR")
    while start < end:
        group, element = struct.unpack_from("<HH", data, start)
        if group == 0xFFFE:
            start += 8
            continue
        kind = data[start + 4 : start + 6]
        wide = kind in long
        length = struct.unpack_from("<I" if wide else "<H", data, start + (8 if wide else 6))[0]
        start += 12 if wide else 8
        if kind == b"SQ":
            continue  # its items follow
        found.append(((group, element), data[start : start + length].rstrip(b"\0 ").decode("latin-1")))
        start += length


def test_dicom_registration_is_read_back_by_another_reader(tmp_path):
    fixed = read.read_image(
        folder(tmp_path / "f", lambda k: {"FrameOfReferenceUID": "1.2.8.1", "SeriesInstanceUID": "1.2.3.1"})
    )
    moving = read.read_image(folder(tmp_path / "m", lambda k: {"FrameOfReferenceUID": "1.2.8.2"}))
    formats.write("dicom", tmp_path / "r.dcm", type("R", (), {"pose": POSE, "centre": np.zeros(3)}), fixed, moving)
    data, found = (tmp_path / "r.dcm").read_bytes(), []
    assert data[128:132] == b"DICM"
    elements(data, 132, len(data), found)
    first = dict(reversed(found))
    assert first[(0x0008, 0x0016)] == spatial.STORAGE and first[(0x0008, 0x0060)] == "REG"
    frames = [value for tag, value in found if tag == (0x0020, 0x0052)]
    assert sorted(frames) == ["1.2.8.1", "1.2.8.1", "1.2.8.2"]
    matrices = [np.array([float(x) for x in v.split("\\")]).reshape(4, 4) for t, v in found if t == (0x3006, 0x00C6)]
    items = [v for t, v in found if t in ((0x0020, 0x0052), (0x3006, 0x00C6))]
    assert items.index("1.2.8.2") < items.index("\\".join(items[-1].split("\\"))) or len(matrices) == 2
    by_frame = sorted(matrices, key=lambda m: np.abs(m - np.eye(4)).max())
    np.testing.assert_allclose(by_frame[0], np.eye(4))
    np.testing.assert_allclose(rigid.apply(by_frame[1], MOVING[None])[0], FIXED, atol=1e-6)
    assert sum(tag == (0x0008, 0x1155) for tag, _ in found) == 4 * 24
    with pytest.raises(UserError, match="no DICOM series"):
        spatial.check(read.read_image(nifti(tmp_path / "a.nii")), moving)


def test_couch_numbers_in_their_convention():
    """A patient who lies 5 mm too far left, 7 too high up towards the head, 3 too deep must go back by as much."""
    fixed = blob([0, 0, 0])
    shifted = couch.couch(rigid.translation([5.0, 3.0, 7.0]), fixed)  # L, P, S: where the CBCT shows him
    named = dict(zip(couch.NAMES, shifted.numbers, strict=True))
    assert named == {"vertical": 3, "longitudinal": -7, "lateral": -5, "pitch": 0, "roll": 0, "yaw": 0}
    about = [10.0, 20, 30]
    turn = rigid.about(rigid.params_to_matrix(np.array([0, 0, 0, 0, 0, 4.0])), about)
    found = dict(zip(couch.NAMES, couch.couch(turn, fixed, given=about).numbers, strict=True))
    assert found["roll"] == pytest.approx(-4) and all(abs(v) < 1e-9 for n, v in found.items() if n != "roll")
    whole = rigid.invert(POSE)
    six = couch.couch(POSE, fixed, given=about, plan=[1.0, 2, 3])
    pitch, roll, yaw = np.radians(six.numbers[3:])
    c, s = np.cos, np.sin
    rz = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    ry = np.array([[c(roll), 0, s(roll)], [0, 1, 0], [-s(roll), 0, c(roll)]])
    room = couch.ROOM
    np.testing.assert_allclose(room.T @ rz @ rx @ ry @ room, whole[:3, :3], atol=1e-9)
    vertical, longitudinal, lateral = six.numbers[:3]
    landed = np.array([1.0, 2, 3]) + room.T @ [lateral, longitudinal, vertical]
    np.testing.assert_allclose(landed, rigid.apply(whole, np.array([about]))[0], atol=1e-9)


def test_a_transform_with_few_decimals_is_made_rigid_to_the_last(tmp_path):
    """3D Slicer's table has four: such a start was read, and its result could not be written."""
    numbers = " ".join(f"{x:.4f}" for x in [*rigid.invert(POSE)[:3, :3].ravel(), *rigid.invert(POSE)[:3, 3]])
    (tmp_path / "a.tfm").write_text(HEAD.format("AffineTransform") + f"Parameters: {numbers}\nFixedParameters: 0 0 0\n")
    found = read_transform(tmp_path / "a.tfm")
    np.testing.assert_allclose(found, POSE, atol=6e-3)
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)
    rounded = np.round(POSE, 4)
    write_transform(rounded, tmp_path / "b.tfm")
    np.testing.assert_allclose(read_transform(tmp_path / "b.tfm"), POSE, atol=6e-3)
    np.testing.assert_allclose(as_pose(rounded)[:3, :3] @ as_pose(rounded)[:3, :3].T, np.eye(3), atol=1e-12)
    for wrong in (np.eye(3), np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 1, 1, 1]), np.full((4, 4), np.nan)):
        with pytest.raises(UserError, match="not rigid|give a"):
            as_pose(wrong)


def test_two_transforms_in_a_file_or_a_folder_are_refused(tmp_path):
    part = "Transform: Euler3DTransform_double_3_3\nParameters: 0 0 0 1 2 3\nFixedParameters: 0 0 0 0\n"
    (tmp_path / "two.tfm").write_text(f"#Insight Transform File V1.0\n#Transform 0\n{part}#Transform 1\n{part}")
    refused(tmp_path / "two.tfm", "holds 2 transforms")
    refused(tmp_path, "cannot be read")
    both = sitk.CompositeTransform([sitk.Euler3DTransform(), sitk.TranslationTransform(3, (1.0, 2, 3))])
    sitk.WriteTransform(both, str(tmp_path / "c.tfm"))
    np.testing.assert_allclose(read_transform(tmp_path / "c.tfm")[:3, 3], [-1, -2, -3])


@pytest.mark.parametrize(
    ("charset", "name"), [("ISO_IR 192", "王^小明"), ("ISO_IR 144", "Иванов^Иван"), ("ISO_IR 100", "Müller^Jürgen")]
)
def test_names_in_any_script_survive_in_a_dicom_registration(tmp_path, charset, name):
    who = {"SpecificCharacterSet": charset, "PatientName": name, "PatientID": "7"}
    fixed, moving = (
        read.read_image(folder(tmp_path / uid, lambda k, u=uid: {"FrameOfReferenceUID": u, **who}))
        for uid in ("1.2.8.1", "1.2.8.2")
    )
    formats.write("dicom", tmp_path / "r.dcm", Result, fixed, moving)
    assert str(pydicom.dcmread(tmp_path / "r.dcm").PatientName) == name
