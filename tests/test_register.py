"""Registering a pair of one's own: images, starts, confidence, report, and transforms that others read the
same way."""

import html
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import lib
from lib import network, rigid
from lib.base.errors import UserError
from lib.base.provenance import sha256
from lib.figures import planes, volumes
from lib.images import pair
from lib.images.volume import Volume, read_transform, sample, write_transform
from lib.registration import register as registration
from lib.registration import report, trust

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(1)


def body(shape=(40, 60, 60), spacing=(4.0, 4.0, 4.0), origin=(-120, -120, -80)) -> Volume:
    """Air, a soft trunk, a spine of bright drums."""
    volume = Volume(torch.zeros(shape), spacing, origin)
    x, y, z = volume.points().unbind(-1)
    array = torch.where((x / 105) ** 2 + (y / 80) ** 2 < 1, 40.0, -1000.0)
    drums = ((x / 20) ** 2 + ((y - 40) / 16) ** 2 < 1) & ((z % 32) > 7)
    array[drums] = 350.0
    return volume.with_array(array + torch.from_numpy(RNG.normal(0, 5, shape)).float())


def cone(volume: Volume, pose: np.ndarray) -> Volume:
    """What a cone-beam scanner with the body at `pose` would show in a cylinder of 180 mm by 120 mm."""
    fixed = Volume(torch.zeros(34, 50, 50), (4.0, 4, 4), (-98, -98, -66))
    points = fixed.points()
    back = torch.as_tensor(rigid.invert(pose), dtype=torch.float32)
    array = sample(volume, points @ back[:3, :3].T + back[:3, 3]).clamp(min=-990)
    x, y, z = points.unbind(-1)
    return fixed.with_array(torch.where((x**2 + y**2 < 90**2) & (z.abs() < 60), array, torch.tensor(-1000.0)))


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """A folder with an untrained spine agent: it wanders, which is what the verdict must say."""
    folder = tmp_path_factory.mktemp("agent")
    torch.manual_seed(0)
    for stage, voxel in (("coarse", 8.0), ("fine", 4.0)):
        settings = network.NetworkSettings(32, "two_channel", filters=(4, 4, 4, 8, 8))
        meta = {"voxel": voxel, "source": 4.0, "experiment": "spine", "stage": stage}
        network.save(network.ActionValueNetwork(settings), folder / f"dsl_two_channel_{stage}.safetensors", meta)
    return folder


def quick(**changes):
    return registration.RegisterSettings(
        **{"starts": 2, "coarse_steps": 6, "fine_steps": 3, "scouts": "agent"} | changes
    )


def test_shrinking_keeps_world_places_and_padding():
    truth = np.eye(4)
    fixed = cone(body(), truth)
    small = pair.shrink(fixed, 8.0, True)
    assert small.array.min() == -1000 and small.spacing[0] == 8
    inside = small.array > -1000
    points = small.points()[inside]
    assert points[:, 2].abs().max() <= 62 and (points[:, :2].norm(dim=-1) < 94).all()
    ct = pair.shrink(body(), 8.0, False)
    np.testing.assert_allclose(ct.centre, body().centre, atol=1e-6)
    np.testing.assert_allclose(ct.array.mean(), body().array.mean(), atol=2)


def test_overlap_of_fields_of_view():
    moving = body()
    fixed = cone(moving, np.eye(4))
    assert pair.overlap(fixed, moving, np.eye(4)) > 0.98
    assert 0.3 < pair.overlap(fixed, moving, rigid.translation([0, 0, 80])) < 0.7
    assert pair.overlap(fixed, moving, rigid.translation([0, 0, 500])) == 0


def test_likeness_is_highest_at_the_truth():
    moving, truth = body(), rigid.params_to_matrix(np.array([6.0, -4, 9, 3, -2, 5]))
    fixed = cone(moving, truth)
    others = [rigid.translation(t) @ truth for t in ([12.0, 0, 0], [0, 12, 0], [0, 0, 14], [0, 0, 400])]
    found = pair.Likeness(fixed, moving, [0, 0, 0])(np.stack([truth, *others]))
    assert found[0] > 0.5 and found[0] > found[1:4].max() + 0.05
    assert np.isnan(found[4])  # outside the CT there is nothing to compare


