"""Search and agent under one judge, through the whole `register`: who carries where the other fails, and what is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import rigid
from lib.agent import AgentResult, RollOut
from lib.base.errors import UserError
from lib.images.volume import Volume, gaussian, sample
from lib.registration import judged, register, report, trust
from tests.test_judge import column, error, off, told_apart  # noqa: F401
from tests.test_register import agent  # noqa: F401

QUICK = register.RegisterSettings(starts=2, coarse_steps=4, fine_steps=2)


def walks_to(monkeypatch, *ends):
    """An agent whose starts end at these poses (4, 4), whatever it sees."""

    def roll_out(player, fixed, moving, poses, centre, settings, threads):
        paths = [np.stack([poses[0], *[end] * 4]) for end in ends]
        return [AgentResult(RollOut(path, np.eye(12)[:4], centre)) for path in paths]

    monkeypatch.setattr(register, "roll_out", roll_out)


@pytest.mark.parametrize("away", [(0, 0, 36, 0, 0, 0), (60, 0, 25, 0, 10, 0)], ids=["one vertebra off", "walked away"])
def test_search_and_judge_carry_where_every_start_of_the_agent_fails(told_apart, agent, monkeypatch, away):  # noqa: F811
    """Started at the exact place, where agents have walked away from. Here the search, too, is off by whole vertebrae."""
    fixed, moving, truth = told_apart
    wrong = off(fixed, truth, *away)
    walks_to(monkeypatch, wrong, wrong)
    alone = register.register(fixed, moving, initial=truth, agent=agent, settings=replace(QUICK, scouts="agent"))
    assert error(alone.pose, fixed, truth) > 30 and alone.found_by == "agent"
    both = register.register(fixed, moving, initial=truth, agent=agent, settings=QUICK)
    assert error(both.pose, fixed, truth) < 1.0 and both.found_by == "judge"
    assert both.trust.agreement == 0 and both.trust.scouts == 0 and both.trust.lead > 0.05
    assert "the judge found this place" in both.note
    np.testing.assert_allclose(both.trajectory[-1], wrong)  # the path stays the agent's
    if away[2] == 36:  # the vertebrae of this phantom are nearly alike, and that is said
        assert both.trust.verdict == "do not trust" and "(lead 0." in both.trust.sentence()


def test_the_agent_carries_what_the_search_does_not_reach(told_apart, agent, monkeypatch):  # noqa: F811
    fixed, moving, truth = told_apart
    far = off(fixed, truth, 0, 0, 0, 0, 0, 170)
    walks_to(monkeypatch, far, off(fixed, truth, 3, -2, 2, 2, 0, 1))
    found = register.register(fixed, moving, initial=far, agent=agent, settings=QUICK)
    assert error(found.pose, fixed, truth) < 1.0 and found.found_by == "agent" and found.trust.agreement == 0.5
    assert error(found.trajectory[-1], fixed, truth) < 6 and not found.note


def test_without_common_coordinates_the_whole_ct_is_searched(agent):  # noqa: F811
    """The place lies 470 mm from the CT's middle, where such a start puts the CBCT; the search had looked 160 mm about it."""
    moving = Volume(torch.zeros(300, 40, 44), 4.0, [-86.0, -78.0, -126.0])
    moving = moving.with_array(gaussian(column(moving.points(), False), [0.6] * 3))
    truth = rigid.translation([10.0, -20.0, 2000.0]) @ rigid.params_to_matrix(np.array([0, 0, 0, 3.0, -2.0, 4.0]))
    fixed = Volume(torch.zeros(24, 34, 36), 4.0, np.array([10.0, -20.0, 2000.0]) - [70, 66, 46])
    there = torch.as_tensor(rigid.apply(rigid.invert(truth), fixed.points().numpy().reshape(-1, 3))).float()
    fixed = fixed.with_array(sample(moving, there).reshape(fixed.array.shape))
    found = register.register(fixed, moving, agent=agent, settings=replace(QUICK, scouts="search"))
    assert abs(fixed.centre[2] - (truth @ [*moving.centre, 1.0])[2]) > 450
    assert error(found.pose, fixed, truth) < 1.0


def test_both_from_a_vertebra_away(told_apart, agent):  # noqa: F811
    """The truth is known; the untrained agent wanders."""
    fixed, moving, truth = told_apart
    start = off(fixed, truth, 12, -9, 40, 8, -6, 9)
    found = register.register(fixed, moving, initial=start, agent=agent, settings=QUICK)
    assert error(found.pose, fixed, truth) < 1.0 and found.trust.likeness > 0.5 and found.trust.lead > 0.07
    assert {"agent", "search", "judging"} <= set(found.seconds)
    said = found.summary()
    assert said["found_by"] == found.found_by and not said["calibrated"] and said["settings"]["scouts"] == "both"
    assert set(said["numbers"]) == set(judged.NUMBERS)


def test_a_flat_part_of_the_body_does_not_win():
    """Above the vertebrae the CT is nothing but soft tissue: without a floor on the variance it is like anything."""
    moving = Volume(torch.zeros(100, 40, 44), 4.0, [-86.0, -78.0, -126.0])
    points = moving.points()
    hu = column(points, False)
    soft = torch.where((points[..., 0] / 80) ** 2 + (points[..., 1] / 70) ** 2 < 1, 40.0, -1000.0)
    moving = moving.with_array(gaussian(torch.where(points[..., 2] > 110, soft, hu), [0.6] * 3))
    truth = rigid.translation([10.0, -20.0, 300.0])
    fixed = Volume(torch.zeros(24, 34, 36), 4.0, np.array([10.0, -20.0, 300.0]) - [70, 66, 46])
    there = torch.as_tensor(rigid.apply(rigid.invert(truth), fixed.points().numpy().reshape(-1, 3))).float()
    noise = 20 * torch.randn(fixed.array.shape, generator=torch.Generator().manual_seed(0))
    fixed = fixed.with_array(sample(moving, there).reshape(fixed.array.shape) + noise)
    start = rigid.translation([0, 0, -110.0]) @ truth  # the flat part lies in view
    found = register.register(fixed, moving, initial=start, settings=replace(QUICK, scouts="search"))
    assert error(found.pose, fixed, truth) < 1.0 and found.found_by == "search"


