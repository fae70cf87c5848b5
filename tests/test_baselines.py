"""Every baseline must solve a case with a small known offset, and in the right direction."""
import numpy as np
import pytest
import torch

from lib import rigid, volume
from lib.baselines import run
from lib.baselines.settings import BaselineSettings
from lib.volume import Volume

SETTINGS = BaselineSettings()
OFFSET = np.array([5.0, -4.0, 5.0, 3.0, -2.0, 3.0])  # mm and degrees


def anatomy(points: torch.Tensor) -> torch.Tensor:
    """HU at moving-world points (..., 3): body, vertebrae with processes, a kidney, a rib, gas. No symmetry."""
    x, y, z = points.unbind(-1)
    hu = torch.where((x / 110) ** 2 + (y / 80) ** 2 < 1, 20.0, -1000.0)
    hu = torch.where((x / 100) ** 2 + ((y + 5) / 70) ** 2 < 1, 50.0, hu)
    for n, centre in enumerate((-70, -35, 0, 36, 74)):
        bend = 4.0 * n
        hu = torch.where((((x - bend) / 20) ** 2 + ((y - 35) / 15) ** 2 < 1) & ((z - centre).abs() < 13), 350.0, hu)
        hu = torch.where(((x - bend).abs() < 4) & ((y - 58).abs() < 12) & ((z - centre + 4).abs() < 8), 500.0, hu)
        hu = torch.where(((x - bend).abs() < 35) & ((y - 45).abs() < 4) & ((z - centre).abs() < 4), 400.0, hu)
    hu = torch.where(((x - 55) / 22) ** 2 + ((y - 20) / 18) ** 2 + ((z - 20) / 38) ** 2 < 1, 180.0, hu)
    hu = torch.where(((x + 60) / 30) ** 2 + ((y + 15) / 28) ** 2 + ((z - 45) / 30) ** 2 < 1, 110.0, hu)
    return torch.where(((x - 20) / 18) ** 2 + ((y + 45) / 12) ** 2 + ((z + 25) / 20) ** 2 < 1, -800.0, hu)


def grid(size, spacing, centre) -> Volume:
    origin = np.asarray(centre) - (np.array(size) - 1) / 2 * spacing
    return Volume(torch.zeros(*size[::-1]), spacing, origin)


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving, mask, truth): a CBCT-like cut of the anatomy in a fixed world far from the moving one."""
    moving = grid((64, 48, 60), 4.0, (0, 0, 0))
    moving = moving.with_array(volume.gaussian(anatomy(moving.points()), [0.6] * 3))
    truth = rigid.translation([40.0, -300.0, 500.0]) @ rigid.params_to_matrix(np.array([0, 0, 0, 4.0, -3.0, 6.0]))
    fixed = grid((48, 48, 36), 4.0, (40.0, -280.0, 500.0))
    there = torch.as_tensor(rigid.invert(truth)).float()
    points = fixed.points()
    hu = volume.sample(moving, points @ there[:3, :3].T + there[:3, 3])
    generator = torch.Generator().manual_seed(0)
    hu = 0.8 * hu - 60 + 30 * torch.randn(hu.shape, generator=generator)
    radius = (points[..., :2] - torch.tensor([40.0, -280.0])).norm(dim=-1)
    mask = (radius < 88) & ((points[..., 2] - 500).abs() < 62)
    return fixed.with_array(torch.where(mask, hu, torch.tensor(-1000.0))), moving, mask, truth


def error(pose, truth, fixed) -> float:
    """Mean distance (mm) over a lattice in the fixed field of view."""
    lattice = np.stack(np.meshgrid([-50, 50], [-50, 50], [-50, 0, 50]), axis=-1).reshape(-1, 3) + fixed.centre
    back = rigid.apply(rigid.invert(truth), lattice)
    return float(np.linalg.norm(rigid.apply(pose, back) - lattice, axis=1).mean())


@pytest.mark.parametrize("name", sorted(run.METHODS))
def test_solves_a_small_known_offset(name, pair):
    fixed, moving, mask, truth = pair
    initial = rigid.about(rigid.params_to_matrix(OFFSET), fixed.centre) @ truth
    assert error(initial, truth, fixed) > 8
    result = run.load(name)(fixed, moving, initial, SETTINGS, mask, np.random.default_rng(0))
    assert result.note == "" and result.seconds > 0
    assert error(result.pose, truth, fixed) < 3.0, name
    # Direction: the inverse of the answer, or the answer in ITK's own direction, is half a metre away.
    assert error(rigid.invert(result.pose), truth, fixed) > 100
