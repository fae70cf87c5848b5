"""The second scanner: right place in every kind of scan, physics that can be seen, and no way into training."""

import ast
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import Volume
from lib.patients import population, rescan
from lib.patients.scanner import breathing, conebeam, orbit, second, spectrum
from lib.patients.scanner.detector import Panel
from lib.patients.scanner.scatter import Scatter
from lib.patients.scanner.second import TEST, TUNING, Draw, SecondScanner, simulate

ROOM = Path(second.__file__).parent
OWN = ("second", "spectrum", "scatter", "detector", "orbit", "breathing")
FANS = {"half": (1.0, 0, 0), "full": (0, 1.0, 0), "short": (0, 0, 1.0)}
# Nothing but geometry: a beam of one colour cannot be asked for, but water alone is corrected in full.
IDEAL = SecondScanner(
    fans=FANS["full"],
    views=72,
    pixel=8.0,
    height=(120.0, 120.0),
    voxel=(4.0, 4.0),
    slice=(4.0, 4.0),
    bow_tie=(0.0, 0.0),
    quanta=(1e14, 1e14),
    electronic=(0.0, 0.0),
    scatter=(0.0, 0.0),
    water_correction=(1.0, 1.0),
    lag=(0.0, 0.0),
    blur=(0.0, 0.0),
    uneven=(0.0, 0.0),
    banded=(0.0, 0.0),
    saturated=0.0,
    hann=(1.0, 1.0),
    hann_across=(1.0, 1.0),
    extend=(0.3, 0.3),
    breathing=0.0,
    scales=(1.0, 0.0, 0.0),
    gain=(1.0, 1.0),
    offset=(0.0, 0.0),
)
CENTRE = np.array([6.0, -4.0, 9.0])
BEADS = np.array([[45.0, 10, -14], [-50, 25, 12], [20, -55, 18], [-15, 40, -20], [0, 0, 0]])


def cylinder(radius=80.0, beads=(), spacing=4.0):
    """Water along z, with round beads (Gaussians of 6 mm) at mm from its middle, which is CENTRE."""
    size = np.array([50, 52, 60])
    volume = Volume(torch.zeros(*size[::-1].tolist()), spacing, CENTRE - spacing * (size - 1) / 2)
    points = volume.points().numpy() - CENTRE
    array = np.clip((radius - np.hypot(points[..., 0], points[..., 1])) / spacing + 0.5, 0, 1) * 1000 - 1000
    for bead in beads:
        array += 90 * np.exp(-((points - bead) ** 2).sum(-1) / (2 * 6.0**2))
    return volume.with_array(torch.from_numpy(array.astype(np.float32)))


def scan(settings, seed=0, body=None, **more):
    return simulate(cylinder() if body is None else body, CENTRE, np.random.default_rng(seed), settings, **more)