def test_a_shift_along_the_body_and_the_next_vertebra_are_seen():
    """The drums of `body` repeat every 32 mm: the images alone cannot tell one from the next."""
    moving, truth = body(), np.eye(4)
    look = registration.Look(cone(moving, truth), moving, np.zeros(3))
    right, low, next_one = (look(rigid.translation([0, 0, z]) @ truth) for z in (0.0, -12.0, -32.0))
    assert right["shift"] == 0 and low["shift"] == 12 and right["likeness"] > low["likeness"] + 0.05
    assert abs(right["lead"]) < 0.15 and next_one["likeness"] > 0.5
    look.elsewhere = np.array([right["likeness"] + 0.1])
    assert look(truth)["lead"] < 0


def test_starts():
    moving, settings = body(), registration.RegisterSettings(starts=5)
    fixed = cone(moving, np.eye(4))
    poses = registration.starting_poses(fixed, moving, None, [0, 0, 0], "spine", settings)
    assert poses.shape == (5, 4, 4)
    np.testing.assert_allclose(poses[0], np.eye(4))  # the scanners' own coordinates overlap: they are believed first
    along = (poses @ np.array([0, 0, 0, 1.0]))[:, 2]
    np.testing.assert_allclose(sorted(along), [-40, -20, 0, 20, 40], atol=1e-9)  # a vertebra or two
    far = Volume(fixed.array, fixed.spacing, fixed.origin + 1000.0)
    poses = registration.starting_poses(far, moving, None, far.centre, "spine", settings)
    assert pair.overlap(far, moving, poses[0]) > 0.9
    with pytest.raises(UserError, match="do not overlap"):
        registration.starting_poses(fixed, moving, rigid.translation([0, 0, 900]), [0, 0, 0], "spine", settings)


def test_margin_wander_and_groups():
    still = np.repeat(np.eye(4)[None], 30, axis=0)
    assert trust.wander(still, [0, 0, 0]) == 0
    np.testing.assert_allclose(rigid.displacement(np.eye(4), rigid.translation([3, 4, 0]), [9, 9, 9]), 5)
    values = np.tile(np.r_[10.0, np.zeros(11)], (30, 1))
    assert trust.margins(values).min() > 3
    ends = np.stack([np.eye(4), rigid.translation([40, 0, 0]), rigid.translation([42, 0, 0])])
    assert list(trust.largest_group(ends, np.array([0.3, 0.3, 0.3]), [0, 0, 0], 10)) == [1, 2]


GOOD = {"overlap": 0.9, "agreement": 1.0, "wander": 1.0, "margin": 2.0, "likeness": 0.6, "shift": 0.0, "lead": 0.2}


@pytest.mark.parametrize(
    ("number", "value", "word"),
    [
        ("overlap", 0.1, "inside the CT"),
        ("agreement", 0.2, "starts"),
        ("wander", 30.0, "wandered"),
        ("margin", 0.0, "preferred"),
        ("likeness", 0.0, "alike"),
        ("shift", -12.0, "-12 mm along the body"),
        ("lead", -0.1, "another place"),
    ],
)
def test_each_number_can_turn_the_verdict(number, value, word):
    good = trust.judge(GOOD)
    assert good.verdict == "good" and not good.reasons and "not calibrated" in good.sentence()
    bad = trust.judge(GOOD | {number: value})
    assert bad.verdict == "do not trust" and len(bad.reasons) == 1 and word in bad.sentence()


def test_second_look():
    profile = np.exp(-(((trust.SHIFTS - 12) / 10) ** 2))
    shift, lead = trust.second_look(profile, [])
    assert shift == 12 and lead == pytest.approx(1 - np.exp(-0.16))  # +16 mm is another place, and nearly as alike
    profile[trust.SHIFTS > 20] = np.nan
    assert trust.second_look(profile, [0.9])[1] == pytest.approx(0.1)


