"""From a pose to the nearest optimum of the likeness at bone, for many poses at once.

Local contrast of the CT at points near its bone is compared with that of the CBCT where a pose puts them; the enhanced
correlation coefficient (Evangelidis and Psarakis, 2008) is the Gauss-Newton step that raises their correlation. A pose
costs a look-up of some thousand points and a 6 x 6 system a step.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.images.normalise import OUTSIDE, prepare
from lib.images.pair import near_bone
from lib.images.volume import Volume

LONGEST = (6.0, 5.0)  # mm and degrees that a step may move and turn


class Ascent:
    """Both images, prepared once at `voxel` mm. bone: only the CT's points near bone, else all. Every pose here maps moving
    (CT) to fixed (CBCT) world points.

    centre (3,): what poses turn about, fixed world. around (4, 4), reach: only points that lie within `reach` mm of the
    centre, along each axis, at the pose `around`; at most `points` of them, evenly drawn.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        centre,
        around: np.ndarray,
        reach,
        bone: bool = True,
        voxel: float = 4.0,
        points: int = 8000,
    ):
        self.centre = np.asarray(centre, dtype=np.float64)
        still = prepare(fixed, True, voxel)
        seen = (
            F.max_pool3d((still.codes == OUTSIDE).float()[None, None], 3, 1, 1)[0, 0] < 0.5
        )  # slopes end a voxel earlier
        to_world = still.affine[:3, :3]
        slopes = torch.stack(torch.gradient(still.values)[::-1])  # along i, j, k
        turn = torch.as_tensor(np.linalg.inv(to_world).T, dtype=torch.float32)
        slopes = torch.einsum("ab,bkji->akji", turn, slopes)  # per mm of the world
        self.volume = torch.cat([still.values[None], slopes, seen.float()[None]])[None]
        self.to_index = np.linalg.inv(still.affine)
        self.points, self.values = _points(moving, bone, voxel, points, around, self.centre, np.asarray(reach))

    def look(self, poses: np.ndarray, thin: int = 1):
        """Where poses (n, 4, 4) put every `thin`-th point, from the centre (n, m, 3), and what is there (n, 5, m): value,
        slopes, seen."""
        here = torch.as_tensor(poses, dtype=torch.float32)
        where = self.points[::thin] @ here[:, :3, :3].transpose(1, 2) + here[:, None, :3, 3]
        to_index = torch.as_tensor(self.to_index, dtype=torch.float32)
        size = torch.tensor(self.volume.shape[:1:-1], dtype=torch.float32)
        index = (where @ to_index[:3, :3].T + to_index[:3, 3]) / (size - 1) * 2 - 1
        found = F.grid_sample(self.volume, index.reshape(1, 1, 1, -1, 3), align_corners=True)
        return where - torch.as_tensor(self.centre, dtype=torch.float32), found.reshape(5, len(poses), -1).transpose(
            0, 1
        )

    def likeness(self, poses: np.ndarray, fewest: int = 100, thin: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Correlation (n,) at the points seen (every `thin`-th), -1 where fewer than `fewest` are, and their number (n,)."""
        _, found = self.look(poses, thin)
        weight = (found[:, 4] > 0.99).float()
        alike, *_ = _correlate(found[:, 0], self.values[::thin], weight)
        count = weight.sum(1)
        return torch.where(count >= fewest, alike, torch.tensor(-1.0)).double().numpy(), count.numpy()

    def weighed(self, poses: np.ndarray, thin: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Likeness (n,) times the root of the share of what is compared, and the likeness itself: among hundreds of poses
        the most alike by chance has few points."""
        alike, count = self.likeness(poses, thin=thin)
        return np.where(alike > -1, alike * np.sqrt(count / max(count.max(), 1)), -1.0), alike

    def climb(self, poses: np.ndarray, steps: int = 10, fewest: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """Each of `poses` (n, 4, 4) raised by at most `steps` steps: poses and likeness (n,). Never worse than it was."""
        poses = np.array(poses, dtype=np.float64)
        best, most = poses.copy(), np.full(len(poses), -1.0)
        for step in range(steps + 1):
            where, found = self.look(poses)
            weight = (found[:, 4] > 0.99).float()
            alike, image, template = _correlate(found[:, 0], self.values, weight)
            alike = np.where(weight.sum(1) >= fewest, alike, -1.0)
            better = alike > most
            best[better], most[better] = poses[better], alike[better]
            if step < steps:
                move = _step(image, template, found[:, 1:4], where, weight)
                poses = _moved(poses, move, self.centre)
        return best, most


def _points(moving, bone, voxel, most, around, centre, reach):
    """Points (m, 3) of the CT, moving world, and its local contrast there (m,)."""
    floating = prepare(moving, False, voxel)
    keep = floating.codes != OUTSIDE
    if bone:
        keep[1:-1, 1:-1, 1:-1] &= (
            near_bone(moving, voxel).array > 0.5
        )  # its grid is that of the codes without their border
    index = torch.nonzero(keep)
    points = rigid.apply(floating.affine, index.flip(1).double().numpy())
    near = np.flatnonzero((np.abs(rigid.apply(around, points) - centre) <= reach).all(axis=1))
    chosen = near[np.linspace(0, len(near) - 1, min(most, len(near))).round().astype(int)]
    at = index[torch.as_tensor(chosen)]
    return torch.as_tensor(points[chosen], dtype=torch.float32), floating.values[at[:, 0], at[:, 1], at[:, 2]]


def _correlate(image, values, weight):
    """Correlation (n,) of image (n, m) with values (m,) where weight (n, m) is 1; both less their means, 0 elsewhere."""
    count = weight.sum(1, keepdim=True).clamp(min=1)
    image = (image - (image * weight).sum(1, keepdim=True) / count) * weight
    template = (values - (values * weight).sum(1, keepdim=True) / count) * weight
    both = image.norm(dim=1) * template.norm(dim=1)
    return (image * template).sum(1) / both.clamp(min=1e-6), image, template


def _step(image, template, slopes, where, weight):
    """The step (n, 6) that raises the correlation most, to first order: mm along, radians about the world's axes."""
    turns = torch.linalg.cross(where.transpose(1, 2), slopes, dim=1)
    slopes = torch.cat([slopes, turns], dim=1) * weight[:, None]  # (n, 6, m)
    slopes = (slopes - slopes.sum(2, keepdim=True) / weight.sum(1).clamp(min=1)[:, None, None]) * weight[:, None]
    matrix = slopes @ slopes.transpose(1, 2)
    matrix = matrix + torch.diag_embed(0.01 * torch.diagonal(matrix, dim1=1, dim2=2) + 1e-6)
    on_image, on_template = (slopes @ image[..., None])[..., 0], (slopes @ template[..., None])[..., 0]
    solved = torch.linalg.solve(matrix, torch.stack([on_image, on_template], dim=2))
    image_left = (image * image).sum(1) - (on_image * solved[..., 0]).sum(1)
    template_left = (template * image).sum(1) - (on_template * solved[..., 0]).sum(1)
    # Where the correlation cannot be raised to first order the template is taken at the image's own scale.
    scale = torch.where(
        template_left > 1e-6,
        image_left / template_left.clamp(min=1e-6),
        image.norm(dim=1) / template.norm(dim=1).clamp(min=1e-6),
    )
    move = scale[:, None] * solved[..., 1] - solved[..., 0]
    length = torch.stack([move[:, :3].norm(dim=1) / LONGEST[0], move[:, 3:].norm(dim=1) / np.radians(LONGEST[1])]).amax(
        0
    )
    return torch.nan_to_num(move / length.clamp(min=1)[:, None]).double().numpy()


def _moved(poses, move, centre):
    """Poses (n, 4, 4) after the steps (n, 6) about the centre."""
    from scipy.spatial.transform import Rotation

    out = np.tile(np.eye(4), (len(poses), 1, 1))
    out[:, :3, :3] = Rotation.from_rotvec(move[:, 3:]).as_matrix()
    out[:, :3, 3] = move[:, :3] + centre - out[:, :3, :3] @ centre
    return out @ poses
