"""The manual registration tool: what its callbacks do to the pose, and what it writes."""

import json
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.cases import COLUMNS, Case
from lib.images.volume import Volume
from lib.registration import by_hand

matplotlib.use("agg")
CFG = SimpleNamespace(profile="smoke", experiment="spine", split=0)


@pytest.fixture
def case():
    array = torch.full((20, 24, 24), -1000.0)
    array[4:16, 6:18, 6:18] = 60.0
    array[8:12, 10:14, 10:14] = 500.0
    v = Volume(array, (5.0, 5.0, 5.0), (-60.0, -60.0, -50.0))
    truth = rigid.params_to_matrix([4.0, -3.0, 2.0, 1.0, 2.0, -3.0])
    patient = SimpleNamespace(
        id="virtual_spine_000",
        experiment="spine",
        dataset="virtual_spine",
        fixed=v,
        moving=v,
        truth=truth,
        landmarks_fixed=None,
        landmarks_moving=None,
        vertebrae=None,
        mesh_fixed=None,
        mesh_moving=None,
    )
    initial = rigid.about(rigid.params_to_matrix([10.0, -7.0, 5.0, 0.0, 0.0, 0.0]), v.centre) @ truth
    return Case(patient, 3, initial, np.asarray(v.centre))


@pytest.fixture
def session(case):
    ticks = iter(range(10000))
    return by_hand.Session(case, "ann", clock=lambda: float(next(ticks)))


def moved_by(session, before):
    return rigid.matrix_to_params(rigid.centred(session.pose @ rigid.invert(before), session.case.centre))


@pytest.mark.parametrize("name", by_hand.NAMES)
@pytest.mark.parametrize("step", [1.0, -1.0])
def test_a_nudge_moves_exactly_one_parameter_by_one(session, name, step):
    session.start()
    before = session.pose
    session.nudge(name, step)
    expected = np.zeros(6)
    expected[by_hand.NAMES.index(name)] = step
    assert np.allclose(moved_by(session, before), expected, atol=1e-10)
    session.nudge(name, -step)
    assert np.allclose(session.pose, before, atol=1e-12)


def test_nothing_moves_before_start_and_after_stop(session):
    session.nudge("tx")
    assert (session.params == 0).all() and not session.path
    session.start()
    session.nudge("tx")
    session.stop()
    session.nudge("tx")
    assert session.params[0] == 1 and len(session.path) == 2 and session.seconds > 0


def test_limits_hold(session):
    session.start()
    session.set("rx", 1000)
    assert session.params[3] == 90


def test_a_saved_session_becomes_a_row(session, tmp_path):
    session.start()
    session.set("tx", -10), session.set("ty", 7), session.set("tz", -5)
    with pytest.raises(UserError, match="still running"):
        session.save(tmp_path, CFG)
    session.stop()
    path = session.save(tmp_path, CFG)
    assert path.name == "ann_virtual_spine_000_3.json" and [p.name for p in tmp_path.iterdir()] == [path.name]
    recorded = by_hand.sessions(tmp_path, CFG)
    assert len(recorded[0]["path"]) == 4
    rows = by_hand.human_rows(recorded, [session.case], CFG)
    assert tuple(rows[0]) == COLUMNS and rows[0]["success"] and rows[0]["final_error_mm"] < 1e-3
    assert rows[0]["method"] == "human" and rows[0]["initial_error_mm"] > 10


def test_no_sessions_no_rows(case, tmp_path):
    assert by_hand.sessions(tmp_path, CFG) == [] and by_hand.human_rows([], [case], CFG) == []


def test_foreign_and_damaged_sessions_are_refused(session, tmp_path):
    session.start(), session.stop()
    value = json.loads(session.save(tmp_path, CFG).read_text())
    value["initial"][0][3] += 1
    with pytest.raises(UserError, match="began elsewhere"):
        by_hand.human_rows([value], [session.case], CFG)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken\.json"):
        by_hand.sessions(tmp_path, CFG)


def test_a_user_name_cannot_be_a_path(case):
    with pytest.raises(UserError):
        by_hand.Session(case, "../ann")


def test_the_panel_moves_the_session(session, tmp_path):
    pytest.importorskip("ipywidgets")
    box = by_hand.panel(session, tmp_path, CFG)
    parts = box.parts
    parts["buttons"][2].click()  # +1 in tx, but the clock stands
    assert session.params[0] == 0
    parts["start"].click()
    parts["buttons"][2].click()
    assert session.params[0] == 1 and parts["sliders"]["tx"].value == 1
    parts["sliders"]["rz"].value = -4
    assert session.params[5] == -4
    parts["stop"].click()
    assert len(list(tmp_path.glob("ann_*.json"))) == 1


def test_not_interactive_here():
    assert not by_hand.is_interactive()
