"""Virtual spine patients: left is left, head is up, landmarks lie on bone, one seed gives one patient."""

import numpy as np
import pytest
import torch

from lib.images.volume import sample
from lib.patients.shapes import Canvas, ellipsoid, intersect, subtract, tube, union
from lib.patients.spine import draw


@pytest.fixture(scope="module")
def patient():
    return draw.draw(np.random.default_rng(5), spacing=3.0)


def around(volume, centre, offset, radius=12.0):
    """Median HU in a small cube about centre + offset (mm, LPS)."""
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-radius, radius, 7)] * 3, indexing="ij"), -1)
    return float(sample(volume, grid + torch.as_tensor(np.add(centre, offset), dtype=torch.float32)).median())


def test_fields_and_sizes(patient):
    ct, body = patient.ct, patient.body_at_cbct
    assert ct.array.shape == body.array.shape == patient.labels.array.shape
    assert ct.array.dtype == torch.float32
    extent = np.array(ct.size) * ct.spacing
    assert 300 < extent[0] < 560 and 220 < extent[1] < 450 and 400 < extent[2] <= 563
    assert np.allclose(ct.origin, body.origin) and np.allclose(ct.direction, np.eye(3))


def test_hounsfield_range(patient):
    for volume in (patient.ct, patient.body_at_cbct):
        assert torch.isfinite(volume.array).all()
        assert volume.array.min() >= -1024 and volume.array.max() <= 3071
    ct = patient.ct.array
    assert (ct < -900).float().mean() > 0.2  # air around the patient
    assert (ct.sub(-100).abs() < 30).float().mean() > 0.03  # fat
    assert (ct.sub(50).abs() < 30).float().mean() > 0.05  # muscle
    assert 0.005 < (ct > 250).float().mean() < 0.08  # bone, contrast


def test_vertebrae_run_from_head_to_foot_and_grow(patient):
    z = patient.vertebrae[:, 2]
    assert (np.diff(z) < -15).all() and (np.diff(z) > -50).all()
    assert patient.meta["levels"][-1] == "L5" and len(patient.meta["levels"]) == len(z) >= 12
    at_centres = sample(patient.labels, torch.as_tensor(patient.vertebrae), fill=0.0, mode="nearest")
    assert np.array_equal(at_centres.numpy(), np.arange(1, len(z) + 1))
    counts = torch.bincount(patient.labels.array.long().ravel())[1:]
    assert counts[-2] > 1.8 * counts[1]  # L4 is far larger than an upper thoracic vertebra


def test_left_is_left(patient):
    names = patient.meta["levels"]
    level = dict(zip(names, patient.vertebrae, strict=True))
    # The liver lies on the patient's right, under the ribs; the left holds lung, stomach or spleen there.
    liver = patient.meta["states"][0]["liver"]
    assert abs(around(patient.ct, level["T11"], (-75, -50, 0)) - liver) < 20
    # The lungs are air on both sides higher up; the heart fills more of the left.
    assert around(patient.ct, level["T6"], (-75, -30, 0)) < -600
    assert around(patient.ct, level["T6"], (75, -30, 0)) < -600
    heart = [around(patient.ct, level["T8"], (s * 45, -85, 0)) for s in (-1, 1)]
    assert heart[1] > heart[0] + 200
    # Behind the bodies there is bone and muscle, in front of them there is not: y points backwards.
    assert around(patient.ct, level["L3"], (0, 60, 0), 5) > around(patient.ct, level["L3"], (0, -45, 0), 5) - 400


