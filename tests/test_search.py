"""The search without learning: its correlation is the libraries', and it is not fooled as searches were."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from skimage.registration import phase_cross_correlation

from lib import rigid
from lib.baselines import fft_search, methods
from lib.baselines.settings import BaselineSettings, FftSearchSettings
from lib.images.ascent import Ascent
from lib.images.correlation import MaskedCorrelation
from lib.images.volume import Volume, gaussian, sample
from lib.registration import scouts

OPTIONS = FftSearchSettings()


def images(seed=0, size=(18, 24, 22), part=(11, 13, 12), at=(5, 4, 7)):
    """An image with a hole in its mask, and a noisy cut of it at shift `at` with a mask of its own."""
    rng = np.random.default_rng(seed)
    image = gaussian(torch.as_tensor(rng.normal(size=size)), [1.2] * 3).numpy()
    image /= image.std()
    mask = np.ones(size, dtype=bool)
    mask[:3, 10:, 5:9] = False
    cut = tuple(slice(a, a + n) for a, n in zip(at, part, strict=True))
    template = 0.7 * image[cut] + 0.3 + rng.normal(0, 0.2, part)
    seen = rng.random(part) > 0.1
    return image, mask, template, seen, np.array(at)


def by_library(image, mask, template, seen):
    """SimpleITK's map at the shifts that keep the template within the image."""
    values = [sitk.GetImageFromArray(a.astype(np.float64)) for a in (image, template, mask, seen)]
    found = sitk.MaskedFFTNormalizedCorrelation(*values, 0)
    first = [n - 1 for n in template.shape]
    return sitk.GetArrayFromImage(found)[tuple(slice(a, n) for a, n in zip(first, image.shape, strict=True))]


def test_the_map_is_that_of_the_library():
    image, mask, template, seen, at = images()
    ours, count = MaskedCorrelation(image, mask, least=1e-6)(template, seen)
    theirs = by_library(image, mask, template, seen)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 2e-4
    assert np.array_equal(np.unravel_index(ours.argmax(), ours.shape), at) and ours.max() > 0.9
    here = tuple(slice(a, a + n) for a, n in zip(at, template.shape, strict=True))
    assert round(float(count[tuple(at)])) == int((mask[here] & seen).sum())


def test_the_best_shift_is_that_of_the_other_library():
    image, mask, template, seen, at = images(seed=1)
    ours, _ = MaskedCorrelation(image, mask, least=1e-6)(template, seen)
    shift, _, _ = phase_cross_correlation(
        image, template, reference_mask=mask, moving_mask=seen, overlap_ratio=0.9, disambiguate=False
    )
    shift += (np.array(image.shape) - template.shape) / 2  # there shifts are counted between the middles
    assert np.array_equal(np.unravel_index(ours.argmax(), ours.shape), shift) and np.array_equal(shift, at)


def test_a_flat_region_does_not_win():
    """Where the image is flat but for a trace of the template its correlation is perfect; the floor says it is flat."""
    image, mask, template, seen, at = images()
    flat = np.array([6, 11, 9])
    image[6:17, 11:24, 9:21] = 1e-3 * template
    wins = {}
    for least in (1e-12, OPTIONS.floor):
        score, _ = MaskedCorrelation(image, np.ones_like(mask), least)(template, seen)
        wins[least] = np.unravel_index(score.argmax(), score.shape)
    assert np.array_equal(wins[1e-12], flat) and not np.array_equal(wins[OPTIONS.floor], flat)


def test_no_rotation_is_far_from_the_lattice():
    points = fft_search.lattice(30, 20)
    anywhere = np.random.default_rng(0).uniform(-30, 30, (4000, 3))
    gap = np.linalg.norm(anywhere[:, None] - points, axis=-1).min(axis=1)
    assert len(points) == 91 and np.abs(points).max() <= 30 and (points == 0).all(axis=1).any()
    assert gap.max() < 15 and np.quantile(gap, 0.95) < 11.2  # 11.2 inside; a little more at the rim
    cubic = np.stack(np.meshgrid(*[np.arange(-30, 31, 15)] * 3), axis=-1).reshape(-1, 3)
    assert len(cubic) > len(points) and np.linalg.norm(anywhere[:, None] - cubic, axis=-1).min(axis=1).max() > 12


def spine(points: torch.Tensor) -> torch.Tensor:
    """HU at points (..., 3): a body with nine vertebrae 34 mm apart, alike but for a rib more or less, a wedge, a spur."""
    x, y, z = points.unbind(-1)
    hu = torch.where((x / 110) ** 2 + (y / 80) ** 2 < 1, 40.0, -1000.0)
    for n in range(-4, 5):
        up = z - 34.0 * n
        hu = torch.where(((x / 20) ** 2 + ((y - 35) / 15) ** 2 < 1) & (up.abs() < 12 + 0.8 * n), 350.0, hu)
        hu = torch.where((x.abs() < 4) & ((y - 58).abs() < 12) & ((up + 4).abs() < 7), 500.0, hu)
        hu = torch.where((x.abs() < 32 - 2 * n) & ((y - 46).abs() < 4) & (up.abs() < 4), 400.0, hu)
    return torch.where(((x - 24) ** 2 + (y - 30) ** 2 < 30) & ((z - 8).abs() < 10), 500.0, hu)


