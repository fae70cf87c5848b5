"""Starts are drawn as the paper says and a row holds what the tables need."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import cases, rigid
from lib.base.errors import UserError
from lib.images import normalise
from lib.images.volume import Volume

RANGES = (30, 30, 150, 30, 30, 30)
CFG = SimpleNamespace(profile="smoke", split=0)


def patient(name="virtual_spine_000", experiment="spine"):
    truth = rigid.params_to_matrix(np.array([5.0, -3, 12, 4, 0, -6]))
    landmarks = np.random.default_rng(3).normal(size=(32, 3)) * 20
    vertebrae = np.array([[0.0, 0, 100 - 25 * i] for i in range(9)])
    fixed = Volume(torch.zeros(20, 20, 20), 5.0, [-47.5, -47.5, -47.5])
    return SimpleNamespace(
        id=name,
        experiment=experiment,
        dataset="virtual_spine",
        fixed=fixed,
        moving=fixed,
        truth=truth,
        landmarks_moving=landmarks,
        landmarks_fixed=rigid.apply(truth, landmarks),
        mesh_fixed=None,
        mesh_moving=None,
        vertebrae=vertebrae,
        meta={},
    )


def test_starts_are_seeded_within_range_and_nested():
    first, again = (cases.starts(patient(), 10, RANGES, 7) for _ in range(2))
    assert all(np.array_equal(a.initial, b.initial) for a, b in zip(first, again, strict=True))
    assert np.array_equal(cases.starts(patient(), 3, RANGES, 7)[2].initial, first[2].initial)
    other = cases.starts(patient("virtual_spine_001"), 1, RANGES, 7)[0]
    assert not np.array_equal(other.initial, first[0].initial)
    for case in cases.starts(patient(), 100, RANGES, 7):
        applied = rigid.state(case.initial, case.patient.truth, case.centre)
        assert (np.abs(applied) <= np.array(RANGES) + 1e-6).all()


def test_both_images_are_moved_about_their_own_centres():
    """Twelve ranges: P_fixed^-1 P_moving T_g. The centre that an image turns about stays where only turns are drawn."""
    one = patient()
    one.moving = Volume(torch.zeros(30, 10, 10), 5.0, [100.0, -20, 30])
    own = rigid.apply(one.truth, one.moving.centre[None])
    turns, still = (0, 0, 0, 30, 30, 30), (0,) * 6
    for ranges, fix in ((turns + still, own), (still + turns, one.fixed.centre[None])):
        for case in cases.starts(one, 3, ranges, 7):
            moved = case.initial @ rigid.invert(one.truth)
            assert np.allclose(rigid.apply(moved, fix), fix, atol=1e-9)
            assert np.linalg.norm(moved[:3, :3] - np.eye(3)) > 0.1
    first, second = (cases.starts(one, 1, (10,) * k, 7)[0].initial for k in (6, 12))
    assert not np.allclose(first, second)
    far = [
        rigid.state(c.initial, one.truth, c.centre)[3:] for c in cases.starts(one, 200, (0, 0, 0, 30, 30, 30) * 2, 7)
    ]
    assert 40 < np.abs(far).max() < 75  # two turns of 30 degrees an axis


@pytest.fixture
def everything_seen(monkeypatch):
    """A field of view that is the whole fixed grid."""
    monkeypatch.setattr(normalise, "field_of_view", lambda volume: volume.array > -1)


def test_overlap_of_a_half_shifted_volume(everything_seen):
    one = patient()
    assert cases.overlap(one, np.eye(4)) == 1
    assert cases.overlap(one, rigid.translation([50, 0, 0])) == pytest.approx(0.5)
    assert cases.overlap(one, rigid.translation([0, 0, 200])) == 0


def test_starts_keep_the_overlap_or_say_that_none_does(everything_seen):
    one = patient()
    assert all(cases.overlap(one, c.initial) >= 0.5 for c in cases.starts(one, 10, RANGES, 7, 0.5))
    with pytest.raises(UserError, match="min_overlap"):
        cases.starts(one, 1, RANGES, 7, 1.01)


def test_row_of_a_perfect_result():
    case = cases.starts(patient(), 1, RANGES, 7)[0]
    row = cases.row(case, "dsl", cases.Result(case.patient.truth, 1.25), CFG)
    assert tuple(row) == cases.COLUMNS
    assert row["final_error_mm"] == 0 and row["success"] is True and row["note"] == ""
    assert row["seconds"] == 1.25
    assert row["initial_error_mm"] > 0 and [row[k] for k in ("tx", "rz")] == pytest.approx([0, 0])


def test_row_holds_the_state_that_is_left():
    case = cases.starts(patient(), 1, RANGES, 7)[0]
    v = np.array([1.0, 2, 3, 4, 5, 6])
    pose = rigid.about(rigid.invert(rigid.params_to_matrix(v)), case.centre) @ case.patient.truth
    row = cases.row(case, "itk", cases.Result(pose, 0.1), CFG)
    assert [row[k] for k in ("tx", "ty", "tz", "rx", "ry", "rz")] == pytest.approx(v, abs=1e-3)


def test_row_names_the_failure():
    case = cases.starts(patient(), 1, (1, 1, 1, 1, 1, 1), 7)[0]
    off = case.patient.truth @ rigid.translation([0, 0, -25])
    row = cases.row(case, "itk", cases.Result(off, 0.1), CFG)
    assert row["success"] is False and row["note"] == "vertebra +1"
    assert row["final_error_mm"] == pytest.approx(25)


def test_a_refusal_is_a_failure_however_near_the_start_was():
    case = cases.starts(patient(), 1, (1, 1, 1, 1, 1, 1), 7)[0]
    row = cases.row(case, "ants", cases.Result(case.initial, 0.1, note="not\ninstalled"), CFG)
    assert row["success"] is False and row["note"] == "not installed" and row["final_error_mm"] < 10
    row = cases.row(case, "ants", cases.Result(np.full((4, 4), np.nan), 0.1), CFG)
    assert row["success"] is False and "finite" in row["note"]


def test_a_scan_without_landmarks_uses_a_lattice():
    one = patient()
    one.landmarks_fixed = one.landmarks_moving = None
    case = cases.starts(one, 1, RANGES, 7)[0]
    assert len(cases.landmarks(one)[0]) == 32
    assert cases.error(case, one.truth) == pytest.approx(0, abs=1e-9)
    assert cases.error(case, rigid.translation([0, 3, 4]) @ one.truth) == pytest.approx(5)


def test_rows_round_trip_and_foreign_columns_are_refused(tmp_path):
    some = cases.starts(patient(), 3, RANGES, 7)
    rows = [cases.row(c, "initial", cases.Result(c.initial, 0), CFG) for c in some]
    cases.write_rows(tmp_path / "deep" / "cases_initial.csv", rows)
    back = cases.read_rows(*cases.find_rows(tmp_path))
    assert back.to_dict("records") == rows
    assert list(tmp_path.rglob(".*")) == []
    with pytest.raises(UserError, match="columns"):
        cases.write_rows(tmp_path / "x.csv", [{"a": 1}])
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="y.csv"):
        cases.read_rows(tmp_path / "y.csv")


def test_no_rows_is_an_empty_table(tmp_path):
    assert len(cases.read_rows()) == 0
    cases.write_rows(tmp_path / "cases_none.csv", [])
    assert list(cases.read_rows(tmp_path / "cases_none.csv").columns) == list(cases.COLUMNS)


def test_how_far_off_sees_a_turn():
    rows = pd.DataFrame([[3.0, 4.0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 180.0], [0.0] * 6], columns=list(cases.STATE))
    assert np.allclose(cases.displaced(rows), [5.0, 100 * 4 / 6, 0.0])  # of six points the two on the axis stay
