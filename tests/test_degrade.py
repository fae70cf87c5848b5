"""Beyond the training range: the changes are the ones that are named."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.transform import Rotation

from lib import rigid
from lib.cases import Result
from lib.images.volume import Volume
from lib.patients import rescan
from lib.patients.anatomy import Anatomy
from lib.patients.real import SCANNER
from lib.patients.store import Patient
from lib.study import degrade


def grid(n, mm, centre=(0.0, 0.0, 0.0)):
    spacing = np.full(3, mm)
    generator = torch.Generator().manual_seed(0)  # a constant image has no field of view
    return Volume(100 * torch.rand(n, n, n, generator=generator), spacing, np.asarray(centre) - spacing * (n - 1) / 2)


@pytest.fixture
def who():
    truth = rigid.translation([30.0, -20.0, 200.0])
    return Patient("one", "spine", "virtual_spine", grid(40, 5.0, (30.0, -20.0, 200.0)), grid(80, 5.0), truth)


def angle(who, case) -> float:
    turned = Rotation.from_matrix((case.initial @ rigid.invert(who.truth))[:3, :3])
    return float(np.degrees(turned.magnitude()))


def test_tilted_starts_are_turned_by_45_degrees(who):
    for case in degrade.starts(who, degrade.CONDITIONS["tilted"], 4):
        assert angle(who, case) == pytest.approx(45.0, abs=1e-6)
        assert np.abs(rigid.apply(case.initial @ rigid.invert(who.truth), case.centre) - case.centre).max() <= 30


@pytest.mark.parametrize(("name", "flipped"), [("prone", [-1, -1, 1]), ("feet_first", [-1, 1, -1])])
def test_postures_turn_the_body_about_the_right_axis(who, name, flipped):
    usual = degrade.starts(who, degrade.CONDITIONS["usual"], 2)
    for case, plain in zip(degrade.starts(who, degrade.CONDITIONS[name], 2), usual, strict=True):
        turn = rigid.centred(case.initial @ rigid.invert(plain.initial), case.centre)
        assert np.allclose(turn, np.diag([*flipped, 1]), atol=1e-9)


def test_the_scanner_changes_as_the_condition_says():
    made = {name: degrade.scanner(condition) for name, condition in degrade.CONDITIONS.items()}
    assert made["usual"] == made["metal"] == made["tilted"] == SCANNER
    assert made["noise"].photons == tuple(v / 4 for v in SCANNER.photons)  # noise goes with the root
    assert made["half_height"].height == tuple(v / 2 for v in SCANNER.height)
    assert made["half_height"].diameter == SCANNER.diameter
    assert made["half_width"].diameter == tuple(v / 2 for v in SCANNER.diameter)


def test_the_body_is_scanned_again_with_the_metal_in_it(who, monkeypatch):
    seen = {}

    def simulate(body, target, rng, settings, phases, pose):
        seen["titanium"], seen["settings"] = int((body.array == degrade.TITANIUM).sum()), settings
        return grid(40, 5.0, rigid.apply(pose, target[None])[0])

    monkeypatch.setattr(rescan, "simulate", simulate)
    monkeypatch.setattr(rescan, "another_day", lambda ct, *_: Anatomy(ct, ct, np.zeros(3)))
    who.landmarks_moving = np.array([[0.0, 0, 0], [10, 20, 30]])
    target = np.array([2.5, 0.0, 0.0])
    assert degrade.patient(who, target, None, degrade.CONDITIONS["prone"]) is who
    scanned = degrade.patient(who, target, None, degrade.CONDITIONS["metal"])
    assert seen["titanium"] > 0 and seen["settings"] == SCANNER
    assert np.allclose(scanned.landmarks_fixed, rigid.apply(scanned.truth, who.landmarks_moving))
    assert np.allclose(rigid.apply(scanned.truth, target[None])[0], scanned.fixed.centre)
    degrade.patient(who, target, None, degrade.CONDITIONS["noise"])
    assert seen["titanium"] == 0 and seen["settings"].photons < SCANNER.photons


def test_rods_lie_beside_and_behind_the_spine():
    body = degrade.rods(np.array([10.0, 0.0, 0.0]))(grid(81, 2.0))
    x, y, z = body.points()[body.array == degrade.TITANIUM].T.numpy()
    assert len(x) > 100 and set(np.sign(x - 10)) == {-1.0, 1.0}
    assert y.min() > 26 and np.abs(z).max() < 51 and np.abs(np.abs(x - 10) - 20).max() <= 3


def test_breathing_moves_organs_by_as_much_as_the_condition_says(who, monkeypatch):
    seen = {}

    def breathe(body, vertebrae, along, across, middle, reach):
        seen.update(along=along, across=across, middle=middle, vertebrae=vertebrae)
        return body

    monkeypatch.setattr(degrade.another_day, "breathe", breathe)
    monkeypatch.setattr(rescan, "simulate", lambda body, target, rng, settings, phases, pose: grid(40, 5.0))
    monkeypatch.setattr(rescan, "another_day", lambda ct, *_: Anatomy(ct, ct, np.zeros(3)))
    who.landmarks_moving, who.vertebrae = np.zeros((1, 3)), np.array([[0.0, 10, 5]])
    degrade.patient(who, np.array([0.0, 0.0, 7.0]), None, degrade.CONDITIONS["breath"])
    assert (seen["along"], seen["across"], seen["middle"]) == (-15.0, 0.0, 7.0) and seen["vertebrae"] is who.vertebrae


def test_optimisers_go_on_where_they_stopped(who, tmp_path, monkeypatch):
    who.landmarks_moving, who.landmarks_fixed = np.zeros((1, 3)), rigid.apply(who.truth, np.zeros((1, 3)))
    made, path = [], tmp_path / "rows.csv"

    def cases_of(names, n):
        for name in names:
            yield name, "scan", "one", lambda name=name: degrade.starts(who, degrade.CONDITIONS[name], n)

    def run_methods(names, tried, settings):
        made.extend(names)
        return [(m, [Result(who.truth if m == "elastix" else c.initial, 1.0) for c in tried]) for m in names]

    monkeypatch.setattr(degrade, "cases_of", cases_of)
    monkeypatch.setattr(degrade.run, "run_methods", run_methods)
    rows = degrade.beside(path, say=lambda line: None)
    assert len(rows) == 2 * 2 * len(degrade.OPTIMISERS) and rows.loc[rows["method"] == "elastix", "error_mm"].max() == 0
    rows[rows["method"] != "itk_tuned"].to_csv(path, index=False)
    made.clear()
    assert len(degrade.beside(path, say=lambda line: None)) == len(rows) and set(made) == {"itk_tuned"}


def test_table_beside_optimisers():
    def rows(**columns):
        return pd.DataFrame({"condition": ["usual", "usual", "breath", "breath"], "scan": list("abab"), **columns})

    own = rows(alone_mm=[1.0, 30, 1, 1], error_mm=[1.0, 2, 3, 40])
    others = rows(method=["elastix"] * 4, error_mm=[1.0, 1, 50, 60])
    lines = degrade.markdown(own, others).splitlines()
    assert len(lines) == 5 and lines[2].startswith("| agent, this start alone | 50% ") and "100% [" in lines[2]
    assert lines[4].startswith("| elastix | 100% [") and "0% [" in lines[4] and "55.0 mm" in lines[4]


def test_figure_counts_what_is_right_and_what_is_wrongly_believed():
    rows = pd.DataFrame(
        {
            "condition": ["usual"] * 4,
            "scan": list("aabb"),
            "error_mm": [1.0, 2.0, 30.0, 40.0],
            "verdict": ["good", "do not trust", "good", "do not trust"],
        }
    )
    words = [text.get_text() for text in degrade.figure(rows).axes[0].texts]
    assert len(words) == 1 and words[0].startswith("50%") and words[0].endswith("wrong but called good: 1")
