"""Every baseline must solve a case with a small known offset, and in the right direction."""

import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.baselines import common, fair, forest, ground_truth, itk_search, methods, polish, quasi_global, run, semantic
from lib.baselines.settings import BaselineSettings
from lib.cases import Case, Result, pose_of, write_rows
from lib.cases import read_rows as cases_rows
from lib.images import volume
from lib.images.volume import Volume
from lib.metrics import PAPER, EvaluationSettings
from lib.study import batch
from lib.study.config import Profile
from lib.tables import table1

SETTINGS = BaselineSettings()
# greedy's search keeps the best of 500 random poses: here they are drawn near the start.
SETTINGS = replace(SETTINGS, greedy=replace(SETTINGS.greedy, search_mm=2.0, search_degrees=2.0))
SETTINGS = replace(
    SETTINGS, bone_search=replace(SETTINGS.bone_search, screened=2048, voxel=8.0, refined=16)
)  # small images
# Nobody can seed that search: of 100 runs here 99 end at 0 to 6 mm and one a vertebra off. Three such in a row
# would be a fault. Without its search it jitters its sample points, from the clock too: 0.8 to 3.7 mm here.
TRIES = {"greedy": 3, "greedy_search": 3}
OFFSET = np.array([5.0, -4.0, 5.0, 3.0, -2.0, 3.0])  # mm and degrees


def anatomy(points: torch.Tensor) -> torch.Tensor:
    """HU at moving-world points (..., 3): body, vertebrae with processes, a kidney, a rib, gas. No
    symmetry.
    """
    x, y, z = points.unbind(-1)
    hu = torch.where((x / 110) ** 2 + (y / 80) ** 2 < 1, 20.0, -1000.0)
    hu = torch.where((x / 100) ** 2 + ((y + 5) / 70) ** 2 < 1, 50.0, hu)
    for n, centre in enumerate((-70, -35, 0, 36, 74)):
        bend = 4.0 * n
        hu = torch.where((((x - bend) / 20) ** 2 + ((y - 35) / 15) ** 2 < 1) & ((z - centre).abs() < 13), 350.0, hu)
        hu = torch.where(((x - bend).abs() < 4) & ((y - 58).abs() < 12) & ((z - centre + 4).abs() < 8), 500.0, hu)
        hu = torch.where(((x - bend).abs() < 35) & ((y - 45).abs() < 4) & ((z - centre).abs() < 4), 400.0, hu)
    hu = torch.where(((x - 55) / 22) ** 2 + ((y - 20) / 18) ** 2 + ((z - 20) / 38) ** 2 < 1, 180.0, hu)
    hu = torch.where(((x + 60) / 30) ** 2 + ((y + 15) / 28) ** 2 + ((z - 45) / 30) ** 2 < 1, 110.0, hu)
    return torch.where(((x - 20) / 18) ** 2 + ((y + 45) / 12) ** 2 + ((z + 25) / 20) ** 2 < 1, -800.0, hu)