def test_landmarks_lie_on_the_edge_of_bone(patient):
    assert patient.landmarks.shape == (32, 3) and len(patient.meta["landmarks"]) == 32
    labels = patient.labels.array > 0
    bone = torch.nonzero(labels).numpy()[:, ::-1] * patient.labels.spacing + patient.labels.origin
    outside = patient.labels.with_array((~labels).float())
    for point in patient.landmarks:
        assert np.min(np.linalg.norm(bone - point, axis=1)) < 3 + 0.5  # half a voxel more: labels are a grid
        cube = point + 3.0 * (np.indices((3, 3, 3)).reshape(3, -1).T - 1)
        assert sample(outside, torch.as_tensor(cube), mode="nearest").max() == 1
    assert np.abs(patient.landmarks.mean(axis=0) - patient.target)[2] < 50


def test_target_is_beside_the_lower_thoracic_or_lumbar_spine(patient):
    nearest = np.linalg.norm(patient.vertebrae - patient.target, axis=1).min()
    assert nearest < 90
    low, high = patient.ct.origin[2], patient.ct.origin[2] + patient.ct.size[2] * patient.ct.spacing[2]
    assert low + 60 < patient.target[2] < high - 60


def test_same_bones_other_belly(patient):
    """Between both states the vertebrae do not change; gas, table and soft tissue do."""
    bone = patient.labels.array > 0
    change = (patient.ct.array - patient.body_at_cbct.array).abs()
    assert change[bone].median() < 25  # the CT's noise alone
    assert (change > 150).float().mean() > 0.002


def test_deterministic_and_individual(patient):
    one, two, other = (draw.draw(np.random.default_rng(seed), spacing=6.0) for seed in (5, 5, 6))
    assert torch.equal(one.ct.array, two.ct.array) and np.array_equal(one.landmarks, two.landmarks)
    assert np.allclose(one.vertebrae[-8:], patient.vertebrae[-8:])  # the grid does not change the patient
    assert np.allclose(one.target, patient.target) and np.allclose(one.landmarks, patient.landmarks)
    assert other.meta["scale"] != patient.meta["scale"]


def test_shapes_have_their_volumes():
    canvas = Canvas([-20, -20, -20], [20, 20, 20], 1.0, fill=0.0)
    for shape, volume in (
        (ellipsoid((0, 0, 0), (10, 8, 6)), 4 / 3 * np.pi * 480),
        (tube([(-8, 0, 0), (8, 0, 0)], 4), np.pi * 16 * 16 + 4 / 3 * np.pi * 64),
        (union(ellipsoid((-9, 0, 0), (5,) * 3), ellipsoid((9, 0, 0), (5,) * 3)), 2 * 4 / 3 * np.pi * 125),
        (subtract(ellipsoid((0, 0, 0), (10,) * 3), ellipsoid((0, 0, 0), (5,) * 3)), 4 / 3 * np.pi * 875),
        (intersect(ellipsoid((0, 0, 0), (10,) * 3), lambda x, y, z: x + 0 * y + 0 * z), 2 / 3 * np.pi * 1000),
    ):
        canvas.layers[0][:] = 0
        canvas.paint(shape, 1.0)
        assert canvas.layers[0].sum() == pytest.approx(volume, rel=0.03)


@pytest.mark.parametrize("name", ["stent", "table"])
def test_a_patient_is_the_same_with_and_without_an_object(name):
    """What is asked for changes the body at the CBCT where the object is, and nothing else; chance as it is, nothing."""
    for seed in range(3):
        usual = draw.draw(np.random.default_rng(seed), 8.0)
        both = {there: draw.draw(np.random.default_rng(seed), 8.0, {name: there}) for there in (True, False)}
        assert torch.equal(both[usual.meta[name]].body_at_cbct.array, usual.body_at_cbct.array)
        for there, one in both.items():
            assert one.meta[name] == there
            assert torch.equal(one.ct.array, usual.ct.array) and np.array_equal(one.landmarks, usual.landmarks)
        changed = both[True].body_at_cbct.array - both[False].body_at_cbct.array
        share = float((changed != 0).float().mean())
        assert 0 < share < (0.002 if name == "stent" else 0.2)
        if name == "stent":
            assert changed.min() >= 0 and changed.max() > 500