def test_a_calibration_belongs_to_its_network(tmp_path):
    network = tmp_path / "dsl_two_channel_coarse.safetensors"
    network.write_bytes(b"weights")
    assert trust.load(tmp_path, network) == trust.Calibration()
    limits = trust.TrustLimits(min_likeness=0.33)
    found = trust.Calibration(limits, 40, 0.5, 0.95, 0.1, sha256(network))
    trust.save(found, tmp_path)
    assert trust.load(tmp_path, network) == found
    assert (
        "of 20 calibration cases so judged 1 wrong (exact 95 % interval: up to 25%)"
        in trust.judge(GOOD, found).sentence()
    )
    spotless = trust.judge(GOOD, trust.Calibration(limits, 32, 1.0, 1.0)).sentence()
    assert "none of the 32 calibration cases was wrong, so how well it tells is not known" in spotless
    network.write_bytes(b"other weights")
    assert trust.load(tmp_path, network).n == 0
    (tmp_path / trust.FILE).write_text("{")
    assert trust.load(tmp_path, network).n == 0


def test_the_package_itself_registers(agent):
    """`import lib` loads nothing; `lib.register(...)` registers."""
    code = (
        "import sys, lib\nassert not [m for m in sys.modules if m.startswith(('lib.', 'torch'))]\n"
        "try:\n    lib.register('no.nii', 'no.nii')\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("UserError no.nii: no such file")
    moving = body()
    result = lib.register(cone(moving, np.eye(4)), moving, agent=agent, settings=quick())
    assert result.pose.shape == (4, 4) and len(result.trajectory) == 10 and result.trust.verdict


def test_register_volumes(agent):
    moving, truth = body(), rigid.translation([5.0, 0, 8])
    fixed = cone(moving, truth)
    result = registration.register(fixed, moving, agent=agent, settings=quick(), initial=truth)
    assert result.trajectory.shape == (10, 4, 4) and result.values.shape == (9, 12)
    assert result.parameters().shape == (10, 6) and len(result.ends) == 2
    np.testing.assert_allclose(result.pose[:3, :3] @ result.pose[:3, :3].T, np.eye(3), atol=1e-9)
    assert set(result.seconds) >= {"agent", "total"}
    again = registration.register(fixed, moving, agent=agent, settings=quick(), initial=truth)
    np.testing.assert_array_equal(result.pose, again.pose)


def test_scouts_share_out_the_threads_and_torch_takes_one_in_each(agent, monkeypatch):
    """Its threads spin while they wait for each other: on a busy machine `register` took 138 s in place of 15."""
    moving, truth = body(), rigid.translation([5.0, 0, 8])
    fixed, seen, walk = cone(moving, truth), [], registration.roll_out

    def watched(*words):
        seen.append((words[-1], torch.get_num_threads()))
        return walk(*words)

    monkeypatch.setattr(registration, "roll_out", watched)
    ends, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            ends.append(registration.register(fixed, moving, agent=agent, settings=quick(), initial=truth).ends)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 1), (2, 1)], "two starts, a thread each"
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)


def test_wrong_or_missing_agents(agent, tmp_path):
    with pytest.raises(UserError, match="trained for the spine"):
        registration.load_agent(agent, "heart", "dsl_two_channel")
    with pytest.raises(UserError, match="no trained agent"):
        registration.load_agent(tmp_path, "spine", "dsl_two_channel")
    with pytest.raises(UserError, match="no experiment"):
        registration.load_agent(agent, "knee", "dsl_two_channel")


def test_of_two_files_that_are_bad_the_first_is_named(tmp_path):
    """They are read side by side."""
    for first, other in (("cbct", "ct"), ("ct", "cbct")):
        with pytest.raises(UserError, match=f"^{tmp_path / first}: no such file"):
            registration.read_both(tmp_path / first, tmp_path / other)


def test_the_moved_image_lands_where_the_pose_says():
    moving, pose = body(), rigid.params_to_matrix(np.array([10.0, -6, 12, 4, 3, -5]))
    fixed = cone(moving, pose)
    moved = pair.resample_moving(fixed, moving, pose)
    inside = (fixed.array > -900) & (moved.array > -900)
    assert float((fixed.array[inside] - moved.array[inside]).abs().median()) < 2