def test_the_search_needs_no_agent(told_apart, tmp_path):  # noqa: F811
    fixed, moving, truth = told_apart
    way = replace(QUICK, scouts="search")
    found = register.register(fixed, moving, initial=truth, agent=tmp_path / "none", settings=way)
    assert error(found.pose, fixed, truth) < 1.0 and found.ends.shape == (0, 4, 4) and "agent" not in found.seconds
    assert found.trajectory.shape == (2, 4, 4) and found.values.shape == (1, 12) and found.parameters().shape == (2, 6)
    report.write_html(tmp_path / "r.html", fixed, moving, found)
    page = (tmp_path / "r.html").read_text()
    assert (
        page.count("data:image/png;base64,") == 3
        and "the judge, next to where the scouts ended" in page
        and "The agent" not in page
    )


def test_scouts_that_are_none_end_in_a_sentence(told_apart, agent):  # noqa: F811
    fixed, moving, _ = told_apart
    with pytest.raises(UserError, match="no scout 'searches'; choose agent or search"):
        register.register(fixed, moving, agent=agent, settings=replace(QUICK, scouts="searches"))


def test_the_heart_is_searched_without_bone(told_apart):  # noqa: F811
    fixed, moving, truth = told_apart
    soft = [volume.with_array(volume.array.clamp(max=150)) for volume in (fixed, moving)]
    found = register.register(*soft, "heart", initial=truth, settings=replace(QUICK, scouts="search"))
    assert error(found.pose, fixed, truth) < 2.0 and found.found_by == "search"
    said = [name for name, _, _ in found.trust.lines(0)]
    assert "likeness" in said and not any("bone" in line or "vertebra" in line for line in said)


def test_without_bone_nothing_is_judged_and_that_is_said(told_apart, agent):  # noqa: F811
    fixed, moving, truth = told_apart
    soft = moving.with_array(moving.array.clamp(max=150))
    found = register.register(fixed, soft, initial=truth, agent=agent, settings=QUICK)
    assert found.found_by == "agent" and "could not be compared" in found.trust.sentence()
    with pytest.raises(UserError, match="bone"):
        register.register(fixed, soft, initial=truth, settings=replace(QUICK, scouts="search"))


GOOD = {"overlap": 0.9, "agreement": 1.0, "scouts": 2.0, "likeness": 0.7, "lead": 0.3, "beside": 0.3, "shift": 0.0}


@pytest.mark.parametrize(
    ("changed", "rival", "words"),
    [
        ({"overlap": 0.1}, "", "inside the CT"),
        ({"likeness": 0.1}, "", "alike by 0.10 only"),
        ({"lead": 0.05}, "search", "another place is as likely (lead 0.05)"),
        ({"lead": 0.1, "scouts": 1.0}, "agent", "search and agent ended at different places"),
        ({"beside": -0.1}, "", "a vertebra further"),
        ({"shift": 8.0}, "", "+8 mm along the body"),
    ],
)
def test_each_number_can_turn_the_verdict(changed, rival, words):
    good = judged.judge(GOOD, "both")
    assert (
        good.verdict == "good" and "search and agent agree" in good.sentence() and "not calibrated" in good.sentence()
    )
    found_by = "search" if changed.get("scouts") == 1 else "both"
    bad = judged.judge(GOOD | changed, found_by, rival)
    assert bad.verdict == "do not trust" and len(bad.reasons) == 1 and words in bad.sentence()
    assert judged.judge(GOOD | {"lead": 0.1}, "both").verdict == "good"  # alone it would have to lead by more


def test_a_judged_calibration_stands_beside_its_network(tmp_path):
    network = tmp_path / "dsl_two_channel_coarse.safetensors"
    network.write_bytes(b"weights")
    kind = judged.JudgedLimits
    assert trust.load(tmp_path, network, judged.FILE, kind) == trust.Calibration(kind())
    from lib.base.provenance import sha256

    found = trust.Calibration(kind(min_lead=0.2), 80, 0.5, 1.0, 0.3, sha256(network))
    trust.save(found, tmp_path, judged.FILE)
    assert register.calibration_of(tmp_path, network, "both") == found
    assert register.calibration_of(tmp_path, network, "agent") == trust.Calibration()
    assert "of 40 calibration cases so judged 0 wrong" in judged.judge(GOOD, "both", "", found).sentence()


def test_a_bound_is_clopper_and_pearsons():
    from scipy.stats import binomtest

    for wrong, n in ((0, 20), (2, 184), (5, 80), (20, 20)):
        exact = binomtest(wrong, n).proportion_ci(0.95, "exact").high
        assert trust.at_most(wrong, n) == pytest.approx(exact, abs=1e-9)


def test_the_command_loads_no_statistics():
    """`scipy.stats` takes half a second to load, and a registration asks for no statistic."""
    import subprocess
    import sys

    code = "import sys, lib.registration.register, lib.registration.scouts; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=register.ROOT).returncode == 0


@pytest.mark.parametrize("value", [40.0, float("nan")])
def test_a_volume_without_an_image_is_refused_in_one_sentence(value):
    empty = Volume(torch.full((20, 20, 20), value), 8.0)
    with pytest.raises(UserError, match="The CBCT: "):
        register.register(empty, empty)
