"""What is changed in what is registered: the changes are the ones that are named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lib import cases, rigid
from lib.images.volume import Volume, sample
from lib.patients import rescan
from lib.patients.anatomy import Anatomy
from lib.patients.real import SCANNER
from lib.patients.scanner import second
from lib.patients.store import Patient
from lib.study import conditions, schema

KNOWN = schema.load("beyond_training").conditions()
NEAR = (30.0, 30.0, 30.0, 15.0, 15.0, 15.0)


def grid(n, mm, centre=(0.0, 0.0, 0.0)):
    spacing = np.full(3, mm)
    generator = torch.Generator().manual_seed(0)  # a constant image has no field of view
    return Volume(100 * torch.rand(n, n, n, generator=generator), spacing, np.asarray(centre) - spacing * (n - 1) / 2)


@pytest.fixture
def who():
    truth = rigid.translation([30.0, -20.0, 200.0])
    return Patient("one", "spine", "virtual_spine", grid(40, 5.0, (30.0, -20.0, 200.0)), grid(80, 5.0), truth)


def starts(who, name, n):
    return conditions.starts(who, KNOWN[name], n, NEAR, 0, 0.5)


def anatomy(*target):
    return lambda: (np.array(target, dtype=float), None)


def test_tilted_starts_are_turned_by_45_degrees(who):
    for case in starts(who, "tilted", 4):
        turned = Rotation.from_matrix((case.initial @ rigid.invert(who.truth))[:3, :3])
        assert np.degrees(turned.magnitude()) == pytest.approx(45.0, abs=1e-6)
        assert np.abs(rigid.apply(case.initial @ rigid.invert(who.truth), case.centre) - case.centre).max() <= 30


@pytest.mark.parametrize(("name", "flipped"), [("prone", [-1, -1, 1]), ("feet_first", [-1, 1, -1])])
def test_postures_turn_the_body_about_the_right_axis(who, name, flipped):
    for case, plain in zip(starts(who, name, 2), starts(who, "usual", 2), strict=True):
        turn = rigid.centred(case.initial @ rigid.invert(plain.initial), case.centre)
        assert np.allclose(turn, np.diag([*flipped, 1]), atol=1e-9)


def test_the_scanner_changes_as_the_condition_says():
    made = {name: conditions.scanner(condition) for name, condition in KNOWN.items()}
    assert made["usual"] == made["metal"] == made["tilted"] == SCANNER
    assert made["noise"].photons == tuple(v / 4 for v in SCANNER.photons)  # noise goes with the root
    assert made["half_height"].height == tuple(v / 2 for v in SCANNER.height)
    assert made["half_height"].diameter == SCANNER.diameter
    assert made["half_width"].diameter == tuple(v / 2 for v in SCANNER.diameter)


def test_the_body_is_scanned_again_with_the_metal_in_it(who, monkeypatch):
    seen = {}

    def simulate(body, target, rng, settings, phases, pose):
        seen["titanium"], seen["settings"] = int((body.array == conditions.TITANIUM).sum()), settings
        return grid(40, 5.0, rigid.apply(pose, target[None])[0])

    monkeypatch.setattr(rescan, "simulate", simulate)
    monkeypatch.setattr(rescan, "another_day", lambda ct, *_: Anatomy(ct, ct, np.zeros(3)))
    who.landmarks_moving = np.array([[0.0, 0, 0], [10, 20, 30]])
    there = anatomy(2.5, 0.0, 0.0)
    assert conditions.patient(who, KNOWN["prone"], there) is who
    scanned = conditions.patient(who, KNOWN["metal"], there)
    assert seen["titanium"] > 0 and seen["settings"] == SCANNER
    assert np.allclose(scanned.landmarks_fixed, rigid.apply(scanned.truth, who.landmarks_moving))
    assert np.allclose(rigid.apply(scanned.truth, there()[0][None])[0], scanned.fixed.centre)
    conditions.patient(who, KNOWN["noise"], there)
    assert seen["titanium"] == 0 and seen["settings"].photons < SCANNER.photons


def test_the_second_scanner_scans_again_too(who, monkeypatch):
    seen = []
    monkeypatch.setattr(rescan.second, "simulate", lambda *words: seen.append(words[3]) or grid(40, 5.0))
    monkeypatch.setattr(rescan, "another_day", lambda ct, *_: Anatomy(ct, ct, np.zeros(3)))
    who.landmarks_moving = np.zeros((1, 3))
    for condition in (KNOWN["metal"], schema.Condition("starved", scanner={"quanta": 0.1})):
        conditions.patient(who, condition, anatomy(0.0, 0.0, 0.0), second.TUNING)
    assert seen[0] == second.TUNING
    assert seen[1].quanta == tuple(0.1 * v for v in second.TUNING.quanta) and seen[1].purpose == "tuning"


def test_rods_lie_beside_and_behind_the_spine():
    body = conditions.rods(np.array([10.0, 0.0, 0.0]))(grid(81, 2.0))
    x, y, z = body.points()[body.array == conditions.TITANIUM].T.numpy()
    assert len(x) > 100 and set(np.sign(x - 10)) == {-1.0, 1.0}
    assert y.min() > 26 and np.abs(z).max() < 51 and np.abs(np.abs(x - 10) - 20).max() <= 3


def test_breathing_moves_organs_by_as_much_as_the_condition_says(who, monkeypatch):
    seen = {}

    def breathe(body, vertebrae, along, across, middle, reach):
        seen.update(along=along, across=across, middle=middle, vertebrae=vertebrae)
        return body

    monkeypatch.setattr(conditions.another_day, "breathe", breathe)
    monkeypatch.setattr(rescan, "simulate", lambda body, target, rng, settings, phases, pose: grid(40, 5.0))
    monkeypatch.setattr(rescan, "another_day", lambda ct, *_: Anatomy(ct, ct, np.zeros(3)))
    who.landmarks_moving, who.vertebrae = np.zeros((1, 3)), np.array([[0.0, 10, 5]])
    conditions.patient(who, KNOWN["breath"], anatomy(0.0, 0.0, 7.0))
    assert (seen["along"], seen["across"], seen["middle"]) == (-15.0, 0.0, 7.0) and seen["vertebrae"] is who.vertebrae


def test_a_field_of_view_is_narrowed_about_its_middle(who):
    x, y, z = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (40, 48, 44)], indexing="ij")
    disc = torch.hypot(z - 20, y - 25) <= 16
    whole = Volume(torch.where(disc & (x > 3) & (x < 37), 50.0 + x, torch.tensor(-1000.0)), 2.0)
    for condition in schema.load("trust_calibration").conditions().values():
        width, height = condition.view
        part = conditions.patient(replace(who, fixed=whole), condition).fixed
        before, after = (np.argwhere(v.array.numpy() > -999) for v in (whole, part))
        sizes = np.ptp(after, axis=0) / np.ptp(before, axis=0)
        assert np.allclose(sizes, [height, width, width], atol=0.08)
        assert np.allclose(after.mean(axis=0), before.mean(axis=0), atol=0.6)
        assert torch.equal(part.array[part.array > -999], whole.array[part.array > -999])


@pytest.mark.parametrize("side", [-30.0, 30.0])
def test_a_ct_may_end_where_the_cbct_begins(who, side):
    """What is left lies on the longer side, at its place in the world, and begins so far from the CBCT's middle."""
    ct = who.moving
    middle = ct.centre + [0.0, 0.0, side]
    someone = replace(who, truth=rigid.translation(who.fixed.centre - middle))
    for distance in (0.0, 20.0):
        left = conditions.patient(someone, schema.Condition("cut", ct_from=distance)).moving
        along = np.array([left.origin[2], left.origin[2] + left.spacing[2] * (left.size[2] - 1)])
        nearest, farthest = np.sort(np.abs(along - middle[2]))
        assert distance <= nearest < distance + ct.spacing[2] and (along.mean() < middle[2]) == (side > 0)
        assert np.isclose(farthest, np.abs(ct.origin[2] + [0, ct.spacing[2] * (ct.size[2] - 1)] - middle[2]).max())
        first = round((left.origin[2] - ct.origin[2]) / ct.spacing[2])
        assert torch.equal(left.array, ct.array[first : first + left.size[2]])
    left = conditions.patient(someone, schema.Condition("cut", ct_from=500.0)).moving
    assert 60 <= left.size[2] * left.spacing[2] < 60 + ct.spacing[2]  # of a short CT so much remains