def grid(size, spacing, centre) -> Volume:
    origin = np.asarray(centre) - (np.array(size) - 1) / 2 * spacing
    return Volume(torch.zeros(*size[::-1]), spacing, origin)


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving, mask, truth): a CBCT-like cut of the anatomy in a fixed world far from the moving
    one.
    """
    moving = grid((64, 48, 60), 4.0, (0, 0, 0))
    moving = moving.with_array(volume.gaussian(anatomy(moving.points()), [0.6] * 3))
    truth = rigid.translation([40.0, -300.0, 500.0]) @ rigid.params_to_matrix(np.array([0, 0, 0, 4.0, -3.0, 6.0]))
    fixed = grid((48, 48, 36), 4.0, (40.0, -280.0, 500.0))
    there = torch.as_tensor(rigid.invert(truth)).float()
    points = fixed.points()
    hu = volume.sample(moving, points @ there[:3, :3].T + there[:3, 3])
    generator = torch.Generator().manual_seed(0)
    hu = 0.8 * hu - 60 + 30 * torch.randn(hu.shape, generator=generator)
    radius = (points[..., :2] - torch.tensor([40.0, -280.0])).norm(dim=-1)
    mask = (radius < 88) & ((points[..., 2] - 500).abs() < 62)
    return fixed.with_array(torch.where(mask, hu, torch.tensor(-1000.0))), moving, mask, truth


def error(pose, truth, fixed) -> float:
    """Mean distance (mm) over a lattice in the fixed field of view."""
    lattice = np.stack(np.meshgrid([-50, 50], [-50, 50], [-50, 0, 50]), axis=-1).reshape(-1, 3) + fixed.centre
    back = rigid.apply(rigid.invert(truth), lattice)
    return float(np.linalg.norm(rigid.apply(pose, back) - lattice, axis=1).mean())


@pytest.fixture(scope="module")
def spine(pair):
    """The pair as a patient, and another of which to learn."""
    from lib.patients.store import Patient

    fixed, moving, _, truth = pair
    vertebrae = np.array([[4.0 * n, 35.0, z] for n, z in enumerate((-70, -35, 0, 36, 74))])[::-1]
    marks = vertebrae.repeat(4, axis=0) + np.random.default_rng(0).normal(0, 12, (20, 3))
    rng = np.random.default_rng(1)
    return Patient(
        "one",
        "spine",
        "virtual_spine",
        fixed,
        moving,
        truth,
        landmarks_fixed=rigid.apply(truth, marks),
        landmarks_moving=marks,
        vertebrae=vertebrae,
        annotated={
            "landmarks_moving": marks + rng.normal(0, 0.5, marks.shape),
            "landmarks_fixed": rigid.apply(truth, marks) + rng.normal(0, 0.5, marks.shape),
        },
    )


@pytest.fixture(scope="module")
def model(spine):
    return semantic.train([spine], SETTINGS)


def test_looking_at_bone_is_not_misled_by_organs_that_have_moved(pair):
    fixed, moving, mask, truth = pair
    points = moving.points()
    usual, lower = anatomy(points), anatomy(points + torch.tensor([0.0, 0, 14]))
    body = torch.where(usual > 250, usual, torch.where(lower > 250, torch.tensor(50.0), lower))
    body = moving.with_array(volume.gaussian(body, [0.6] * 3))
    there = torch.as_tensor(rigid.apply(rigid.invert(truth), fixed.points().numpy().reshape(-1, 3))).float()
    hu = volume.sample(body, there).reshape(fixed.array.shape)
    hu = hu + 30 * torch.randn(hu.shape, generator=torch.Generator().manual_seed(0))
    moved = fixed.with_array(torch.where(mask, hu, torch.tensor(-1000.0)))
    initial = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    names = ("itk_tuned", "itk_bone", "bone_search")
    ends = [run.load(m)(moved, moving, initial, SETTINGS, mask, np.random.default_rng(0)).pose for m in names]
    spine = np.array([[4.0 * n, 35.0, z] for n, z in enumerate((-35, 0, 36), 1)])
    off = [np.linalg.norm(rigid.apply(end, spine) - rigid.apply(truth, spine), axis=1).mean() for end in ends]
    assert max(off[1:]) < 2.0 and max(off[1:]) < off[0]


def test_a_search_by_bone_finds_what_a_single_start_cannot(pair):
    fixed, moving, mask, truth = pair
    far = rigid.about(rigid.params_to_matrix(np.array([38.0, -38, 10, 32, -30, 33])), fixed.centre) @ truth
    # All vertebrae are alike here, so the box must not reach the next one.
    settings = replace(SETTINGS, search=replace(SETTINGS.search, box=(40.0, 40.0, 15.0, 35.0, 35.0, 35.0)))
    single, searched = (
        run.load(m)(fixed, moving, far, settings, mask, np.random.default_rng(0)).pose
        for m in ("itk_bone", "bone_search")
    )
    assert error(single, truth, fixed) > 10 and error(searched, truth, fixed) < 3


def test_projections_show_bone_that_is_darker_than_a_ct_s(pair):
    """A CBCT's bone may lie below any window of HU; what stands out from its neighbourhood is bone all the same."""
    fixed, moving, mask, truth = pair
    dark = fixed.with_array(torch.where(fixed.array > 50, 50 + 0.3 * (fixed.array - 50), fixed.array))
    bone = moving.with_array((moving.array > 300).float())
    shown = {}
    for name, mine in (("local", SETTINGS.quasi_global_tuned), ("window", SETTINGS.quasi_global)):
        settings = replace(SETTINGS, quasi_global=mine)
        grid, target, field = quasi_global._fixed_target(dark, mask, settings)
        back = torch.as_tensor(rigid.invert(truth)).float()
        there = volume.sample(bone, grid.points() @ back[:3, :3].T + back[:3, 3], fill=0.0)
        shown[name] = float(target[field & (there > 0.8)].mean() / (target[field & (there < 0.1)].mean() + 1.0))
    assert shown["local"] > 4 > shown["window"]


