"""A patient survives the disk, and every file opens in the right place elsewhere."""

import json

import numpy as np
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import Volume
from lib.patients import store


def patient(**more):
    rng = np.random.default_rng(0)
    fixed = Volume(torch.from_numpy(rng.integers(-1000, 2000, (5, 6, 7)).astype(np.float32)), (2, 2, 3), (10, -20, 30))
    moving = Volume(torch.from_numpy(rng.integers(-1000, 2000, (4, 5, 6)).astype(np.float32)), 2.5, (-3, 4, 5))
    truth = rigid.params_to_matrix([12.0, -5, 80, 3, -4, 7])
    points = rng.normal(0, 40, (32, 3))
    vertices = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    return store.Patient(
        "virtual_spine_000",
        "spine",
        "virtual_spine",
        fixed,
        moving,
        truth,
        rigid.apply(truth, points),
        points,
        (rigid.apply(truth, vertices), faces),
        (vertices, faces),
        points[:5],
        {"landmarks_fixed": points + 1, "mesh_moving": (vertices + 1, faces)},
        {"habitus": 1.5, "big": np.zeros(10_000), "table": True},
        **more,
    )


def test_round_trip(tmp_path):
    was = patient()
    store.save(was, tmp_path / "p")
    now = store.load(tmp_path / "p")
    for image in ("fixed", "moving"):
        a, b = getattr(was, image), getattr(now, image)
        assert torch.equal(a.array, b.array) and np.allclose(a.affine, b.affine, atol=1e-4)
    assert np.array_equal(was.truth, now.truth)
    assert np.allclose(was.landmarks_fixed, now.landmarks_fixed, atol=1e-4)
    assert np.allclose(was.vertebrae, now.vertebrae, atol=1e-4)
    assert np.allclose(was.mesh_fixed[0], now.mesh_fixed[0], atol=1e-4)
    assert np.array_equal(was.mesh_fixed[1], now.mesh_fixed[1])
    assert set(now.annotated) == {"landmarks_fixed", "mesh_moving"}
    assert now.meta == {"habitus": 1.5, "table": True}  # volumes do not go into the JSON
    assert not [p for p in tmp_path.iterdir() if p.name != "p"]
    store.save(was, tmp_path / "p")  # again, over it


def test_other_software_sees_the_same_place(tmp_path):
    """nibabel reads RAS, SimpleITK LPS; the transform maps fixed points onto moving ones."""
    import nibabel
    import SimpleITK as sitk

    was = patient()
    folder = store.save(was, tmp_path / "p")
    image = nibabel.load(folder / "ct.nii.gz")
    ras = image.affine @ [2, 1, 3, 1]
    lps = was.moving.affine @ [2, 1, 3, 1]
    assert np.allclose(ras[:3], lps[:3] * [-1, -1, 1], atol=1e-4)
    assert image.get_fdata()[2, 1, 3] == float(was.moving.array[3, 1, 2])
    assert image.get_data_dtype() == np.int16
    itk = sitk.ReadImage(str(folder / "cbct.nii.gz"))
    assert np.allclose(itk.TransformIndexToPhysicalPoint((2, 1, 3)), (was.fixed.affine @ [2, 1, 3, 1])[:3], atol=1e-4)
    transform = sitk.ReadTransform(str(folder / "truth.tfm"))
    for fixed, moving in zip(was.landmarks_fixed[:4], was.landmarks_moving[:4], strict=True):
        assert np.allclose(transform.TransformPoint(fixed.tolist()), moving, atol=1e-3)
    assert (folder / "landmarks_fixed.csv").read_text().startswith("label,l,p,s\nL1,")
    assert b"comment SPACE=LPS" in (folder / "mesh_fixed.ply").read_bytes()[:300]


def test_tables_of_other_people(tmp_path):
    (tmp_path / "a.csv").write_text("label, r,a ,s,defined\nF1,1,2,3,1\n")
    assert np.allclose(store.read_points(tmp_path / "a.csv"), [[-1, -2, 3]])
    for text in ("x,y\n1,2\n", "", "label,l,p,s\nA,one,2,3\n"):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(UserError, match="b.csv: not a table"):
            store.read_points(tmp_path / "b.csv")


@pytest.mark.parametrize("damage", ["absent", "empty", "field", "disagree", "image"])
def test_damage_is_named(tmp_path, damage):
    folder = store.save(patient(), tmp_path / "p")
    record = json.loads((folder / "patient.json").read_text())
    if damage == "absent":
        folder = tmp_path / "nobody"
    elif damage == "empty":
        (folder / "patient.json").write_text("{")
    elif damage == "field":
        (folder / "patient.json").write_text('{"id": "x"}')
    elif damage == "disagree":
        record["truth"][0][3] += 5
        (folder / "patient.json").write_text(json.dumps(record))
    else:
        (folder / "ct.nii.gz").write_bytes(b"no image")
    with pytest.raises(UserError):
        store.load(folder)


def test_volumes_may_be_read_when_they_are_asked_for(tmp_path):
    """A collection of any size fits: a patient holds names of files, and few volumes stay in memory."""
    made = patient()
    folder = store.save(made, tmp_path / made.id)
    later = store.load(folder, later=True)
    assert isinstance(later.__dict__["_fixed"], type(folder)), "nothing is read yet"
    assert torch.equal(later.fixed.array, store.load(folder).fixed.array) and later.moving is later.moving
    store._kept.cache_clear()
    folders = [store.save(made, tmp_path / f"{made.id}_{n}") for n in range(store.KEPT)]
    for one in (store.load(folder, later=True) for folder in folders):
        assert one.fixed.size == made.fixed.size and one.moving.size == made.moving.size
    assert store._kept.cache_info().currsize == store.KEPT < 2 * len(folders)
    (folder / "ct.nii.gz").unlink()
    with pytest.raises((UserError, FileNotFoundError)):
        _ = store.load(folder, later=True).moving
