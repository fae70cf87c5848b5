"""The cone-beam scanner: right place, right scale, right behaviour of noise, truncation and motion."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import Volume
from lib.patients.scanner import cheap, conebeam, projector
from lib.patients.scanner.conebeam import CardiacSettings, ConeBeamSettings, simulate

IDEAL = ConeBeamSettings(
    spacing=3.0,
    views=90,
    detector_pixel=4.0,
    diameter=(240.0, 240.0),
    height=(120.0, 120.0),
    short_scan=0.0,
    photons=(1e12, 1e12),
    scatter=(0.0, 0.0),
    rings=0.0,
    extrapolation=(0.3, 0.3),
    ramp=(1.0, 1.0),
    gain=(1.0, 1.0),
    offset=(0.0, 0.0),
)
BLOBS = np.array([[45.0, 10, -20], [-50, 25, 15], [20, -55, 25], [-15, 40, -30], [0, 0, 0]])


def body(blobs=BLOBS, radius=85.0, length=260.0, spacing=3.0, hu=0.0, offset=(3.0, -7.0, 11.0)):
    """A water cylinder along z with dense Gaussian blobs at `blobs` mm from its centre, not centred in the
    world."""
    size = np.array([70, 64, int(length / spacing)])
    origin = np.array(offset) - spacing * (size - 1) / 2
    volume = Volume(torch.zeros(*size[::-1].tolist()), spacing, origin)
    points = volume.points().numpy() - np.array(offset)
    array = np.where(np.hypot(points[..., 0], points[..., 1]) < radius, hu, -1000.0)
    for blob in blobs:
        array += 140 * np.exp(-((points - blob) ** 2).sum(-1) / (2 * 6.0**2))
    return volume.with_array(torch.from_numpy(array.astype(np.float32)))


def found(volume: Volume, expected, reach=13.0):
    """Centre of mass of what stands out around each expected point."""
    points = volume.points().numpy()
    out = []
    for centre in expected:
        near = np.linalg.norm(points - centre, axis=-1) < reach
        values = volume.array.numpy()[near]
        weight = np.clip(values - np.percentile(values, 20), 0, None)
        out.append((points[near] * weight[:, None]).sum(0) / weight.sum())
    return np.array(out)


@pytest.mark.parametrize("short", [0.0, 1.0])
def test_everything_is_where_it_was(short):
    """No flip, no shift: blobs lie within 0.3 voxel of where the pose says, in full and short scans,
    tilted."""
    phantom, centre = body(), np.array([3.0, -7.0, 11.0])
    pose = rigid.translation([20, -30, 40]) @ rigid.about(rigid.params_to_matrix([0, 0, 0, 4, -6, 7]), centre)
    scan = simulate(phantom, centre, np.random.default_rng(0), replace(IDEAL, short_scan=short), pose=pose)
    expected = rigid.apply(pose, BLOBS + centre)
    error = found(scan, expected) - expected
    assert np.abs(error.mean(0)).max() < 0.3 * IDEAL.spacing
    assert np.linalg.norm(error, axis=1).max() < 0.5 * IDEAL.spacing


def test_a_cheap_scan_shows_everything_where_physics_shows_it(monkeypatch):
    monkeypatch.setattr(cheap, "NOISE", (1.0, 1.0))
    phantom, centre = body(), np.array([3.0, -7.0, 11.0])
    pose = rigid.translation([20, -30, 40]) @ rigid.about(rigid.params_to_matrix([0, 0, 0, 4, -6, 7]), centre)
    scan = cheap.simulate(phantom, centre, np.random.default_rng(0), IDEAL, pose)
    expected = rigid.apply(pose, BLOBS + centre)
    assert np.linalg.norm(found(scan, expected) - expected, axis=1).max() < 0.5 * IDEAL.spacing
    physics = simulate(phantom, centre, np.random.default_rng(0), IDEAL, pose=pose)
    assert scan.size == physics.size and np.allclose(scan.origin, physics.origin)
    assert torch.equal(scan.array > -1000, physics.array > -1000)


def test_water_is_near_zero_and_ends_are_repeated():
    phantom = body(blobs=[], length=100.0)  # shorter than the field of view
    scan = simulate(phantom, [3.0, -7.0, 11.0], np.random.default_rng(1), IDEAL)
    middle = scan.array[:, 30:50, 30:50]
    assert abs(float(middle.mean())) < 40
    assert abs(float(middle[0].mean() - middle[len(middle) // 2].mean())) < 60


def test_field_of_view_is_a_cylinder():
    scan = simulate(body(radius=200.0), [3.0, -7.0, 11.0], np.random.default_rng(2), IDEAL)
    seen = scan.array > -1000
    assert seen[:, 40, 40].all() and not seen[:, 0, 0].any()
    diameter = float(seen[20, 40].sum()) * IDEAL.spacing
    assert 234 <= diameter <= 246
    assert scan.centre == pytest.approx([3.0, -7.0, 11.0])
    assert torch.equal(seen[0], seen[-1])


def test_noise_follows_the_photons_and_the_seed():
    phantom = body(blobs=[])
    settings = replace(IDEAL, views=40, spacing=5.0, detector_pixel=6.0)

    def noise(photons, seed=3):
        noisy = replace(settings, photons=(photons, photons))
        return simulate(phantom, [3.0, -7.0, 11.0], np.random.default_rng(seed), noisy).array

    clean = noise(1e12)
    low, high = (float((noise(p) - clean)[:, 15:30, 15:30].std()) for p in (3e3, 3e5))
    assert 6 < low / high < 15  # ten, by Poisson
    assert torch.equal(noise(3e3), noise(3e3)) and not torch.equal(noise(3e3), noise(3e3, seed=4))


def test_bone_hardens_the_beam():
    line = np.full((1, 4, 4), 0.0193 * 200, np.float32)
    ideal, none = replace(IDEAL), np.zeros((1, 2, 2), np.float32)
    water = conebeam.detect(line, none, np.random.default_rng(0), ideal)
    assert water == pytest.approx(line, rel=2e-3)
    bone = conebeam.detect(line, none + 1.0, np.random.default_rng(0), ideal)
    assert float((bone - line).mean()) < -0.02  # the harder beam is weakened less than its line integral says


def test_motion_blurs():
    still = body()
    moved = body(blobs=BLOBS + [0, 12.0, 0])
    centre, rng = [3.0, -7.0, 11.0], np.random.default_rng
    sharp = simulate(still, centre, rng(5), IDEAL).array
    moving = simulate(still, centre, rng(5), IDEAL, phases=[still.array, moved.array]).array
    assert float(moving[18:22, 38:42, 38:42].max()) < 0.85 * float(sharp[18:22, 38:42, 38:42].max())


def test_a_gated_scan_holds_still_and_streaks():
    """Of a body that moves, a gated scan shows the mean state, from some of the views."""
    still = body()
    there = [still.array, torch.roll(still.array, 4, dims=1)]
    how = {f.name: getattr(IDEAL, f.name) for f in fields(IDEAL)} | {"gated_views": (0.3, 0.3)}
    blurred, sharp = (
        simulate(still, (3, -7, 11), np.random.default_rng(0), CardiacSettings(**how, gated=share), there)
        for share in (0.0, 1.0)
    )
    whole = simulate(still, (3, -7, 11), np.random.default_rng(0), IDEAL)
    blobs = BLOBS + (3, -7, 11)
    off = [np.abs(found(scan, blobs) - found(whole, blobs))[:, 1].mean() for scan in (sharp, blurred)]
    assert off[0] < 1.0 and off[1] > 2.0  # mm along y; streaks move them a little
    inside = whole.array[10:20, 30:50, 30:50].std()
    assert sharp.array[10:20, 30:50, 30:50].std() > 1.2 * inside
    scanner, _ = conebeam.draw_scanner(np.random.default_rng(0), IDEAL)
    few = conebeam.gated(scanner, 0.3, np.random.default_rng(0))
    assert len(few.angles) == 27 and np.ptp(few.angles) == np.ptp(scanner.angles) and not few.short


@pytest.mark.parametrize("centre", [[500.0, 0, 0], [0, 0, 900.0]])
def test_a_centre_outside_the_body_is_refused(centre):
    with pytest.raises(UserError, match="outside the body"):
        simulate(body(), centre, np.random.default_rng(0), IDEAL)


def test_air_is_refused():
    with pytest.raises(UserError, match="air"):
        simulate(body(blobs=[], hu=-1000.0), [3.0, -7.0, 11.0], np.random.default_rng(0), IDEAL)


@pytest.mark.parametrize("extrapolation", [0.0, 0.01, 0.024, 0.05, 1.0])
@pytest.mark.parametrize("short", [0.0, 1.0])
def test_every_voxel_is_a_number(extrapolation, short):
    settings = replace(IDEAL, views=24, spacing=8.0, detector_pixel=5.0, short_scan=short)
    settings = replace(settings, extrapolation=(extrapolation, extrapolation))
    scan = simulate(body(radius=100.0, spacing=6.0), [3.0, -7.0, 11.0], np.random.default_rng(7), settings)
    assert torch.isfinite(scan.array).all()


def test_rows_are_continued_by_less_than_their_width():
    """Over the whole width RTK reads one pixel past the row's end, whatever lies there: now and then not a number."""
    angles = np.arange(0.0, 360.0, 30.0)
    scanner = projector.Scanner(1000.0, 1500.0, angles, columns=40, rows=8, pixel=5.0)
    rows = np.random.default_rng(0).random((len(angles), 8, 40), dtype=np.float32)
    widest, whole = (projector.reconstruct(rows, scanner, (12, 12, 4), 8.0, 1.0, e) for e in (1 - 1 / 40, 1.0))
    assert np.isfinite(whole).all() and np.array_equal(whole, widest)


def test_a_scan_that_is_no_number_is_refused(monkeypatch):
    reconstruct = projector.reconstruct
    monkeypatch.setattr(projector, "reconstruct", lambda *words: reconstruct(*words) * np.float32("nan"))
    with pytest.raises(UserError, match="no numbers"):
        simulate(body(radius=60.0, spacing=6.0), [3.0, -7.0, 11.0], np.random.default_rng(0), IDEAL)


def test_what_was_added_for_many_scanners_changes_no_fingerprint_of_the_one():
    assert not {"bone_gain", "saturation"} & {field.name for field in fields(conebeam.ConeBeamSettings)}
    assert {"bone_gain", "saturation"} <= {field.name for field in fields(conebeam.ManyScanners)}