@pytest.mark.parametrize("name", sorted(methods.runnable()))
def test_solves_a_small_known_offset(name, pair, model):
    fixed, moving, mask, truth = pair
    initial = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    assert error(initial, truth, fixed) > 8
    extra = {"model": model} if name == "semantic" else {}
    limit = 7.0 if name in TRIES else 3.0
    for _ in range(TRIES.get(name, 1)):
        result = run.load(name)(fixed, moving, initial, SETTINGS, mask, np.random.default_rng(0), **extra)
        assert result.note == "" and result.seconds > 0
        if error(result.pose, truth, fixed) < limit:
            break
        time.sleep(1.1)  # it draws from the clock, in whole seconds
    assert error(result.pose, truth, fixed) < limit, name  # the other direction would be twice as far off as the start


def test_quasi_global_search_takes_thick_slices(pair):
    """With slices of 12 mm its views once had other pixels than the CT's, and it ended 70 mm off."""
    fixed, moving, mask, truth = pair
    thick = volume.resample(fixed, [4.0, 4.0, 12.0])
    inside = volume.sample(fixed.with_array(mask.float()), thick.points(), fill=0.0, mode="nearest") > 0.5
    initial = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    result = run.load("quasi_global")(thick, moving, initial, SETTINGS, inside, np.random.default_rng(0))
    assert error(result.pose, truth, fixed) < 5


def test_classifier_finds_the_spine_and_survives_the_disk(spine, model, tmp_path):
    forest.save(model, tmp_path / "f.skops")
    again = forest.load(tmp_path / "f.skops")
    found = semantic.probability(spine.moving, again["moving"], SETTINGS.semantic.spacing)
    assert torch.equal(found.array, semantic.probability(spine.moving, model["moving"], 5.0).array)
    points = found.points().reshape(-1, 3)
    hu = volume.sample(spine.moving, points)
    bone = torch.as_tensor(semantic.object_at(spine, "moving", points.double().numpy(), hu))
    value = found.array.reshape(-1)
    assert value[bone].mean() > 70 and value[~bone].mean() < 5


def test_a_file_that_holds_no_classifier_is_refused(tmp_path):
    import skops.io
    from sklearn.gaussian_process.kernels import RBF

    (tmp_path / "text.skops").write_text("no zip")
    skops.io.dump({"fixed": RBF()}, tmp_path / "other.skops")
    for name in ("text", "other", "missing"):
        with pytest.raises(UserError, match=f"{name}.skops: not a trained classifier"):
            forest.load(tmp_path / f"{name}.skops")


def test_a_cascade_looks_no_further_at_what_is_hopeless():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 17)).astype(np.float32)
    trees = forest.fit(x, (x[:, 0] * x[:, 1] > 0) & (x[:, 2] > 0), SETTINGS.semantic, 0)
    early = np.array(list(trees.staged_decision_function(x)))[14].reshape(-1)
    whole = trees.predict_proba(x)[:, 1]
    hopeless = early <= -1.0
    found = forest.probability(trees, torch.as_tensor(x), hopeless=-1.0).numpy()
    assert 0.1 < hopeless.mean() < 0.9
    assert np.allclose(found[~hopeless], whole[~hopeless], atol=1e-6)
    assert np.allclose(found[hopeless], 1 / (1 + np.exp(-early[hopeless])), atol=1e-6)
    assert np.abs(found - whole)[hopeless].max() > 0.01


def test_ground_truth_by_icp(spine):
    result = ground_truth.register(spine, SETTINGS)
    assert error(result.pose, spine.truth, spine.fixed) < 1.5
    with pytest.raises(UserError, match="no annotated"):
        ground_truth.register(replace(spine, annotated={}), SETTINGS)


def test_an_experts_error_is_partly_common_to_a_vertebra(spine):
    errors = ground_truth.level_errors(spine, SETTINGS)
    assert errors.shape == (2, 20, 3) and np.array_equal(errors, ground_truth.level_errors(spine, SETTINGS))
    marks, centres = spine.landmarks_moving, spine.vertebrae
    level = np.linalg.norm(marks[:, None] - centres, axis=-1).argmin(axis=1)
    first = errors[:, level == level[0]]
    assert np.ptp(first, axis=1).max() == 0 and 0.2 < errors.std() < 1.2
    assert len(np.unique(errors[0], axis=0)) == len(set(level)) and not np.array_equal(*errors)
    none = replace(SETTINGS, ground_truth=replace(SETTINGS.ground_truth, level_error=0.0))
    before = error(ground_truth.register(spine, none).pose, spine.truth, spine.fixed)
    assert error(ground_truth.register(spine, SETTINGS).pose, spine.truth, spine.fixed) > before


