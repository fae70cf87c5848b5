"""Other looks of the same anatomy: what they may change, and what not."""

import numpy as np
import pytest
import torch

from lib.augment import Stream, StreamSettings, TrainingPair
from lib.images import looks
from lib.images.looks import Looks
from lib.images.normalise import Source


@pytest.fixture(scope="module")
def windows():
    """(24, 16, 16, 16): soft tissue around a bright rod, and a part without data."""
    place = looks._places(16)
    images = torch.where(torch.hypot(place[0], place[1]) < 0.3, 0.8, -0.2).repeat(24, 1, 1, 1)
    valid = torch.ones_like(images, dtype=torch.bool)
    valid[:, :2] = False
    return images, valid


def drawn(share=1.0, seed=0, voxel=3.0):
    return Looks(share, voxel, torch.Generator().manual_seed(seed))


def test_each_window_has_a_look_of_its_own_and_the_seed_decides(windows):
    images, valid = windows
    one, again = (drawn()(*windows) for _ in range(2))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert len({round(float(window.std()), 6) for window in one[0]}) > 20
    assert float(one[0].abs().max()) <= 1.5 and not one[1][:, :2].any(), "no data stays no data"
    assert torch.equal(images, windows[0]) and bool(valid[:, 2:].all()), "what came in is as it was"


def test_share_says_how_many(windows):
    images, valid = windows
    assert torch.equal(drawn(0.0)(images, valid)[0], images)
    big = images.repeat(20, 1, 1, 1), valid.repeat(20, 1, 1, 1)
    changed = (drawn(0.5)(*big)[0] != big[0]).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.5, abs=0.08)


def test_curves_are_monotone_and_keep_zero():
    ramp = torch.linspace(-1, 1, 64).repeat(30, 1)[:, :, None, None]
    found = drawn()._curve(ramp, None)[:, :, 0, 0]
    assert (found.diff(dim=1) > 0).all()
    assert found[:, 32].abs().max() < 0.1 and (found[:, 0] < 0).all() and (found[:, -1] > 0).all()
    ratio = found[:, -1] / -found[:, 0]
    assert ratio.min() < 0.8 and ratio.max() > 1.2, "bone and soft tissue have gains of their own"


def test_blur_keeps_the_mean_moves_nothing_and_has_a_direction():
    points = torch.zeros(40, 15, 15, 15)
    points[:, 7, 7, 7] = 1.0
    found = drawn(voxel=1.5)._blur(points, None)
    assert torch.allclose(found.sum(dim=(1, 2, 3)), torch.ones(40), atol=1e-5)
    axis = torch.arange(15.0) - 7
    for k, keep in enumerate(((2, 3), (1, 3), (1, 2))):
        along = found.sum(dim=keep)
        assert (along * axis).sum(dim=1).abs().max() < 1e-5
        width = (along * axis.square()).sum(dim=1).sqrt() * 1.5
        assert width.min() < 0.6 and 1.5 < width.max() <= 3.0, f"mm, along axis {k}"


def test_bias_rings_and_streaks_are_as_strong_as_they_may_be(windows):
    images, place = windows[0], looks._places(16)
    most = {"_bias": 3 * looks.BIAS + 3 * looks.BIAS * 2 / 3, "_rings": looks.RINGS, "_streaks": looks.STREAKS}
    for name, limit in most.items():
        change = getattr(drawn(), name)(images, place) - images
        assert 0.1 * limit < change.abs().max() <= limit + 1e-5, name
        assert len(set(np.round(change.flatten(1).abs().mean(dim=1).numpy(), 6))) > 20


def test_fields_of_view_are_cylinders_that_keep_something():
    views = drawn()._view(50, looks._places(24))
    assert torch.equal(views[:, :1].expand_as(views), views), "the same in every slice"
    share = views.float().mean(dim=(1, 2, 3))
    assert share.min() > 0.1 and share.max() > 0.9 and share.median() < 0.8


def test_the_stream_changes_the_looks_of_cone_beam_windows_alone():
    codes = torch.randint(-100, 100, (44, 44, 44), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    affine = np.diag([3.0, 3.0, 3.0, 1.0]) + np.c_[np.zeros((4, 3)), [-66, -66, -66, 0]]
    pair = TrainingPair("p", Source(codes, affine), Source(codes, affine), np.eye(4), np.zeros((1, 3)))
    drawn = {}
    for share in (0.0, 1.0):
        settings = StreamSettings(window=16, perturb=False, poses_per_window=1, looks=share)
        drawn[share] = Stream([pair], settings, "spine", "fine", "two_channel", seed=5).sample(8)
    (fixed, moved, valid, v), (fixed_looks, moved_looks, valid_looks, v_looks) = drawn[0.0], drawn[1.0]
    assert torch.equal(moved, moved_looks) and torch.equal(v, v_looks), "the CT and the labels stay"
    assert (fixed != fixed_looks).flatten(1).any(dim=1).all() and valid_looks.sum() < valid.sum()