def rings(volume, centre=CENTRE):
    """Mean value in shells of 8 mm about the body's axis, near the middle slices."""
    points = volume.points().numpy() - centre
    near = np.abs(points[..., 2]) < 25
    shell = (np.hypot(points[..., 0], points[..., 1]) // 8).astype(int)
    values = volume.array.numpy()
    return np.array([values[near & (shell == n)].mean() for n in range(8)])


def found(volume, expected, reach=15.0):
    points, out = volume.points().numpy(), []
    for centre in expected:
        near = np.linalg.norm(points - centre, axis=-1) < reach
        values = volume.array.numpy()[near]
        weight = np.clip(values - np.percentile(values, 25), 0, None)
        out.append((points[near] * weight[:, None]).sum(0) / weight.sum())
    return np.array(out)


@pytest.mark.parametrize("fan", FANS)
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_is_where_it_was(fan, seed):
    """No flip, no half voxel: beads lie where the pose says, in a field of view that is turned and shifted."""
    pose = rigid.translation([20, -30, 40]) @ rigid.about(rigid.params_to_matrix([0, 0, 0, 4, -6, 7]), CENTRE)
    volume = scan(replace(IDEAL, fans=FANS[fan]), seed, cylinder(beads=BEADS), pose=pose)
    expected = rigid.apply(pose, BEADS + CENTRE)
    error = found(volume, expected) - expected
    assert np.abs(error.mean(0)).max() < 0.3 * 4.0
    assert np.linalg.norm(error, axis=1).max() < 0.5 * 4.0
    assert np.linalg.norm(volume.centre - expected[-1]) > 3  # shifted
    assert np.degrees(np.arccos((np.trace(volume.direction) - 1) / 2)) > 1  # turned


@pytest.mark.parametrize("fan", FANS)
def test_water_is_flat_without_scatter_and_cups_with_it(fan):
    plain = replace(IDEAL, fans=FANS[fan], shift=(0.0, 0.0), turn=(0.0, 0.0), tilt=(0.0, 0.0))
    flat = rings(scan(plain))
    assert np.abs(flat - flat.mean()).max() < 15 and abs(flat.mean()) < 25
    hard = rings(scan(replace(plain, water_correction=(0.0, 0.0))))
    assert hard[-1] - hard[0] > 15
    stray = rings(scan(replace(plain, scatter=(1.4, 1.4), removed=(0.0, 0.0))))
    assert stray[0] < flat[0] - 150 and (stray - flat)[7] - (stray - flat)[0] > 5


def test_a_bow_tie_is_corrected_but_for_its_colour():
    plain = replace(IDEAL, shift=(0.0, 0.0))
    assert np.abs(rings(scan(replace(plain, bow_tie=(20.0, 20.0)))) - rings(scan(plain))).max() < 60


def test_noise_falls_with_the_root_of_the_quanta():
    line = np.full((20, 16, 16), 0.03, np.float32)

    def noise(quanta):
        return float(np.std(Panel(quanta).lines(Panel(quanta).read(line, np.random.default_rng(0)), np.ones(16))))

    assert noise(1e4) / noise(1e6) == pytest.approx(10, rel=0.1)
    assert noise(1e6) == pytest.approx(1 / np.sqrt(0.03 * 1e6), rel=0.1)
    clean = scan(IDEAL).array
    low, high = (
        float((scan(replace(IDEAL, quanta=(q, q))).array - clean)[8:16, 18:34, 18:34].std()) for q in (50, 5000)
    )
    assert 7 < low / high < 14


def test_starvation_is_clipped_and_finite():
    panel = Panel(1e4, electronic=40.0)
    lines = panel.lines(panel.read(np.full((8, 8, 8), 1e-7, np.float32), np.random.default_rng(0)), np.ones(8))
    assert np.isfinite(lines).all() and lines.max() == pytest.approx(np.log(2e4), rel=1e-5)
    assert lines.std() > 0.5  # streaks


def test_uneven_elements_make_rings():
    uneven = replace(IDEAL, uneven=(0.02, 0.02), shift=(0.0, 0.0), turn=(0.0, 0.0), tilt=(0.0, 0.0))
    one, other = scan(uneven), scan(IDEAL.__class__(**{**uneven.__dict__, "uneven": (0.0, 0.0)}))
    change = one.array - other.array
    points = one.points().numpy() - CENTRE
    around = np.arctan2(points[..., 1], points[..., 0])
    shell = np.abs(np.hypot(points[..., 0], points[..., 1]) - 24) < 2.5
    middle = shell & (np.abs(points[..., 2]) < 3)
    halves = [float(change.numpy()[middle & (np.sign(around) == s)].mean()) for s in (-1, 1)]
    spread = float(change.numpy()[middle].std())
    radial = np.diff(rings(one.with_array(change)))
    assert np.abs(radial).max() > 8  # changes with the radius
    assert abs(halves[0] - halves[1]) < 0.05 * spread  # but not around: halves of different values would differ by 2


def test_lag_comes_late_and_blur_spreads():
    frames = np.zeros((30, 4, 9), np.float32)
    frames[10:, :, 4:] = 1
    read = Panel(np.inf, lag=0.1).read(frames, np.random.default_rng(0))
    assert read[9].max() == 0 and 0.85 < read[10, 0, 8] < 0.95 and read[29, 0, 8] > 0.99
    read = Panel(np.inf, blur=0.7).read(frames, np.random.default_rng(0))
    assert 0.1 < read[20, 0, 3] < 0.4 and read[20, 0, 8] == pytest.approx(1, abs=0.02)
    assert (Panel(1e9, saturation=0.3).lines(np.full((1, 1, 2), 0.8, np.float32), np.ones(2)) == 0).all()


def test_scatter_is_as_much_as_drawn_and_mostly_taken_away():
    line = np.zeros((3, 40, 60), np.float32)
    line[:, :, 10:50] = 0.0199 * 280
    primary, field = np.exp(-line), np.ones(60, np.float32)
    kernels = Scatter(1.45, 0.9, 30.0)
    stray = kernels.field(primary, field, 5.0)
    assert np.median((stray / primary)[:, :, 15:45]) == pytest.approx(1.45, rel=0.15)
    left = kernels.correct(primary + stray, stray, 5.0) - primary
    assert 0.02 < np.median((left / primary)[:, 15:25, 25:35]) < 0.35
    thin = Scatter(1.45, 0.9, 30.0).field(np.exp(-line / 3), field, 5.0) / np.exp(-line / 3)
    assert np.median(thin[:, :, 15:45]) < 0.6


def test_materials_keep_the_hounsfield_scale_and_bone_hardens():
    hu = np.array([-1000.0, -500, 0, 80, 300, 1000, 1580])  # to cortical bone; beyond it is too dense (`materials`)
    water, bone = spectrum.materials(hu)
    mu_water, mu_bone = (spectrum.at(t, spectrum.REFERENCE) for t in (spectrum.WATER, spectrum.BONE))
    assert (water * mu_water + bone * mu_bone) / mu_water * 1000 - 1000 == pytest.approx(hu, abs=1)
    assert bone[:4] == pytest.approx(0) and (np.diff(bone[3:]) > 0).all()
    beam = spectrum.Beam(115.0, np.zeros(2))
    thick = np.full((1, 1, 2), 200.0, np.float32)
    lines = -np.log(beam.transmit(thick, 0 * thick))
    assert beam.correct_water(lines, 1.0) == pytest.approx(mu_water * thick, rel=2e-3)
    per_mm = [
        float(-np.log(beam.transmit(np.full((1, 1, 2), t, np.float32), 0 * thick))[0, 0, 0] / t) for t in (20, 300)
    ]
    assert per_mm[0] > 1.08 * per_mm[1]  # the beam hardens on its way
    soft, hard = spectrum.Beam(100.0, np.zeros(1)), spectrum.Beam(125.0, np.zeros(1))
    assert soft.transmit(thick[..., :1], 0 * thick[..., :1]) < hard.transmit(thick[..., :1], 0 * thick[..., :1])


def test_breathing_moves_the_front_and_not_the_spine():
    body = cylinder(beads=[[0, 0, 0], [0, -65, 0]])
    out = breathing.phases(body, CENTRE + [0, 30, 0], 8.0)[-1]
    spine, front = (found(body.with_array(out), [CENTRE + p])[0] - CENTRE - p for p in ([0, 0, 0], [0, -65, 0]))
    assert abs(spine[2]) < 2 and -9 < front[2] < -4
    states = breathing.seen(600, 60.0, 15.0, 0.0)
    assert set(states) == set(range(breathing.PHASES)) and 14 <= np.sum(np.diff((states == 4).astype(int)) == 1) <= 16


def test_scans_repeat_by_their_seed_and_scales_differ():
    real = replace(TEST, views=48, pixel=10.0, voxel=(5.0, 5.6), slice=(5.0, 5.6), height=(100.0, 120.0))
    one = scan(real, 5)
    assert torch.equal(one.array, scan(real, 5).array) and not np.array_equal(one.array[0], scan(real, 6).array[0])
    for scales, low in (((1.0, 0, 0), -1000.0), ((0, 1.0, 0), 0.0), ((0, 0, 1.0), 0.0)):
        volume = scan(replace(real, scales=scales), 5)
        assert float(volume.array.min()) == low and float(volume.array[0, 0, 0]) == low
        assert -32768 < float(volume.array.max()) < 32767


def test_tuning_and_test_never_draw_the_same():
    draws = {p: [Draw(p, np.random.default_rng(n))((0.0, 8.0)) for n in range(200)] for p in ("tuning", "test")}
    assert set(np.floor(draws["tuning"]).astype(int)) == {0, 1, 4, 5}
    assert set(np.floor(draws["test"]).astype(int)) == {2, 3, 6, 7}
    assert TUNING.purpose == "tuning" and replace(TUNING, purpose="test") == TEST


def test_no_constant_is_shared_with_the_first_scanner():
    one = {f.name: f.default for f in fields(conebeam.ConeBeamSettings)}
    other = {f.name: f.default for f in fields(SecondScanner)}
    same = set(one) & set(other)
    assert same >= {"views", "height", "scatter", "gain", "offset"}
    for name in same:
        first, second_ = (set(np.atleast_1d(values[name]).tolist()) for values in (one, other))
        assert not first & second_, name
    for name in OWN:
        tree = ast.parse((ROOM / f"{name}.py").read_text())
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not modules & {"lib.patients.scanner.conebeam", "lib.patients.scanner.projector"}
    assert not np.intersect1d(conebeam.MU_WATER, spectrum.WATER).size
    assert not np.array_equal(orbit.GANTRY, conebeam.projector.TO_RTK)


def test_nothing_trains_on_it(tmp_path):
    with pytest.raises(UserError, match="first scanner only"):
        conebeam.draw_scanner(np.random.default_rng(0), TEST)
    for purpose in ("training", ""):
        with pytest.raises(UserError, match="nothing trains"):
            scan(replace(TEST, purpose=purpose))
    assert isinstance(population.PatientSettings().cone_beam(), conebeam.ConeBeamSettings)
    with pytest.raises(UserError, match="for tests only"):
        second.refuse({"scanner": second.MARK})
    second.refuse({})


def test_a_pair_of_the_second_scanner_makes_no_training_stream(tmp_path, monkeypatch):
    from lib.patients import store
    from lib.study import pairs

    volume = cylinder()
    patient = store.Patient("x", "spine", "y", volume, volume, np.eye(4), meta={"scanner": second.MARK})
    store.save(patient, tmp_path / "x")
    with pytest.raises(UserError, match="for tests only"):
        pairs._make(tmp_path / "x", "coarse", pairs.StreamSettings())


def test_the_day_is_the_same_for_both_scanners(monkeypatch):
    """Real patients can be had of either; the body's day and pose are the same, the scan is another."""
    seen = []
    monkeypatch.setattr(rescan, "simulate", lambda body, *a, **k: seen.append(body))
    monkeypatch.setattr(second, "simulate", lambda body, *a, **k: seen.append(body))
    found = [
        rescan.scan_again(cylinder(), None, None, CENTRE, np.random.default_rng(1), s) for s in (rescan.SCANNER, TEST)
    ]
    assert np.array_equal(found[0][1], found[1][1]) and torch.equal(seen[0].array, seen[1].array)


def test_who_asks_for_air_is_told():
    air = cylinder().with_array(torch.full((60, 52, 50), -1000.0))
    with pytest.raises(UserError, match="nothing but air"):
        scan(IDEAL, body=air)
    with pytest.raises(UserError, match="centred outside"):
        simulate(cylinder(), CENTRE + 500, np.random.default_rng(0), IDEAL)