@pytest.fixture(scope="module")
def pair():
    """(CBCT, CT, truth): the CBCT sees four levels, in its own grey values, with noise and a flat lower third of air."""
    moving = Volume(torch.zeros(80, 48, 60), 4.0, [-118.0, -94.0, -158.0])
    moving = moving.with_array(gaussian(spine(moving.points()), [0.6] * 3))
    truth = rigid.translation([40.0, -300.0, 500.0]) @ rigid.params_to_matrix(np.array([0, 0, 0, 4.0, -3.0, 6.0]))
    fixed = Volume(torch.zeros(36, 48, 48), 4.0, np.array([40.0, -280.0, 500.0]) - 94.0 + [0, 0, 24.0])
    points = fixed.points()
    there = torch.as_tensor(rigid.apply(rigid.invert(truth), points.numpy().reshape(-1, 3))).float()
    hu = sample(moving, there).reshape(fixed.array.shape)
    hu = 0.8 * hu - 60 + 30 * torch.randn(hu.shape, generator=torch.Generator().manual_seed(0))
    inside = (points[..., :2] - torch.tensor([40.0, -280.0])).norm(dim=-1) < 88
    return fixed.with_array(torch.where(inside, hu, torch.tensor(-1500.0))), moving, truth


def error(pose, pair) -> float:
    """Mean distance (mm) over a lattice in the field of view."""
    fixed, _, truth = pair
    steps = [-50.0, 0.0, 50.0]
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3) + fixed.centre
    return float(np.linalg.norm(rigid.apply(pose @ rigid.invert(truth), lattice) - lattice, axis=1).mean())


def started(pair, *state) -> np.ndarray:
    return rigid.about(rigid.params_to_matrix(np.array(state, dtype=float)), pair[0].centre) @ pair[2]


@pytest.mark.parametrize(
    "state", [(5, -4, 34, 3, -2, 3), (-10, 8, -34, 0, 5, 0), (25, -30, 100, 22, -25, 20), (0, 0, 130, 30, 0, 0)]
)
def test_finds_its_vertebra_from_the_next_one(pair, state):
    """One vertebra off is where optimisers end that begin there; all vertebrae are alike here but for details."""
    fixed, moving, _ = pair
    start = started(pair, *state)
    found = fft_search.search(fixed, moving, start, OPTIONS)
    assert error(start, pair) > 30 and error(found.poses[0], pair) < 2.0
    assert found.likeness[0] == found.likeness.max()
    settings, rng = BaselineSettings(), np.random.default_rng(0)
    assert error(methods.load("itk_tuned")(fixed, moving, start, settings, None, rng).pose, pair) > 20


def test_the_method_does_what_the_search_does(pair):
    fixed, moving, truth = pair
    settings = BaselineSettings()
    result = methods.load("fft_search")(fixed, moving, started(pair, 5, -4, 5, 3, -2, 3), settings)
    assert error(result.pose, pair) < 2.0 and error(rigid.invert(result.pose), pair) > 100 and result.note == ""


def test_a_heart_is_looked_for_further_across_and_a_spines_rows_stay_as_they_are(pair):
    """It lay 101 mm to the side at starts that were lost."""
    fixed, moving, _ = pair
    start = started(pair, 100, 0, 0, 0, 0, 0)
    spine, heart = (BaselineSettings(anatomy=name) for name in ("spine", "heart"))
    search = methods.load("fft_search")
    assert error(search(fixed, moving, start, spine).pose, pair) > 50
    assert error(search(fixed, moving, start, heart).pose, pair) < 40  # all of this CT, not bone: a vertebra off
    assert min(error(pose, pair) for pose in scouts.search(fixed, moving, start, bone=True)) > 50
    assert min(error(pose, pair) for pose in scouts.search(fixed, moving, start, bone=False)) < 40
    read = [methods.settings_of("fft_search", asdict(one)) for one in (spine, heart)]
    assert read == [{"fft_search": asdict(OPTIONS)}, {"fft_search": asdict(heart.fft_search_heart)}]


def test_beyond_its_reach_it_does_not_find(pair):
    fixed, moving, _ = pair
    near = replace(OPTIONS, reach=(20.0, 20.0, 20.0))
    assert error(fft_search.search(fixed, moving, started(pair, 0, 0, 100, 0, 0, 0), near).poses[0], pair) > 50


def test_climbing_reaches_the_optimum_of_many_poses_at_once(pair):
    fixed, moving, truth = pair
    starts = np.stack([started(pair, *v) for v in ([4, -3, 4, 3, -3, 2], [0] * 6, [-5, 2, 3, -4, 2, 4])])
    ascent = Ascent(fixed, moving, fixed.centre, truth, (130.0, 130.0, 130.0))
    before, count = ascent.likeness(starts)
    ends, after = ascent.climb(starts, 12)
    assert (after >= before - 1e-6).all() and after.min() > 0.8 and (count > 500).all()
    assert max(error(end, pair) for end in ends) < 1.0 and error(starts[0], pair) > 5
    away, alike = ascent.climb(rigid.translation([500.0, 0, 0])[None] @ truth, 3)
    assert alike[0] == -1 and np.isfinite(away).all()
