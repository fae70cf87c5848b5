"""The judge takes the right place whoever found it, and says when it cannot tell."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import Volume, gaussian, sample
from lib.registration.judge import JudgeSettings, judge
from lib.registration.judged import JudgedLimits


def column(points: torch.Tensor, alike: bool, left: bool = False) -> torch.Tensor:
    """HU at points (..., 3): a body and five vertebrae 34 mm apart; alike to the last voxel, or each with its own. left: it
    has bone on its left that is not on its right."""
    x, y, z = points.unbind(-1)
    hu = torch.where((x / 80) ** 2 + (y / 70) ** 2 < 1, 40.0, -1000.0)
    for n in range(-3, 4):
        up, own = z - 36.0 * n, 0.0 if alike else 2.0 * n
        hu = torch.where(((x / (20 + own)) ** 2 + ((y - 25) / 15) ** 2 < 1) & (up.abs() < 11 + own / 2), 400.0, hu)
        hu = torch.where((x.abs() < 30 - 3 * own) & ((y - 40 - own).abs() < 6) & (up.abs() < 5), 500.0, hu)
    if left:
        for z0, y0 in ((-20, -15), (8, 5), (31, -5)):
            hu = torch.where(((x - 45).abs() < 12) & ((y - y0).abs() < 8) & ((z - z0).abs() < 7), 450.0, hu)
    return hu


def pair(alike: bool, left: bool = False):
    """(fixed, moving, truth): the CBCT sees two or three of the vertebrae."""
    moving = Volume(torch.zeros(64, 40, 44), 4.0, [-86.0, -78.0, -126.0])
    moving = moving.with_array(gaussian(column(moving.points(), alike, left), [0.6] * 3))
    truth = rigid.translation([10.0, -20.0, 300.0]) @ rigid.params_to_matrix(np.array([0, 0, 0, 3.0, -2.0, 4.0]))
    fixed = Volume(torch.zeros(24, 34, 36), 4.0, np.array([10.0, -20.0, 300.0]) - [70, 66, 46])
    there = torch.as_tensor(rigid.apply(rigid.invert(truth), fixed.points().numpy().reshape(-1, 3))).float()
    hu = sample(moving, there).reshape(fixed.array.shape)
    return fixed.with_array(hu + 20 * torch.randn(hu.shape, generator=torch.Generator().manual_seed(0))), moving, truth


@pytest.fixture(scope="module")
def told_apart():
    return pair(alike=False)


def off(fixed, truth, *state):
    return rigid.about(rigid.params_to_matrix(np.array(state, dtype=float)), fixed.centre) @ truth


def error(pose, fixed, truth) -> float:
    lattice = np.stack(np.meshgrid(*[[-30.0, 30.0]] * 3), axis=-1).reshape(-1, 3) + fixed.centre
    return float(np.linalg.norm(rigid.apply(pose @ rigid.invert(truth), lattice) - lattice, axis=1).mean())


@pytest.mark.parametrize("right", ["search", "agent"])
def test_the_right_place_wins_whoever_found_it(told_apart, right):
    fixed, moving, truth = told_apart
    wrong = {"search": "agent", "agent": "search"}[right]
    near = np.stack([off(fixed, truth, 4, -3, 3, 3, -2, 3), off(fixed, truth, 60, 0, 20, 0, 0, 0)])
    away = np.stack([off(fixed, truth, 0, 0, 36, 0, 0, 0), off(fixed, truth, 3, 2, -36, 0, 2, 0)])
    verdict = judge(fixed, moving, fixed.centre, {wrong: away, right: near})
    assert error(near[0], fixed, truth) > 5 and error(verdict.pose, fixed, truth) < 1.0
    assert verdict.places[0].scouts == (right,) and verdict.lead > 0.07
    assert [p.weighed for p in verdict.places] == sorted((p.weighed for p in verdict.places), reverse=True)


def test_scouts_that_agree_are_one_place(told_apart):
    fixed, moving, truth = told_apart
    found = {"search": off(fixed, truth, 3, 0, 2, 2, 0, 0), "agent": off(fixed, truth, -3, 2, 0, 0, -2, 2)}
    verdict = judge(fixed, moving, fixed.centre, found)
    assert set(verdict.places[0].scouts) == {"search", "agent"}
    assert verdict.lead < verdict.places[0].weighed  # over the next vertebra, which neither brought


@pytest.mark.parametrize("further", [1, -1, 2])
def test_the_next_vertebrae_are_asked_though_no_scout_brought_them(told_apart, further):
    fixed, moving, truth = told_apart
    wrong = off(fixed, truth, 1, -2, 36 * further, 0, 1, 0)
    verdict = judge(fixed, moving, fixed.centre, {"agent": wrong, "search": wrong})
    assert error(verdict.pose, fixed, truth) < 1.0 and verdict.places[0].scouts == (), "no scout was there"
    stubborn = replace(JudgeSettings(), again=0)
    assert error(judge(fixed, moving, fixed.centre, {"agent": wrong}, settings=stubborn).pose, fixed, truth) > 30


def test_it_says_that_it_cannot_tell():
    """Vertebrae that are alike to the last voxel: both scouts' places are as good, and the lead must tell."""
    fixed, moving, truth = pair(alike=True)
    found = {"search": off(fixed, truth, 0, 0, 0, 0, 0, 0), "agent": rigid_next(fixed, truth)}
    verdict = judge(fixed, moving, fixed.centre, found)
    assert len(verdict.places) >= 2 and verdict.lead < 0.05 < JudgedLimits().min_lead


