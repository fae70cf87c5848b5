"""Values are never guessed twice (F4-F7): the same scan in HU, HU + 1024, attenuation and any scale is the same scan."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images import pair, read, values
from lib.images.normalise import field_of_view, tissue_level
from lib.images.volume import Volume
from lib.registration.judge import judge
from tests.field_files import HU, X, Y, folder

MIRROR = Path(os.environ.get("AGENT_REGISTRATION_MIRROR", Path(__file__).resolve().parents[2] / "shared" / "data"))
SCAN = MIRROR / "pancreatic_ct_cbct_001"


def as_volume(array) -> Volume:
    return Volume(torch.as_tensor(np.asarray(array), dtype=torch.float32), 4.0)


def mixed(*parts):
    """(mean, deviation, count) of each tissue."""
    rng = np.random.default_rng(0)
    return torch.as_tensor(np.concatenate([rng.normal(m, s, n) for m, s, n in parts]), dtype=torch.float32)


INSIDE = ((40, 25, 70000), (-95, 20, 25000), (250, 60, 5000))
WHOLE = ((-1000, 5, 60000), (40, 25, 30000), (-95, 20, 8000), (250, 60, 2000))


def test_stored_values_whose_padding_is_0_are_hu_1024_where_the_air_says_so():
    """0 to 4095 with an intercept of -1024 and 0 outside the circle was read as HU + 1000."""
    rng, outside = np.random.default_rng(1), (X - 24) ** 2 + (Y - 24) ** 2 > 23**2
    noisy = np.clip(HU + rng.normal(0, 8, HU.shape).round(), -1024, None)
    for added, pad in ((1024, 0), (1024, 24), (1000, 0)):
        found, meaning = values.settle(as_volume(np.where(outside, pad, noisy + added)), "ct")
        assert meaning.offset == -added, (added, pad)
        assert abs(float(found.array[HU == 40].mean()) - 40) < 2


@pytest.mark.parametrize("parts", [INSIDE, WHOLE])
@pytest.mark.parametrize("added", [0, 1000, 1024, -1024])
def test_f4_an_offset_is_tried_before_a_gain(parts, added):
    if parts is INSIDE and added < 0:
        pytest.skip("without air nothing tells a double rescale from another offset")
    gain, offset = tissue_level(mixed(*parts) + added)
    assert gain == pytest.approx(1, abs=0.02) and gain * (40 + added) + offset == pytest.approx(40, abs=12)


@pytest.mark.parametrize("kind", ["ct", "cbct"])
@pytest.mark.parametrize("added", [0, 1000, 1024, -1024])
def test_f4_f6_offsets_are_taken_away(kind, added):
    found, meaning = values.settle(as_volume(HU + added), kind)
    np.testing.assert_allclose(found.array.numpy(), HU, atol=24)
    assert (meaning.words == "") == (added == 0)
    if added in (0, -1024, 1024):
        np.testing.assert_array_equal(found.array.numpy(), HU)


@pytest.mark.parametrize("parts", [((55, 30, 65000), (1890, 90, 30000), (2700, 90, 5000))])
def test_attenuation_in_a_wide_field_of_view_is_not_taken_for_hounsfield(parts):
    """Mostly air near 0: the middle value lies where HU have tissue, but a twentieth is denser than any bone in HU."""
    scan = mixed(*parts).reshape(100, 100, 10)
    assert not values.looks_hounsfield(scan.flatten())
    found, meaning = values.settle(as_volume(scan), "cbct")
    levels = [float(found.array[(scan > low) & (scan < high)].median()) for low, high in ((0, 500), (1600, 2200))]
    assert meaning.guessed and levels == pytest.approx([-1000, 40], abs=60)
    gain, offset = tissue_level(scan.flatten())
    assert gain * 1890 + offset == pytest.approx(40, abs=20) and gain * 55 + offset == pytest.approx(-1000, abs=40)


def test_hounsfield_comes_back_untouched():
    for kind in ("ct", "cbct"):
        scan = as_volume(HU)
        assert values.settle(scan, kind)[0] is scan


@pytest.mark.parametrize(("scale", "guessed"), [(2e-5, False), (2e-4, False), (1 / 2000, True), (17.0, True)])
def test_f5_attenuation_and_any_scale(scale, guessed):
    array = (HU.astype(np.float32) + 1000) * np.float32(scale)
    found, meaning = values.settle(as_volume(array), "cbct")
    assert meaning.guessed == guessed and meaning.words
    np.testing.assert_allclose(found.array.numpy(), HU, atol=20)
    assert torch.equal(field_of_view(found), field_of_view(as_volume(HU)))
    for one in (as_volume(array), found):  # before it is brought to HU, too
        small = pair.shrink(one, 4.0, True).array
        assert len(torch.unique(small)) == len(torch.unique(pair.shrink(as_volume(HU), 4.0, True).array))


def test_a_ct_of_unknown_scale_is_refused():
    with pytest.raises(UserError, match="Hounsfield"):
        values.settle(as_volume((HU + 1000.0) * 17), "ct", "a.nii")
    found, meaning = values.settle(as_volume((HU + 1000.0) * 2e-5), "ct")
    assert "1/mm" in meaning.words and abs(float(found.array[12, 24, 24]) - 40) < 5


def test_f6_a_ct_rescaled_twice_keeps_its_air(tmp_path):
    image = sitk.GetImageFromArray((HU - 1024).astype(np.int16))
    image.SetSpacing((4, 4, 4))
    sitk.WriteImage(image, tmp_path / "a.nii.gz")
    found = read.read_image(tmp_path / "a.nii.gz", kind="ct")
    assert float(found.array.min()) == -1000 and "twice" in found.given.notes[0]
    assert float(pair.shrink(found, 2.0, False).array.min()) == -1000


def test_f7_monochrome1_means_its_stored_values(tmp_path):
    path = folder(tmp_path / "f7", lambda k: {"PhotometricInterpretation": "MONOCHROME1"})
    for kind in ("ct", "cbct"):
        np.testing.assert_array_equal(read.read_image(path, kind=kind).array.numpy(), HU)


def test_padding_of_a_cone_beam_scan_that_lost_its_intercept():
    """Found by reading: the padding's HU were compared with values that were not yet in HU."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:24, :48, :48]
    outside = (x - 24) ** 2 + (y - 24) ** 2 > 500
    noisy = HU + rng.normal(0, 8, HU.shape).round()
    found, _ = values.settle(as_volume(np.where(outside, 1024 + 500, noisy + 1024)), "cbct")
    assert (found.array.numpy()[outside] <= -1000).all()
    np.testing.assert_array_equal(found.array.numpy()[~outside], noisy[~outside])