def test_transform_is_read_the_same_by_another_reader(tmp_path):
    """The file maps fixed to moving points: once through SimpleITK, once by hand from its text."""
    pose = rigid.params_to_matrix(np.array([10.0, -6, 12, 14, 13, -25]))
    write_transform(pose, tmp_path / "t.tfm", (5.0, 6, 7))
    point_moving = np.array([20.0, -30, 40])
    point_fixed = rigid.apply(pose, point_moving[None])[0]
    transform = sitk.ReadTransform(str(tmp_path / "t.tfm"))
    np.testing.assert_allclose(transform.TransformPoint(tuple(point_fixed)), point_moving, atol=1e-6)
    lines = dict(x.split(":", 1) for x in (tmp_path / "t.tfm").read_text().splitlines() if ":" in x)
    ax, ay, az, *shift = (float(x) for x in lines["Parameters"].split())
    centre = np.array([float(x) for x in lines["FixedParameters"].split()][:3])
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(ax), -s(ax)], [0, s(ax), c(ax)]])
    ry = np.array([[c(ay), 0, s(ay)], [0, 1, 0], [-s(ay), 0, c(ay)]])
    rz = np.array([[c(az), -s(az), 0], [s(az), c(az), 0], [0, 0, 1]])
    rotation = rz @ rx @ ry  # ITK's Euler3DTransform turns in the order Z X Y
    np.testing.assert_allclose(rotation @ (point_fixed - centre) + centre + shift, point_moving, atol=1e-6)
    np.testing.assert_allclose(read_transform(tmp_path / "t.tfm"), pose, atol=1e-8)


def test_transform_maps_fixed_to_moving_in_ants(tmp_path):
    """A third reader: the point of the CT that belongs to a point of the CBCT."""
    import ants

    pose = rigid.params_to_matrix(np.array([10.0, -6, 12, 14, 13, -25]))
    path = str(tmp_path / "t.tfm")
    write_transform(pose, path, (5.0, 6, 7))
    fixed = np.array([20.0, -30, 40])
    moving = rigid.apply(rigid.invert(pose), fixed[None])[0]
    found = np.array(ants.apply_ants_transform_to_point(ants.read_transform(path), fixed))
    np.testing.assert_allclose(found, moving, atol=1e-4)
    assert np.abs(found - rigid.apply(pose, fixed[None])[0]).max() > 5  # the other direction would be seen


def test_planes_lie_as_a_radiologist_sees_them():
    """Patient's left on the picture's right, anterior up in axial planes, head up in the others."""
    towards = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "F": (2, -1), "H": (2, 1)}
    for plane, (right, down, letters) in planes.AXES.items():
        for letter, direction in zip(letters, (-right, right, -down, down), strict=True):
            axis, sign = towards[letter]
            assert direction[axis] == sign and np.abs(direction).sum() == 1, (plane, letter)


def test_report_is_one_self_contained_file(agent, tmp_path):
    moving = body()
    fixed = cone(moving, np.eye(4))
    result = registration.register(fixed, moving, agent=agent, settings=quick())
    report.write_html(tmp_path / "r.html", fixed, moving, result, ("<cbct>", "ct & more"))
    text = (tmp_path / "r.html").read_text()
    assert text.count("data:image/png;base64,") == 4 and "http" not in text
    assert "&lt;cbct&gt;" in text and result.trust.verdict in text
    assert all(reason in html.unescape(text) for reason in result.trust.reasons)
    still, moved = planes.both(fixed, moving, np.eye(4), "sagittal", [0, 0, 0], (220, 220))
    assert np.isfinite(still).mean() > 0.2 and np.nanmedian(np.abs(still - moved)) < 5
    figure = volumes.close(fixed, moving, {"after": np.eye(4)}, [0, 0, 0])
    letters = [[t.get_text() for t in ax.texts] for ax in figure.axes]
    assert letters == [[*edges, "50 mm"] for edges in ("RLAP", "RLHF", "APHF")]
    with pytest.raises(UserError, match="could not be written"):
        report.write_html(tmp_path / "r.html" / "r.html", fixed, moving, result)  # a file is no folder