def rigid_next(fixed, truth):
    """One vertebra further, along the CT's own axis."""
    return truth @ rigid.translation([0, 0, 36.0])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("none", None),
        ("mirrored", "left and right"),
        ("longer", "0.90 times as long"),
        ("shorter", "1.10 times as long"),
    ],
)
def test_a_ct_that_fits_better_otherwise_is_not_believed(change, word):
    """A CT with its left on its right was called good, and so was one with a tenth too much between its slices."""
    fixed, moving, truth = pair(alike=False, left=True)
    if change == "mirrored":
        moving = moving.with_array(moving.array.flip(2))
    elif change != "none":
        scale = 1.1 if change == "longer" else 1 / 1.1
        origin = np.array([-86.0, -78.0, -126.0 * scale])
        moving = Volume(moving.array, moving.spacing * [1, 1, scale], origin)
    verdict = judge(fixed, moving, fixed.centre, {"search": truth[None]})
    reasons = verdict.otherwise.reasons(0.3, bone=True)
    assert len(reasons) == (word is not None) and all(word in text for text in reasons), verdict.otherwise
    few = judge(fixed, moving, fixed.centre, {"search": truth[None]}, settings=JudgeSettings(points=400)).otherwise
    assert few.reasons(0.3, bone=True) == [], "too few points tell nothing"
    if change == "shorter":
        assert verdict.otherwise.reasons(0.3, bone=False) == verdict.otherwise.reasons(0.99, bone=True) == []


def test_a_mirrored_ct_is_told_where_the_spine_lies_beside_the_cbcts_middle():
    """The mirror stands at the CBCT's middle: it lays the spine twice as far aside, which was farther than it was looked for."""
    fixed, moving, truth = pair(alike=False, left=True)
    cut = 16  # voxels of 4 mm on one side: the middle is 32 mm beside the spine
    part = Volume(fixed.array[:, :, :-cut].contiguous(), fixed.spacing, fixed.origin)
    for image, told in ((moving, 0), (moving.with_array(moving.array.flip(2)), 1)):
        verdict = judge(part, image, part.centre, {"search": truth[None]})
        assert len(verdict.otherwise.reasons(0.3, bone=True)) == told, verdict.otherwise


def test_noise_is_not_believed(told_apart):
    fixed, moving, truth = told_apart
    noise = torch.randn(fixed.array.shape, generator=torch.Generator().manual_seed(1))
    verdict = judge(fixed.with_array(200 * noise), moving, fixed.centre, {"search": off(fixed, truth, *[0] * 6)})
    assert verdict.places[0].likeness < 0.25 < JudgedLimits().min_likeness


def test_what_cannot_be_judged_is_said(told_apart):
    fixed, moving, truth = told_apart
    with pytest.raises(UserError, match="no candidate"):
        judge(fixed, moving, fixed.centre, {"search": np.empty((0, 4, 4)), "agent": np.empty((0, 4, 4))})
    with pytest.raises(UserError, match="enough of the CT's bone"):
        far = replace(JudgeSettings(), reach=10.0)
        judge(fixed, moving, fixed.centre, {"search": off(fixed, truth, 900, 0, 0, 0, 0, 0)}, settings=far)