def test_metal_does_not_come_round_at_the_other_end_of_16_bits():
    array = HU.copy() - 1024
    array[12, 24, 24] = 32700
    found, meaning = values.settle(Volume(torch.as_tensor(array), 4.0), "ct")
    assert meaning.offset == 1024 and found.array.dtype == torch.int16
    assert int(found.array[12, 24, 24]) == 32767 and int(found.array.min()) == -1000


@pytest.mark.parametrize("pad", [-3024, 0, 3071])
@pytest.mark.parametrize("kind", ["ct", "cbct"])
def test_padding_is_air_wherever_its_value_lies(pad, kind):
    """Found by trying: a scan cut out by a circle and filled with 0 HU was soft tissue from edge to edge."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:24, :48, :48]
    outside = (x - 24) ** 2 + (y - 24) ** 2 > 500
    noisy = HU + rng.normal(0, 8, HU.shape).round()
    found, _ = values.settle(as_volume(np.where(outside, pad, noisy)), kind)
    filled = found.array.numpy()[outside]
    assert (filled <= -1000).all()
    np.testing.assert_array_equal(found.array.numpy()[~outside], noisy[~outside])
    if kind == "cbct":
        assert 0.6 < float(field_of_view(found).float().mean()) < 0.75  # the circle alone


def test_rescale_of_each_slice_is_its_own(tmp_path):
    """Found by trying: slope and intercept that change from slice to slice (some reconstructions)."""

    def change(k):
        stored = (HU[k] + 1024 + 10 * k).astype("<u2").tobytes()
        return {"RescaleIntercept": str(-1024 - 10 * k), "PixelData": stored}

    np.testing.assert_array_equal(read.read_image(folder(tmp_path / "a", change), kind="ct").array.numpy(), HU)


def test_large_integer_images_stay_small(tmp_path):
    path = folder(tmp_path / "a")
    compact, full = (read.read_image(path, kind="ct", compact=c) for c in (True, False))
    assert compact.array.dtype == torch.int16 and full.array.dtype == torch.float32
    assert torch.equal(*(pair.shrink(v, 8.0, False).array for v in (compact, full)))
    assert torch.equal(*(pair.resample_moving(full, v, np.eye(4)).array.float() for v in (compact, full)))


CHANGES = {
    "HU + 1000": lambda a: a + 1000,
    "HU + 1024": lambda a: a + 1024,
    "1/mm": lambda a: (a + 1000) * 2e-5,
    "1/mm at another energy": lambda a: (a + 1000) * 1.88e-5,
    "any": lambda a: (a + 1000) * 0.37,
    "0.7x + 300": lambda a: 0.7 * a + 300,
}
EXACT = [("ct", "HU + 1000"), ("ct", "HU + 1024"), ("ct", "1/mm"), ("cbct", "HU + 1024"), ("cbct", "1/mm")]
# Of these nothing tells the gain but the image itself: the agent ends up to 1.6 mm elsewhere, the judge does not.
GUESSED = [("cbct", "any"), ("cbct", "0.7x + 300"), ("cbct", "1/mm at another energy")]


@pytest.fixture(scope="module")
def real():
    """The working images of the real pair, the agent, and where it ends of the images as they are."""
    from lib.registration import register

    images = {}
    for name, kind in (("cbct_CB02.nii.gz", "cbct"), ("planCT.nii.gz", "ct")):
        images[kind] = pair.shrink(read.read_image(SCAN / name, kind=kind), 3.0, kind == "cbct")
    settings = register.RegisterSettings(starts=1, coarse_steps=60, fine_steps=20, working_mm=3.0, scouts="agent")
    agent = register.load_agent(None, "spine", settings.agent, "agent")
    return images, lambda both: register.register(both["cbct"], both["ct"], agent=agent, settings=settings)


def moved(real, changes, end) -> dict:
    """mm between where `end`(images, registration) puts the images as they are and each of `changes`."""
    images, registered = real
    usual, found = end(images, registered(images)), {}
    for kind, unit in changes:
        other = images | {kind: images[kind].with_array(CHANGES[unit](images[kind].array))}
        found[kind, unit] = float(rigid.displacement(usual, end(other, registered(other)), images["cbct"].centre))
    return found


@pytest.mark.skipif(not SCAN.exists(), reason="the real pair is not on this machine (AGENT_REGISTRATION_MIRROR)")
def test_a_real_scan_registers_the_same_in_any_unit(real):
    """To 0.5 mm, with the released agent alone, from one start and a shortened walk."""
    found = moved(real, EXACT, lambda images, result: result.pose)
    assert max(found.values()) < 0.5, found


@pytest.mark.skipif(not SCAN.exists(), reason="the real pair is not on this machine (AGENT_REGISTRATION_MIRROR)")
def test_a_real_scan_is_judged_the_same_where_its_gain_is_a_guess(real):
    """To 0.5 mm, as the command answers: the agent's ends under the judge."""

    def judged(images, result):
        fixed = values.settle(images["cbct"], "cbct")[0]
        return judge(fixed, images["ct"], result.centre, {"agent": result.ends}).pose

    found = moved(real, GUESSED, judged)
    assert max(found.values()) < 0.5, found
