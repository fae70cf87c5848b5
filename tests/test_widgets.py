"""Registration by hand: what a deed does to the pose, what is on the screen, what is kept."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.cases import COLUMNS, Case
from lib.images.volume import Volume
from lib.registration import by_hand, by_hand_records, by_hand_study
from lib.registration.by_hand_pictures import NONE, VIEWS, Pictures

CFG = SimpleNamespace(profile="smoke", experiment="spine", split=0)


def volume(ball=(20.0, -10.0, 15.0)):
    """Soft tissue in air with one bright ball at a world point, 4 mm voxels."""
    v = Volume(torch.full((40, 48, 48), -1000.0), (4.0, 4.0, 4.0), (-94.0, -94.0, -78.0))
    points = v.points()
    array = torch.where(points.norm(dim=-1) < 70, 50.0, -1000.0)
    return v.with_array(torch.where((points - torch.tensor(ball)).norm(dim=-1) < 9, 900.0, array))


def make_case(name="virtual_spine_000", start=3):
    v = volume()
    truth = rigid.params_to_matrix([4.0, -3.0, 2.0, 1.0, 2.0, -3.0])
    none = ("landmarks_fixed", "landmarks_moving", "vertebrae", "mesh_fixed", "mesh_moving")
    patient = SimpleNamespace(
        id=name, experiment="spine", dataset="virtual_spine", fixed=v, moving=v, truth=truth, **dict.fromkeys(none)
    )
    initial = rigid.about(rigid.params_to_matrix([10.0 + start, -7.0, 5.0, 0.0, 0.0, 0.0]), v.centre) @ truth
    return Case(patient, start, initial, np.asarray(v.centre))


@pytest.fixture
def case():
    return make_case()


def clock():
    ticks = iter(range(100000))
    return lambda: float(next(ticks))


@pytest.fixture
def session(case):
    return by_hand.Session(case, "ann", clock=clock())


def study(tmp_path, cases, user="ann", cfg=CFG):
    return by_hand_study.Study(cases, user, tmp_path / "sessions", cfg, tmp_path)


# What a deed does to the pose


@pytest.mark.parametrize("name", by_hand.NAMES)
@pytest.mark.parametrize("step", [1.0, -5.0])
def test_a_nudge_is_the_agents_action_wherever_the_ct_is_turned_to(session, name, step):
    session.start()
    session.move([3.0, 0, 0, 40.0, -20.0, 10.0])
    before = session.pose
    session.nudge(name, step)
    moved = rigid.matrix_to_params(rigid.centred(session.pose @ rigid.invert(before), session.case.centre))
    assert np.allclose(moved, step * np.eye(6)[by_hand.NAMES.index(name)], atol=1e-9)


@pytest.mark.parametrize(
    "name, point, goes",
    [
        ("tx", (0, 0, 0), "L"),
        ("ty", (0, 0, 0), "P"),
        ("tz", (0, 0, 0), "H"),
        ("rx", (0, 0, 100), "A"),  # the head goes forward
        ("ry", (0, 0, 100), "L"),  # the head goes to the left
        ("rz", (0, -100, 0), "L"),  # the front goes to the left
    ],
)
def test_the_words_on_the_buttons_are_where_the_ct_goes(session, name, point, goes):
    session.start()
    session.nudge(name, 5.0)
    moved = session.pose @ rigid.invert(session.case.initial)
    shift = rigid.apply(rigid.centred(moved, session.case.centre), np.array([point], dtype=float))[0] - point
    axis, sign = {"L": (0, 1), "P": (1, 1), "A": (1, -1), "H": (2, 1)}[goes]
    assert int(np.abs(shift).argmax()) == axis and np.sign(shift[axis]) == sign
    words = {"A": "forward"}.get(goes, f"to {goes}")
    assert words in by_hand.DIRECTIONS[name][1] and words not in by_hand.DIRECTIONS[name][0]


def test_turning_about_the_crosshair_leaves_it_where_it_is(session):
    session.start()
    point = np.array([[30.0, -20.0, 10.0]])
    there = rigid.apply(rigid.invert(session.pose), point)
    session.nudge("rz", 25.0, about=point[0])
    assert np.allclose(rigid.apply(session.pose, there), point)


def test_undo_takes_a_drag_back_as_one_and_reset_can_be_taken_back(session):
    session.start()
    session.nudge("tx", 5.0)
    for more in (False, True, True):
        session.move([0, 1.0, 0, 0, 0, 0], more=more)
    session.reset()
    assert np.allclose(session.params, 0)
    session.undo()
    assert np.allclose(session.params[:2], [5, 3])
    session.undo()
    assert np.allclose(session.params[:2], [5, 0])
    session.undo(), session.undo()
    assert np.allclose(session.params, 0) and session.moves == 8  # what was done is not unwritten


def test_nothing_moves_before_start_and_after_stop(session):
    session.nudge("tx")
    assert np.allclose(session.params, 0) and not session.path
    session.start()
    session.nudge("tx")
    session.stop()
    session.nudge("tx"), session.undo(), session.reset()
    assert np.allclose(session.params[0], 1) and len(session.path) == 2 and session.seconds > 0


def test_the_ct_cannot_be_lost_out_of_sight(session):
    session.start()
    session.nudge("tz", 10 * by_hand.LIMIT)
    assert np.allclose(session.params, 0)


def test_a_user_name_cannot_be_a_path(case):
    with pytest.raises(UserError):
        by_hand.Session(case, "../ann")


# What is on the screen


@pytest.mark.parametrize("view", VIEWS, ids=[v["name"] for v in VIEWS])
def test_left_is_on_the_right_and_the_head_is_up(view):
    pictures = Pictures(volume(), volume(), np.zeros(3))
    ball = np.array([20.0, -10.0, 15.0])  # to the left, to the front, to the head
    picture = pictures.plane("fixed", view["name"], ball)
    rows, columns = np.nonzero(picture > 500)
    mm = 2 * pictures.half / len(picture)
    found = [(columns.mean() + 0.5) * mm - pictures.half, (rows.mean() + 0.5) * mm - pictures.half]
    assert np.allclose(found, [ball @ view["right"], ball @ view["down"]], atol=2.0)
    letters = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
    directions = [-np.array(view["right"]), view["right"], -np.array(view["down"]), view["down"]]
    assert all(np.array_equal(letters[e], d) for e, d in zip(view["edges"], directions, strict=True))


def test_a_moved_slice_shows_the_moved_image_and_nothing_outside():
    pictures = Pictures(volume(), volume(), np.zeros(3))
    moved = pictures.plane("moving", "axial", [20.0, -10.0, 15.0], rigid.translation([-40.0, 0, 0]))
    columns = np.nonzero(moved > 500)[1]
    assert (columns.mean() + 0.5) * 2 * pictures.half / 224 - pictures.half == pytest.approx(-20, abs=1)
    assert (moved[:, -20:] == NONE).all()


def test_zoom_shows_finer_steps_around_the_crosshair():
    pictures = Pictures(volume(), volume(), np.zeros(3))
    picture = pictures.plane("fixed", "coronal", [20.0, -10.0, 15.0], half=20.0)
    assert picture[112, 112] > 500 and (picture > 500).mean() > 3 * np.pi * 81 / (4 * pictures.half**2)


@pytest.mark.parametrize("turned, side", [(0, 20.0), (90, 10.0), (-90, -10.0)])
def test_the_volume_view_turns_round_the_body(turned, side):
    pictures = Pictures(volume(), volume(), np.zeros(3))
    columns = np.nonzero(pictures.projection("fixed", turned) > 500)[1]
    mm = 2 * pictures.half / 112
    assert (columns.mean() + 0.5) * mm - pictures.half == pytest.approx(side, abs=2)


def test_a_scan_that_is_no_hu_looks_like_one():
    v = volume()
    strange = v.with_array((v.array + 1000) * 3e-5)
    plane = Pictures(strange, v, np.zeros(3)).plane("fixed", "axial", [20.0, -10.0, 15.0])
    assert np.median(plane[plane > -500]) == pytest.approx(40, abs=60)


# What is kept


def test_every_move_is_on_disk_at_once_and_a_new_kernel_goes_on(tmp_path, case):
    first = study(tmp_path, [case]).session(case, clock=clock())
    assert not (tmp_path / "sessions").exists()  # looking is no attempt
    first.start()
    first.nudge("tx", -5.0), first.nudge("rz", 2.0)  # and here the kernel dies
    later = study(tmp_path, [case])
    assert later.next() is case
    second = later.session(case, clock=clock())
    assert np.allclose(second.pose, first.pose, atol=1e-9) and second.path == first.path
    assert second.elapsed == first.path[-1][0] > 0  # the clock goes on where it stood
    second.start()
    second.nudge("ty", 7.0), second.stop()
    (attempt,) = later.attempts()
    assert attempt.finished and len(attempt.path) == 4 and attempt.seconds > first.path[-1][0]


def test_a_torn_line_costs_one_move(tmp_path, case):
    first = study(tmp_path, [case]).session(case, clock=clock())
    first.start(), first.nudge("tx", 1.0), first.nudge("tx", 1.0)
    (file,) = (tmp_path / "sessions").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    second = study(tmp_path, [case]).session(case, clock=clock())
    assert np.allclose(second.params[0], 1)
    second.start(), second.nudge("tx", 3.0), second.stop()
    attempt = by_hand_records.read(file)
    assert attempt.finished and np.allclose(attempt.path[:, 1], [0, 1, 4])


def test_the_first_attempt_counts_and_none_is_overwritten(tmp_path, case):
    work = study(tmp_path, [case])
    for right in (-20.0, -13.0):  # the second try is the better one
        session = work.session(case, clock=clock())
        session.start(), session.move([right, 7.0, -5.0, 0, 0, 0]), session.stop()
    assert [a.attempt for a in work.attempts()] == [1, 2]
    assert work.write() == 1
    row = pd.read_csv(work.target).iloc[0]
    assert row["final_error_mm"] == pytest.approx(7.0, abs=0.01) and row["method"] == "human"
    assert tuple(row.index) == COLUMNS and row["note"] == "user ann" and row["initial_error_mm"] > 10


def test_table_1_takes_what_was_recorded_and_says_what_was_not(tmp_path, case):
    from lib import cases as case_rows
    from lib.tables import table1

    work = study(tmp_path, [case])
    case_rows.write_rows(
        tmp_path / "cases_initial.csv", [case_rows.row(case, "initial", case_rows.Result(case.initial, 0.0), CFG)]
    )

    def line() -> str:
        rows = case_rows.read_rows(*case_rows.find_rows(tmp_path))
        return next(s for s in table1.markdown(table1.gather(rows)[0]).splitlines() if s.startswith("| Human"))

    assert line().split("|")[2].strip() == "not measured"
    session = work.session(case, clock=clock())
    session.start(), session.move([-13.0, 7.0, -5.0, 0, 0, 0]), session.stop()
    work.write()
    cells = [cell.strip() for cell in line().split("|")]
    assert cells[2].startswith("100") and cells[4] == "0.0" and cells[7] == "1" and cells[8] == "*70*"


def test_a_failure_says_its_kind_and_its_user(tmp_path, case):
    work = study(tmp_path, [case])
    session = work.session(case, clock=clock())
    session.start(), session.nudge("tx", 60.0), session.stop()
    work.write()
    assert pd.read_csv(work.target).iloc[0]["note"] == "lost, user ann"


def test_no_attempts_no_rows(tmp_path, case):
    work = study(tmp_path, [case])
    work.target.write_text("left from before")
    assert work.write() == 0 and not work.target.exists()


def test_foreign_and_damaged_files_are_named(tmp_path, case):
    work = study(tmp_path, [case])
    session = work.session(case, clock=clock())
    session.start(), session.stop()
    (file,) = (tmp_path / "sessions").iterdir()
    lines = file.read_text().splitlines()
    header = json.loads(lines[0])
    header["initial"][0][3] += 1
    file.write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    with pytest.raises(UserError, match="began elsewhere"):
        work.write()
    (tmp_path / "sessions" / "broken.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"broken\.jsonl"):
        work.attempts()


def test_a_case_that_cannot_be_read_stops_nobody(tmp_path, monkeypatch):
    from lib.metrics import EvaluationSettings
    from lib.patients import store

    good = make_case().patient

    def load(folder):
        if folder == "bad":
            raise UserError("bad: damaged")
        return good

    monkeypatch.setattr(store, "load", load)
    found, problems = by_hand_study.cases_of(["bad", "good"], EvaluationSettings(n_starts=2), "spine")
    assert [c.id for c in found] == [good.id] * 2 and problems == ["bad: damaged"]


# The session mode


def test_each_user_gets_two_starts_of_each_pair_in_an_own_order(tmp_path):
    cases = [make_case(f"virtual_spine_{n:03d}", start) for n in range(5) for start in range(10)]
    plans = [study(tmp_path, cases, user).plan for user in ("ann", "bob")]
    for plan in plans:
        count = pd.Series([c.id for c in plan]).value_counts()
        assert len(count) == 5 and (count == by_hand_study.STARTS).all()
        assert len({(c.id, c.start) for c in plan}) == 10
    assert [(c.id, c.start) for c in plans[0]] != [(c.id, c.start) for c in plans[1]]
    again = study(tmp_path, cases, "ann").plan
    assert [(c.id, c.start) for c in again] == [(c.id, c.start) for c in plans[0]]


def test_before_the_end_nothing_tells_the_error(tmp_path, case):
    from lib.registration.by_hand_panel import Desk

    work = study(tmp_path, [case])
    desk = Desk(work.session(case, clock=clock()), work.words())
    state, _ = desk.answer({"ask": 1, "do": [["start"], ["move", [1, 0, 0, 0, 0, 0], None, False]]})
    told = json.dumps(state)
    assert not case._errors  # not even computed
    assert f"{case.initial_error:.1f}" not in told and "error" not in told and "TRE" not in told


def test_the_table_that_rows_feed_is_named(tmp_path, case):
    assert "practice" in study(tmp_path, [case]).words() and "0 of 1" in study(tmp_path, [case]).words()
    cpu = SimpleNamespace(profile="cpu", experiment="spine", split=0)
    assert "feeds Table 1" in study(tmp_path, [case], cfg=cpu).words()


def test_afterwards_both_errors_are_told_and_the_walks_agree_with_the_rows(tmp_path, case):
    from lib.registration import watch

    work = study(tmp_path, [case])
    session = work.session(case, clock=clock())
    session.start(), session.move([-13.0, 7.0, -5.0, 0, 0, 0]), session.stop()
    assert "notebook 04" in by_hand_study.outcome(work, session)
    from lib.cases import Result, row, write_rows

    states = np.linspace(1, 0.5, 9)[:, None] * rigid.state(case.patient.truth, case.initial, case.centre)
    np.savez(tmp_path / "trajectories_dsl.npz", case=[case.id], start=[case.start], states=states[None])
    walk = by_hand_study.agent_walk(tmp_path, case, "dsl")
    assert np.allclose(walk[0], case.initial, atol=1e-6)
    write_rows(tmp_path / "cases_dsl.csv", [row(case, "dsl", Result(walk[-1], 2.0), CFG)])
    said = by_hand_study.outcome(work, session)
    assert (
        "You: 0.0 mm" in said
        and f"The agent (dsl): {by_hand_study.agent_row(tmp_path, case, 'dsl')['final_error_mm']:.1f} mm" in said
    )
    shown = watch.beside(work, session)
    assert shown.given["names"] == ["you", "the agent (dsl)"]
    assert shown.given["curves"][0]["y"][-1] == pytest.approx(0, abs=1e-3)
    states[0] += 1  # the patients were made anew: the walk began elsewhere
    np.savez(tmp_path / "trajectories_dsl.npz", case=[case.id], start=[case.start], states=states[None])
    assert by_hand_study.agent_walk(tmp_path, case, "dsl") is None


# The front end's questions


def test_ten_clicks_are_one_answer_and_the_picture_moves(tmp_path, case):
    from lib.registration.by_hand_panel import Desk

    desk = Desk(study(tmp_path, [case]).session(case, clock=clock()))
    state, pictures = desk.answer({"ask": 1, "do": [["show"]]})
    assert len(pictures) == 8 and all(len(p) == 2 * 224**2 for p in pictures[:3]) and not state["running"]
    deeds = [["start"]] + [["move", [0, 0, 1.0, 0, 0, 0], None, False]] * 10
    state, moved = desk.answer({"ask": 2, "do": deeds})
    assert state["moves"] == 10 and state["params"][2] == pytest.approx(10)
    assert len(moved) == 4 and moved[1] != pictures[1]  # the CBCT's slices stay where they are
    state, _ = desk.answer({"ask": 3, "do": [["stop"]]})
    assert state["finished"] and not state["running"]


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path, case):
    from lib.registration.by_hand_panel import Desk

    desk = Desk(study(tmp_path, [case]).session(case, clock=clock()))
    desk.answer({"ask": 1, "do": [["start"], ["move", [1, 0, 0, 0, 0, 0], None, False]]})
    (file,) = (tmp_path / "sessions").iterdir()
    kept = file.read_bytes()
    file.rename(tmp_path / "kept")
    (tmp_path / "sessions").rmdir()
    state, _ = desk.answer({"ask": 2, "do": [["move", [1, 0, 0, 0, 0, 0], None, False]]})
    assert "could not be kept" in state["error"] and (tmp_path / "kept").read_bytes() == kept


def test_the_panel_offers_the_next_case(tmp_path):
    from lib.registration import by_hand_panel

    cases = [make_case(start=1), make_case(start=2)]
    box = by_hand_panel.panel(study(tmp_path, cases))
    first = box.desk.session.case
    box.desk.answer({"ask": 1, "do": [["start"], ["stop"]]})
    text, buttons, _ = box.children[1].children
    assert "You:" in text.value and not buttons.children[0].disabled
    buttons.children[1].click()  # practise: the same case, a second attempt
    assert box.desk.session.case is first and box.desk.session.attempt == 2 and len(box.desk.session.path) == 0
    buttons.children[0].click()
    assert box.desk.session.case is not first
    box.desk.answer({"ask": 2, "do": [["start"], ["stop"]]})
    assert box.children[1].children[1].children[0].disabled and len(pd.read_csv(tmp_path / "cases_human.csv")) == 2


def test_the_scrubber_keeps_everything_in_step(case):
    from lib.registration import watch

    poses = np.stack([rigid.translation([k, 0, 0]) @ case.initial for k in range(11)])
    values = np.arange(120.0).reshape(10, 12)
    result = dataclasses.make_dataclass("Result", ["trajectory", "values", "centre"])(poses, values, case.centre)
    shown = watch.scrubber(case.patient.fixed, case.patient.moving, result, case.patient.truth)
    assert shown.given["ticks"] == 10 and len(shown.given["values"]) == 10 and len(shown.given["values"][0]) == 12
    assert [c["name"] for c in shown.given["curves"]] == ["error (mm)", "likeness (-1 to 1)"]
    first, pictures = shown.desk.answer({"ask": 1, "do": ["show"], "view": {"tick": 0}})
    later, moved = shown.desk.answer({"ask": 2, "do": [], "view": {"tick": 10}})
    assert (first["step"], later["step"]) == (0, 10) and "tx +10.0 mm" in later["words"][0]
    assert len(pictures) == 6 and len(moved) == 3 and moved[0] != pictures[0]


def test_the_saliency_map_lies_where_the_network_looks():
    from lib.registration.watch import Attention, WalkDesk

    maps = np.zeros((2, 16, 16, 16), dtype=np.float32)
    maps[1, 8:, 8:, 8:] = np.random.default_rng(0).random((8, 8, 8)) + 1
    looked = Attention(np.array([0, 10]), maps, np.zeros(3), 6.0)
    desk = WalkDesk(volume(), volume(), np.zeros(3), {"it": np.stack([np.eye(4)] * 11)}, looked)
    _, pictures = desk.answer({"ask": 1, "do": [], "view": {"tick": 9, "attention": True, "point": [20, 20, 20]}})
    heat = np.frombuffer(pictures[-3], np.int16).reshape(192, 192)  # axial: left and back are right and down
    assert heat[96:, 96:].max() > 200 and heat[:90].max() == 0 and heat[:, :90].max() == 0


# Files and progress


def test_an_empty_path_is_told_what_to_do():
    from lib.registration import live

    assert live.chosen(("", "")) is None
    assert live.chosen(("", "ct.nii"), (SimpleNamespace(selected="cbct.nii"), None)) == ("cbct.nii", "ct.nii")
    with pytest.raises(UserError, match="The CT is missing"):
        live.chosen(("cbct.nii", ""))


def test_progress_counts_the_steps(capsys):
    from lib.registration import live

    model = torch.nn.Linear(2, 2)
    player = SimpleNamespace(coarse=SimpleNamespace(model=model), fine=None)
    with live.progress(player, SimpleNamespace(coarse_steps=5, fine_steps=0)):
        for _ in range(5):
            model(torch.zeros(1, 2))
    model(torch.zeros(1, 2))
    assert capsys.readouterr().out == "the agent looked 5 times\n"


def test_a_chooser_that_is_made_again_holds_what_was_chosen(tmp_path, monkeypatch):
    from lib.registration import live

    (tmp_path / "ct.nii").write_text("")
    monkeypatch.setattr(live, "_CHOSEN", {})
    monkeypatch.setenv("HOME", str(tmp_path))
    first = live.chooser("Your CT")
    assert first.selected is None
    first._select.click()
    first._dircontent.value = "ct.nii"
    first._select.click()
    assert first.selected == str(tmp_path / "ct.nii")
    assert live.chooser("Your CT").selected == first.selected and live.chooser("Your cone-beam CT").selected is None


def test_the_bar_moves_with_the_steps(monkeypatch):
    import IPython.display

    from lib.registration import live

    bars, model = [], torch.nn.Linear(2, 2)
    monkeypatch.setattr(live, "is_interactive", lambda: True)
    monkeypatch.setattr(IPython.display, "display", bars.append)
    player = SimpleNamespace(coarse=SimpleNamespace(model=model), fine=SimpleNamespace(model=torch.nn.Linear(2, 2)))
    seen = []
    with live.progress(player, SimpleNamespace(coarse_steps=5, fine_steps=2)):
        for _ in range(3):
            model(torch.zeros(1, 2))
            seen.append(bars[0].value)
    assert seen == [1, 2, 3] and bars[0].max == 7 and bars[0].value == 7 and bars[0].description == "done"


def test_niivue_has_both_volumes_and_a_thin_crosshair(tmp_path, monkeypatch):
    from lib.registration import live

    at_exit = []
    monkeypatch.setattr(live.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(live.atexit, "register", lambda call, *words, **names: at_exit.append((call, words, names)))
    view = live.niivue(volume(), volume(), SimpleNamespace(pose=np.eye(4)))
    assert len(view.volumes) == 2 and view.opts.crosshair_width < 1 and view.opts.crosshair_width_unit == "mm"
    assert view.opts.is_radiological_convention
    assert len(list(tmp_path.glob("niivue-*/*.nii.gz"))) == 2
    for call, words, names in at_exit:
        call(*words, **names)
    assert not list(tmp_path.glob("niivue-*")), "nothing is left when the kernel ends"


def test_not_interactive_here():
    assert not by_hand.is_interactive()
