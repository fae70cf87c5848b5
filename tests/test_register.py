"""Registering a pair of one's own: images, starts, confidence, report, and transforms that others read the
same way."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib import network, register_images, report, rigid, trust
from lib import register as registration
from lib.errors import UserError
from lib.volume import Volume, read_transform, sample, write_transform

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
        network.save(
            network.ActionValueNetwork(settings), folder / f"dsl_two_channel_{stage}.safetensors", meta
        )
    return folder


def quick(**changes):
    return registration.RegisterSettings(starts=2, coarse_steps=6, fine_steps=3, **changes)


def test_shrinking_keeps_world_places_and_padding():
    truth = np.eye(4)
    fixed = cone(body(), truth)
    small = register_images.shrink(fixed, 8.0, True)
    assert small.array.min() == -1000 and small.spacing[0] == 8
    inside = small.array > -1000
    points = small.points()[inside]
    assert points[:, 2].abs().max() <= 62 and (points[:, :2].norm(dim=-1) < 94).all()
    ct = register_images.shrink(body(), 8.0, False)
    np.testing.assert_allclose(ct.centre, body().centre, atol=1e-6)
    np.testing.assert_allclose(ct.array.mean(), body().array.mean(), atol=2)


def test_overlap_of_fields_of_view():
    moving = body()
    fixed = cone(moving, np.eye(4))
    assert register_images.overlap(fixed, moving, np.eye(4)) > 0.98
    assert 0.3 < register_images.overlap(fixed, moving, rigid.translation([0, 0, 80])) < 0.7
    assert register_images.overlap(fixed, moving, rigid.translation([0, 0, 500])) == 0


def test_likeness_is_highest_at_the_truth():
    moving, truth = body(), rigid.params_to_matrix(np.array([6.0, -4, 9, 3, -2, 5]))
    fixed = cone(moving, truth)
    others = [rigid.translation(t) @ truth for t in ([12.0, 0, 0], [0, 12, 0], [0, 0, 14])]
    found = register_images.similarity(fixed, moving, np.stack([truth, *others]), [0, 0, 0])
    assert found[0] > 0.6 and found[0] > found[1:].max() + 0.1


def test_starts():
    moving, settings = body(), registration.RegisterSettings(starts=5)
    fixed = cone(moving, np.eye(4))
    poses = registration.starting_poses(fixed, moving, None, [0, 0, 0], "spine", settings)
    assert poses.shape == (5, 4, 4)
    np.testing.assert_allclose(
        poses[0], np.eye(4)
    )  # the scanners' own coordinates overlap: they are believed first
    far = Volume(fixed.array, fixed.spacing, fixed.origin + 1000.0)
    poses = registration.starting_poses(far, moving, None, far.centre, "spine", settings)
    assert register_images.overlap(far, moving, poses[0]) > 0.9
    with pytest.raises(UserError, match="do not overlap"):
        registration.starting_poses(
            fixed, moving, rigid.translation([0, 0, 900]), [0, 0, 0], "spine", settings
        )


def test_margin_wander_and_groups():
    still = np.repeat(np.eye(4)[None], 30, axis=0)
    assert trust.wander(still, [0, 0, 0]) == 0
    np.testing.assert_allclose(trust.displacement(np.eye(4), rigid.translation([3, 4, 0]), [9, 9, 9]), 5)
    values = np.tile(np.r_[10.0, np.zeros(11)], (30, 1))
    assert trust.margins(values).min() > 3
    good = trust.judge(0.9, 1.0, still, values, 0.6, [0, 0, 0])
    assert good.verdict == "good" and not good.reasons
    bad = trust.judge(0.1, 0.25, still, values * 0, 0.0, [0, 0, 0])
    assert bad.verdict == "do not trust" and len(bad.reasons) == 4 and "do not trust" in bad.sentence()
    path = still.copy()
    path[-15, 2, 3] = 30
    assert "wandered" in trust.judge(0.9, 1.0, path, values, 0.6, [0, 0, 0]).sentence()
    ends = np.stack([np.eye(4), rigid.translation([40, 0, 0]), rigid.translation([42, 0, 0])])
    assert list(trust.largest_group(ends, np.array([0.3, 0.3, 0.3]), [0, 0, 0], 10)) == [1, 2]


def test_calibration_counts():
    trusts = [trust.Trust(1, 1, 0, 1, 1), trust.Trust(1, 1, 0, 1, 1), trust.Trust(0, 0, 0, 0, 0, ["bad"])]
    found = trust.calibrate(trusts, [3.0, 30.0, 50.0])
    assert found["right_when_good"] == 0.5 and found["right_when_not"] == 0 and found["found_of_right"] == 1


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


def test_polish_is_kept_only_when_better(agent):
    moving, truth = body(), rigid.params_to_matrix(np.array([4.0, 3, 5, 2, 0, 1]))
    fixed = cone(moving, truth)
    settings = quick()
    result = registration.register(fixed, moving, agent=agent, settings=settings, initial=truth, polish=True)
    assert result.note.startswith("polish")
    if result.polished:
        assert trust.displacement(truth, result.pose, [0, 0, 0]) < 8


def test_wrong_or_missing_agents(agent, tmp_path):
    with pytest.raises(UserError, match="trained for the spine"):
        registration.load_agent(agent, "heart", "dsl_two_channel")
    with pytest.raises(UserError, match="no trained agent"):
        registration.load_agent(tmp_path, "spine", "dsl_two_channel")
    with pytest.raises(UserError, match="no experiment"):
        registration.load_agent(agent, "knee", "dsl_two_channel")


def test_the_moved_image_lands_where_the_pose_says():
    moving, pose = body(), rigid.params_to_matrix(np.array([10.0, -6, 12, 4, 3, -5]))
    fixed = cone(moving, pose)
    moved = register_images.resample_moving(fixed, moving, pose)
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


def test_report_is_one_self_contained_file(agent, tmp_path):
    moving = body()
    fixed = cone(moving, np.eye(4))
    result = registration.register(fixed, moving, agent=agent, settings=quick())
    report.write_html(tmp_path / "r.html", fixed, moving, result, ("<cbct>", "ct & more"))
    text = (tmp_path / "r.html").read_text()
    assert text.count("data:image/png;base64,") == 3 and "http" not in text
    assert "&lt;cbct&gt;" in text and result.trust.verdict in text
    still, moved = report.slices(fixed, moving, np.eye(4), [0, 0, 0], "sagittal")
    assert np.isfinite(still).mean() > 0.2 and np.nanmedian(np.abs(still - moved)) < 5
    with pytest.raises(UserError, match="could not be written"):
        report.write_html(tmp_path / "nowhere" / "r.html", fixed, moving, result)