def test_ground_truth_of_meshes():
    import trimesh

    heart = trimesh.creation.icosphere(3, 1.0)
    moving = heart.vertices * [40.0, 50.0, 60.0] + 5 * np.sin(heart.vertices[:, [1, 2, 0]] * 4)
    truth = rigid.params_to_matrix(np.array([10.0, 20, 30, 5, 6, 7]))
    fixed = rigid.apply(truth, moving)
    start = rigid.params_to_matrix(np.array([2.0, 1, -2, 2, 1, 2])) @ truth
    pose = ground_truth.meshes((moving, heart.faces), (fixed, heart.faces), start).pose
    assert np.linalg.norm(rigid.apply(pose, moving) - fixed, axis=1).mean() < 2.0


def test_winner_is_not_the_pose_with_a_sliver_of_overlap(pair):
    fixed, moving, mask, truth = pair
    points, values = common.points_of(fixed, mask, 3000, np.random.default_rng(0))
    away = rigid.translation([0, 0, 225.0]) @ truth
    near = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    winner, overlap = fair.best([away, near, truth], values, points, moving, 0.4)
    assert winner == 2 and overlap[0] < 0.1 < overlap[2]


def test_polish_keeps_the_start_where_it_would_travel(pair):
    fixed, moving, mask, truth = pair
    far = rigid.translation([0, 0, 30.0]) @ truth
    strict = replace(SETTINGS, polish=replace(SETTINGS.polish, limit=1.0))
    assert np.array_equal(polish.register(fixed, moving, far, strict, mask).pose, far)


def test_door_to_the_tools():
    pose = rigid.params_to_matrix(np.array([10.0, -20, 30, 5, 10, -15]))
    versor = common.to_versor(pose, np.array([1.0, 2, 3]))
    point = np.array([7.0, -8, 9])
    assert np.allclose(versor.TransformPoint(tuple(rigid.apply(pose, point[None])[0])), point, atol=1e-6)
    assert np.allclose(common.from_mapping(versor.TransformPoint), pose, atol=1e-9)
    image = Volume(torch.rand(4, 5, 6), [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], pose[:3, :3])
    laid = common.moved_origin(image, pose)
    corner = rigid.apply(pose, (image.affine @ [1, 2, 3, 1])[None, :3])[0]
    assert np.allclose((laid.affine @ [1, 2, 3, 1])[:3], corner)


def test_screening_weighs_by_overlap(pair):
    fixed, moving, mask, truth = pair
    points, values = common.points_of(fixed, mask, 1000, np.random.default_rng(0))
    poses = np.stack([truth, rigid.translation([0, 0, 80.0]) @ truth, rigid.translation([0, 0, 225.0]) @ truth])
    plain, weighed = (fair.screen(poses, values, points, moving, 0.4, weighed=w) for w in (False, True))
    overlap = fair.best(poses, values, points, moving, 0.4)[1]
    assert 0.4 < overlap[1] < 0.99 and plain[2] == weighed[2] == 0
    assert np.allclose(weighed, plain * overlap) and weighed.argmax() == 0


def test_search_does_not_take_a_start_without_overlap(pair):
    """Starts 225 mm along the body share almost nothing with the CBCT: none of them may win."""
    fixed, moving, mask, truth = pair
    box = (1.0, 1.0, 225.0, 1.0, 1.0, 1.0)
    small = replace(SETTINGS.search, box=box, screened=64, refined=2)
    initial = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    settings = replace(SETTINGS, search=small)
    pose = itk_search.register(fixed, moving, initial, settings, mask, np.random.default_rng(0)).pose
    assert error(pose, truth, fixed) < 3.0


def cases_of(spine, count=2):
    """The patient at `count` starts."""
    starts = [rigid.about(rigid.params_to_matrix(OFFSET * n), spine.fixed.centre) for n in range(count)]
    return [Case(spine, n, start @ spine.truth, spine.fixed.centre) for n, start in enumerate(starts)]


