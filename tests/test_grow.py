"""Patients grown from a CT: points and voxels move together, grey values change, the table goes."""

import numpy as np
import pytest
import torch

from lib.base.errors import UserError
from lib.images.volume import AIR, Volume
from lib.patients import another_day, grow, warps

BOX = (np.array([-150.0, -120, -100]), np.array([150.0, 120, 100]))


def phantom(spacing=5.0, direction=None):
    """An elliptic body with bone blobs (vertebrae) behind, a gas bubble and a table below."""
    direction = np.eye(3) if direction is None else direction
    size = np.array([64, 56, 44])
    origin = -direction @ (spacing * (size - 1) / 2)
    volume = Volume(torch.zeros(*size[::-1].tolist()), spacing, origin, direction)
    x, y, z = np.moveaxis(volume.points().numpy(), -1, 0)
    hu = np.where((x / 120) ** 2 + (y / 85) ** 2 < 1, 30.0, -1000.0)
    hu[(y > 105) & (y < 120)] = 150
    hu[((x - 30) ** 2 + (y + 30) ** 2 + z**2) < 20**2] = -950
    centres = np.array([[0.0, 45, h] for h in (60, 25, -10, -45)])
    for c in centres:
        hu += 600 * np.exp(-((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2) / (2 * 8.0**2))
    return volume.with_array(torch.from_numpy(hu.astype(np.float32))), centres


@pytest.mark.parametrize("seed", range(4))
def test_inverse_undoes_the_warp(seed):
    rng = np.random.default_rng(seed)
    warp = warps.random_warp(BOX, rng, size=10.0)
    points = rng.uniform(-90, 90, (200, 3))
    back = warp(torch.as_tensor(warp.inverse(points), dtype=torch.float32)).numpy()
    assert np.abs(back - points).max() < 0.1


def test_grid_and_points_agree():
    warp = warps.random_warp(BOX, np.random.default_rng(1))
    grid = Volume(torch.empty(12, 14, 16), 11.0, (-80, -70, -60))
    assert torch.allclose(warp.of_grid(grid), warp(grid.points()), atol=0.02)


@pytest.mark.parametrize("flip", [False, True])
def test_vertebrae_lie_where_their_bone_is(flip):
    volume, centres = phantom(direction=np.diag([-1.0, -1, 1]) if flip else None)
    found = grow.grow(volume, None, np.random.default_rng(3), 5.0, centres[1], centres, centres)
    points = found.ct.points().numpy()
    hu = found.ct.array.numpy()
    for place in found.vertebrae:
        near = np.linalg.norm(points - place, axis=-1) < 15
        weight = np.clip(hu[near] - 80, 0, None)
        assert np.linalg.norm((points[near] * weight[:, None]).sum(0) / weight.sum() - place) < 2.5
    assert np.allclose(found.landmarks, found.vertebrae)
    assert found.body_at_cbct.array.shape == found.ct.array.shape
    assert torch.isfinite(found.body_at_cbct.array).all()


def test_the_two_states_differ_but_not_in_bone():
    volume, centres = phantom()
    found = grow.grow(volume, None, np.random.default_rng(5), 5.0, centres[1], centres, centres)
    a, b = found.ct.array, found.body_at_cbct.array
    assert ((a - b).abs() > 200).float().mean() > 0.01
    bone = a > 400
    assert bone.any() and float((a - b)[bone].abs().median()) < 40


@pytest.mark.parametrize("seed", range(3))
def test_breathing_moves_organs_and_leaves_the_spine(seed):
    volume, centres = phantom()
    made = [
        grow.grow(volume, None, np.random.default_rng(seed), 5.0, centres[1], centres, centres, breathing=size)
        for size in (0.0, 12.0)
    ]
    assert made[1].meta["breath"] != 0
    still, moved = (a.body_at_cbct for a in made)
    assert torch.equal(made[0].ct.array, made[1].ct.array)
    points, difference = still.points().numpy(), (still.array - moved.array).abs().numpy()
    for place in made[1].vertebrae:
        assert difference[np.linalg.norm(points - place, axis=-1) < 15].max() < 0.01
    # A small bright organ far in front of the spine, where breathing moves it most.
    points, at = volume.points().numpy(), np.array([-45.0, -20, 0])
    blob = torch.from_numpy(
        500 * np.exp(-(np.linalg.norm(points - at, axis=-1) ** 2) / (2 * 10.0**2)).astype(np.float32)
    )
    organ = volume.with_array(volume.array.clamp(max=60) + blob)
    after = another_day.breathe(organ, centres, 14.0, -4.0, 0.0, 200.0).array
    weight = (after - 80).clamp(min=0).numpy() * (np.linalg.norm(points - at, axis=-1) < 50)
    assert np.abs((points * weight[..., None]).sum((0, 1, 2)) / weight.sum() - at - [0, -4, 14]).max() < 1.5


def test_heart_moves_and_stays_closed():
    import trimesh

    volume, _ = phantom()
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=40)
    found = grow.grow(volume, None, np.random.default_rng(2), 5.0, np.zeros(3), mesh=(sphere.vertices, sphere.faces))
    for mesh in (found.mesh_ct, found.mesh_cbct):
        assert trimesh.Trimesh(*mesh, process=False).is_watertight and trimesh.Trimesh(*mesh, process=False).volume > 0
    moved = np.linalg.norm(found.mesh_ct[0] - found.mesh_cbct[0], axis=1)
    assert 0.3 < moved.mean() < 15
    assert len(found.meta["body_phases"]) == 3