@pytest.mark.parametrize("factors", [(-1.0, 1.0, 1.0), (1.0, 1.0, 1.1), (1.0, 1.0, 0.95)])
def test_a_ct_with_a_slip_in_its_header_keeps_its_middle_and_its_landmarks(who, factors):
    """Mirrored or stretched about what lies at the CBCT's middle; a landmark shows what it showed before."""
    someone = replace(who, truth=rigid.translation([13.0, -7.0, 5.0]))
    middle = who.fixed.centre - [13.0, -7.0, 5.0]
    marks = middle + np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [0.0, 10.0, 0.0], [-6.0, 4.0, 30.0]])
    someone = replace(someone, landmarks_moving=marks)
    slipped = conditions.patient(someone, schema.Condition("slip", ct_axes=factors))
    moved = slipped.landmarks_moving - middle
    np.testing.assert_allclose(moved, (marks - middle) * factors, atol=1e-9)
    before, after = (
        sample(volume, torch.as_tensor(points, dtype=torch.float32))
        for volume, points in ((who.moving, marks), (slipped.moving, slipped.landmarks_moving))
    )
    np.testing.assert_allclose(after, before, atol=0.5)
    np.testing.assert_allclose(slipped.moving.spacing, who.moving.spacing * np.abs(factors))
    assert np.linalg.det(slipped.moving.direction) > 0  # as a file gives it: the mirror is in its voxels
    assert conditions.patient(someone, schema.Condition("none")).moving is someone.moving


def test_to_the_ct_of_another_patient_no_pose_is_right(who):
    """The truth is put out of reach; the other CT lies middle on middle."""
    other = replace(who, moving=who.moving.with_array(who.moving.array.flip(0)))
    other.moving.origin = other.moving.origin + 400.0
    strange = conditions.stranger(who, other)
    np.testing.assert_allclose(strange.moving.centre, who.moving.centre, atol=1e-6)
    assert not torch.equal(strange.moving.array, who.moving.array)
    usual, away = (
        conditions.starts(someone, one, 2, NEAR, 0, 0.5)
        for someone, one in (
            (who, schema.Condition("as it is")),
            (strange, schema.Condition("a stranger", stranger=True)),
        )
    )
    for mine, theirs in zip(usual, away, strict=True):
        np.testing.assert_allclose(theirs.initial, mine.initial)  # the same starts
        assert cases.error(theirs, who.truth) > 900 and cases.error(mine, who.truth) < 1e-6
    ball = np.eye(3) * 30, np.array([[0, 1, 2]])
    heart = replace(strange, experiment="heart", mesh_moving=ball, mesh_fixed=ball)
    (case,) = conditions.starts(heart, schema.Condition("a stranger", stranger=True), 1, NEAR, 0, 0.0)
    assert cases.error(case, np.eye(4)) > 900 and cases.error(case, rigid.translation([0.0, 0.0, 1000.0])) < 1e-6