def profile(**changes):
    return Profile("smoke", "spine", 0, baselines=replace(SETTINGS, **changes), evaluation=EvaluationSettings())


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 1000.0), (2.0, 2000.0)])
def test_methods_get_the_cbct_in_hu_whatever_a_scanner_writes(spine, monkeypatch, gain, offset):
    """Cut at 800 HU, a scan with 1000 added, or as attenuation, is one grey: tuned ITK lost two of five so."""
    given = []

    def method(fixed, moving, initial, settings, mask, rng):
        given.append(fixed.array)
        return Result(initial, 0.1)

    monkeypatch.setattr(run, "load", lambda name: method)
    (case,) = cases_of(spine, 1)
    stored = spine.fixed.array.float()
    stored = torch.where(stored > -990, gain * stored + offset, torch.tensor(gain * -1000.0 + offset))
    other = replace(case, patient=replace(spine, fixed=spine.fixed.with_array(stored)))
    for one in (case, other):
        assert run.run_case("itk_tuned", one, SETTINGS).note == ""
    body = given[0] > -300
    assert torch.equal(given[0], spine.fixed.array) and body.any()
    assert (given[1] - given[0])[body].abs().median() < 60


def test_a_failing_method_is_a_row_not_the_end(spine, monkeypatch, tmp_path):
    """Not installed, refusing and crashing methods leave failures with their reason; the next one runs."""

    def crash(*_):
        raise ValueError("the tool broke\nall samples map outside")

    missing = methods.Method("Missing", "#000000", "-", "no_such_file", "register", "nosuchtool")
    monkeypatch.setitem(methods.METHODS, "missing", missing)
    crashing = methods.Method("Crashing", "#000000", "-", "itk", "broken", "SimpleITK")
    monkeypatch.setitem(methods.METHODS, "crashing", crashing)
    monkeypatch.setattr("lib.baselines.itk.broken", crash, raising=False)
    monkeypatch.setattr(run, "_in_processes", in_this_process)
    cfg, cases = profile(), cases_of(spine)
    rows = dict(batch.run_all(cfg, ["missing", "crashing", "semantic", "itk_tuned"], cases, folder=tmp_path))
    said = {name: rows[name][1]["note"] for name in rows}
    assert "not installed: pip install nosuchtool" in said["missing"]
    assert said["crashing"] == "ValueError: all samples map outside"
    assert "no trained classifier" in said["semantic"] and said["itk_tuned"] == ""
    assert not any(row["success"] for name in ("missing", "crashing", "semantic") for row in rows[name])
    assert rows["itk_tuned"][1]["success"]
    table = table1.failures(pd.concat([pd.DataFrame(r) for r in rows.values()])).set_index("method")
    assert table.loc["missing", "refused"] == 2 and table.loc["itk_tuned", "refused"] == 0
    with pytest.raises(UserError, match="there is no method 'itkk'"):
        run.check(["itkk"])


def in_this_process(jobs, cases, settings, models):
    """Stands for `run._in_processes`, whose fresh processes would not see what a test has put in."""
    for name, group in jobs:
        yield (name, group), run.run_group(name, [cases[n] for n in group], settings, models.get(name))


def dies():
    """In place of `run.pools.one_thread`, at the start of each process: the tool of `itk` is one that ends it."""
    import os

    from lib.baselines import itk

    itk.register = lambda *_: os._exit(11)


def test_a_tool_that_ends_its_process_is_a_crash_and_not_the_end(spine, monkeypatch):
    monkeypatch.setattr(run.pools, "one_thread", dies)
    ((name, results),) = run.run_methods(["itk"], cases_of(spine, 1), replace(SETTINGS, workers=1))
    assert name == "itk" and results[0].note == "crashed: the tool ended its process"


def test_rows_are_resumed_only_if_complete(spine, tmp_path):
    cfg, cases = profile(), cases_of(spine)
    results = batch.ground_truth_results(cases, SETTINGS)
    batch.save(cfg, "ground_truth", cases, results, tmp_path)
    assert batch.complete(cfg, "ground_truth", cases, tmp_path)
    assert not batch.complete(cfg, "ground_truth", cases[:1], tmp_path)
    assert not batch.complete(profile(seed=1), "ground_truth", cases, tmp_path)
    rows = cases_rows(tmp_path / "cases_ground_truth.csv")
    again = [pose_of(row, case.patient) for row, case in zip(rows.to_dict("records"), cases, strict=True)]
    assert all(np.allclose(pose, r.pose, atol=1e-2) for pose, r in zip(again, results, strict=True))