def test_body_mask_leaves_the_table_out():
    volume, _ = phantom()
    body = another_day.body_mask(volume.array.numpy(), 5.0)
    y = volume.points().numpy()[..., 1]
    assert not body[y > 104].any() and body[np.abs(y) < 20].mean() > 0.5
    with pytest.raises(UserError, match="air"):
        another_day.body_mask(np.full((8, 8, 8), AIR), 5.0)


def test_axes():
    swap = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
    volume = Volume(torch.rand(5, 6, 7), (1, 2, 3), (4, 5, 6), swap)
    out = grow.axis_aligned(volume, 0.5)
    assert np.array_equal(out.direction, np.eye(3))
    for index in ([0, 0, 0], [6, 5, 4], [2, 3, 1]):
        world = (volume.affine @ [*index, 1])[:3]
        i, j, k = np.round((world - out.origin) / out.spacing).astype(int)
        assert out.array[k, j, i] == volume.array[index[2], index[1], index[0]]
    tilted = np.array([[1, 0, 0], [0, 0.9, -0.43589], [0, 0.43589, 0.9]])
    with pytest.raises(UserError, match="oblique"):
        grow.axis_aligned(Volume(torch.rand(5, 6, 7), 1.0, (0, 0, 0), tilted), 1.0)


def test_wider_patients_are_scanned_near_the_ends_and_some_are_heavier(monkeypatch):
    volume, centres = phantom()
    ends = [volume.origin[2], -volume.origin[2]]
    far, near = (
        {round(float(grow.spine_target(centres, ends, np.random.default_rng(n), room)[2]), -1) for n in range(60)}
        for room in (grow.ROOM, grow.NEAR_END)
    )
    assert max(far) < 45 and max(near) >= 55, "the highest vertebra lies 47 mm from the end"

    marked = type("M", (), {"name": "phantom", "manifest": None, "load": lambda self: (volume, None, {})})()
    bodies = [type("B", (), {"centre": c, "size": np.full(3, 20.0), "axes": np.eye(3)}) for c in centres]
    asked = []
    monkeypatch.setattr(
        "lib.patients.scans.marks.bodies", lambda found, labels, further: asked.append(further) or bodies
    )
    widths = {}
    for fat in (0.0, 60.0):
        rows = [
            grow.from_scan(marked, "spine", np.random.default_rng(n), 5.0, 0.0, grow.Wider(True, fat)) for n in range(8)
        ]
        widths[fat] = [float(np.ptp(np.flatnonzero((a.ct.array > -500).any(0).any(0)))) * 5 for a in rows]
    more = np.subtract(widths[60.0], widths[0.0])
    assert asked and all(asked)
    assert 0 < (np.abs(more) < 15).sum() < 8 and more.max() > 30, "some are as they were, some wider by up to 2 x 60 mm"
