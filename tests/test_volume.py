"""Volumes in the world, resampling without a shift, transforms out and in, proven through other readers."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images import volume
from lib.images.volume import Volume


@pytest.fixture
def blob():
    """A Gaussian blob at a known world point, in an oblique, anisotropic grid."""
    direction = rigid.params_to_matrix(np.array([0, 0, 0, 10.0, -20, 30]))[:3, :3]
    grid = Volume(torch.zeros(40, 36, 50), [1.0, 1.5, 2.0], [-20, 30, 5], direction)
    where = grid.centre + [3.0, -4.0, 5.0]
    r2 = (grid.points() - torch.tensor(where, dtype=torch.float32)).square().sum(-1)
    return grid.with_array(1000 * torch.exp(-r2 / (2 * 6.0**2))), where


def centre_of_mass(v):
    w = v.array.clamp(min=0)
    return ((v.points() * w[..., None]).sum((0, 1, 2)) / w.sum()).numpy()


def test_centre_is_where_the_middle_voxels_are(blob):
    v, _ = blob
    np.testing.assert_allclose(v.points().reshape(-1, 3).mean(0).numpy(), v.centre, atol=1e-3)


@pytest.mark.parametrize("spacing", [0.8, 2.0, 3.0, 4.0])
def test_resampling_does_not_shift(blob, spacing):
    v, where = blob
    np.testing.assert_allclose(centre_of_mass(volume.resample(v, spacing)), where, atol=0.15)


def test_sample_at_voxel_centres_gives_the_voxels(blob):
    v, _ = blob
    torch.testing.assert_close(volume.sample(v, v.points()), v.array, atol=0.5, rtol=0)


def test_sample_fills_outside(blob):
    v, _ = blob
    assert float(volume.sample(v, torch.tensor([[1e4, 0, 0]]), fill=-777.0)) == -777


def test_sitk_agrees_on_the_geometry(blob, tmp_path):
    v, where = blob
    volume.write(v, tmp_path / "blob.nii.gz", np.float32)
    image = sitk.ReadImage(str(tmp_path / "blob.nii.gz"))
    index = image.TransformPhysicalPointToIndex([float(x) for x in where])
    assert image[index] > 950
    again = volume.read(tmp_path / "blob.nii.gz")
    np.testing.assert_allclose(again.affine, v.affine, atol=1e-4)


def test_nibabel_sees_ras(blob, tmp_path):
    import nibabel as nib

    v, where = blob
    volume.write(v, tmp_path / "blob.nii.gz", np.float32)
    image = nib.load(tmp_path / "blob.nii.gz")
    ras = where * [-1, -1, 1]
    i, j, k = np.round(np.linalg.inv(image.affine) @ [*ras, 1])[:3].astype(int)
    assert image.get_fdata()[i, j, k] > 950


def test_the_transform_file_maps_fixed_to_moving(tmp_path):
    pose = rigid.about(rigid.params_to_matrix(np.array([4.0, -5, 6, 7, -8, 9])), [10, 20, 30])
    for centre in ((0, 0, 0), (10.0, 20, 30)):
        volume.write_transform(pose, tmp_path / "t.tfm", centre)
        transform = sitk.ReadTransform(str(tmp_path / "t.tfm"))
        moving = np.array([1.0, 2, 3])
        fixed = rigid.apply(pose, moving[None])[0]
        np.testing.assert_allclose(transform.TransformPoint(tuple(fixed)), moving, atol=1e-6)
        np.testing.assert_allclose(volume.read_transform(tmp_path / "t.tfm"), pose, atol=1e-6)


def test_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        volume.read(tmp_path / "none.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable"):
        volume.read(tmp_path / "bad.nii.gz")
    (tmp_path / "bad.tfm").write_text("nonsense")
    with pytest.raises(UserError, match="not an ITK transform"):
        volume.read_transform(tmp_path / "bad.tfm")
    with pytest.raises(UserError, match="could not be written"):
        volume.write(Volume(torch.zeros(3, 3, 3)), tmp_path / "bad.tfm" / "a.nii.gz")