def test_another_methods_settings_do_not_run_a_method_again():
    changes = {
        "methods": ("itk",),
        "real_methods": (),
        "workers": 7,
        "anatomy": "heart",
        "ants": replace(SETTINGS.ants, spacing=9.0),
        "semantic": replace(SETTINGS.semantic, patients=(5, 15)),
    }
    for name in set(methods.runnable()) - {"ants", "ants_search", "dsl_polish"}:
        stamps = {batch.stamp(profile(**{key: value}), name) for key, value in changes.items()}
        assert stamps == {batch.stamp(profile(), name)}, name
    assert batch.stamp(profile(ants=changes["ants"]), "ants") != batch.stamp(profile(), "ants")
    assert batch.stamp(profile(), "semantic_5") != batch.stamp(profile(), "semantic")


def test_every_line_of_the_registry_holds():
    """Each method's code is where the registry says, reads sections that there are, and has a name of its own."""
    values, lines = asdict(SETTINGS), methods.METHODS
    for name in methods.runnable():
        assert callable(methods.load(name)) and lines[name].package and lines[name].reads, name
    for name, line in lines.items():
        assert tuple(methods.settings_of(name, values)) == line.reads, name  # KeyError: no such section
    looks = [(line.label, line.colour, line.dash) for line in lines.values()]
    assert len({label for label, *_ in looks}) == len(looks)
    assert tuple(m for m in methods.order(PAPER["spine"])) == methods.PAPER_METHODS
    assert methods.order(["unknown", "dsl", "semantic", "semantic_15", "semantic_5", "itk"]) == [
        *("itk", "semantic_5", "semantic_15", "semantic", "dsl", "unknown")
    ]
    assert methods.label("semantic_5") == "Semantic, 5 training patients" and methods.label("no_such") == "no such"
    assert [m for m in ("initial", "dsl_coarse", "semantic_5", "semantic", "fft_search") if methods.competes(m)] == [
        *("semantic", "fft_search")
    ]


def test_an_interrupted_method_goes_on_after_its_last_patient(spine, tmp_path, monkeypatch):
    cfg, cases = profile(), [*cases_of(spine, 1), Case(replace(spine, id="two"), 0, spine.truth, spine.fixed.centre)]
    asked = []

    def stops_at_the_second(jobs, cases, settings, models):
        for number, (name, group) in enumerate(jobs):
            asked.append(cases[group[0]].id)
            if number == 1:
                raise KeyboardInterrupt
            yield (name, group), [Result(cases[n].initial, 1.5, "") for n in group]

    monkeypatch.setattr(run, "_in_processes", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        list(batch.run_all(cfg, ["ants"], cases, folder=tmp_path))
    assert not (tmp_path / "cases_ants.csv").exists()
    ((_, rows),) = batch.run_all(cfg, ["ants"], cases, folder=tmp_path)
    assert asked == ["one", "two", "two"] and [row["seconds"] for row in rows] == [1.5, 1.5]
    assert batch.complete(cfg, "ants", cases, tmp_path) and not list(tmp_path.glob("unfinished*"))
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        list(batch.run_all(profile(seed=1), ["ants"], cases, folder=tmp_path))
    assert asked == ["one", "two"] and len(list(tmp_path.glob("unfinished_ants.*"))) == 1
    with pytest.raises(KeyboardInterrupt):
        list(batch.run_all(profile(seed=2), ["ants"], cases, folder=tmp_path))
    assert asked == ["one", "two"] * 2, "rows of other settings are not taken"


def test_the_polish_is_run_again_only_after_the_agent_walked_again(spine, tmp_path):
    cfg, cases = profile(workers=1), cases_of(spine, 1)
    agent = tmp_path / "cases_dsl.csv"
    rows = batch.save(cfg, "dsl", cases, [Result(cases[0].initial, 1.0)], tmp_path)
    batch.save(cfg, "dsl_polish", cases, [Result(spine.truth, 2.0)], tmp_path)
    kept = batch.polish(cfg, cases, "dsl", tmp_path)
    assert kept[0]["seconds"] == 2.0, "complete: taken from the disk"
    write_rows(agent, [{**rows[0], "seconds": 3.0}])
    assert not batch.complete(cfg, "dsl_polish", cases, tmp_path)


def test_the_door_says_what_is_wrong(capsys, tmp_path, monkeypatch):
    from lib.__main__ import main

    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(["baselines", "itkk"]) == 2 and "there is no method 'itkk'" in capsys.readouterr().err
    assert main(["baselines", "itk", "--profile", "smoke"]) == 2 and "no patient here" in capsys.readouterr().err
