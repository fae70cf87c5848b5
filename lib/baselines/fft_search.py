"""Search without learning: correlation of local contrast at all shifts, for a grid of rotations, then at bone.

Global search in 3-D counted as prohibitive in 2017. Masked normalised correlation over all shifts of a range costs nine
small FFTs a rotation (`lib.images.correlation`), so the grid covers the study's whole range. Distinct places are ranked
again by the likeness at bone and climb to its nearest optimum together (`lib.images.ascent`), coarsely, the best of them
once more finely; the most alike wins. Rotations lie on a body-centred lattice: a third fewer than on a cubic one for the
same largest gap.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import maximum_filter
from scipy.spatial.transform import Rotation

from lib import rigid
from lib.cases import Result
from lib.images.ascent import Ascent
from lib.images.correlation import MaskedCorrelation
from lib.images.normalise import OUTSIDE, field_of_view_centre, prepare
from lib.images.pair import shrink
from lib.images.volume import Volume, resample


@dataclass
class Found:
    """The places found, best first."""

    poses: np.ndarray  # (n, 4, 4) moving -> fixed
    likeness: np.ndarray  # (n,) at bone, times the root of the share of the field of view that is compared


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed within `reach` and `degrees` of `initial`, by the settings `fft_search` of the anatomy. Draws
    nothing at random."""
    begin = time.process_time()
    pose = search(fixed, moving, initial, settings.of("fft_search"), settings.anatomy == "spine").poses[0]
    return Result(pose, time.process_time() - begin)


def search(fixed: Volume, moving: Volume, initial: np.ndarray, options, bone: bool = True, threads: int = 1) -> Found:
    """Every place worth a look, brought to its optimum, best first. bone: compare at the CT's bone (E1), else all of it.
    threads: rotations side by side; in each of them torch should have one thread (`lib.base.pools.one_thread_each`)."""
    fixed = shrink(fixed, options.fine / 2, True)
    moving, initial = resample(moving, np.maximum(moving.spacing, options.fine)), rigid.orthogonal(initial)
    centre = field_of_view_centre(fixed)
    poses = places(fixed, moving, initial, centre, options, threads)
    reach = np.array(options.reach) + 120.0
    coarse = Ascent(fixed, moving, centre, initial, reach, bone, options.coarse, options.points)
    poses, _ = coarse.climb(_kept(coarse, poses, centre, options.ranked, options, thin=4), options.coarse_steps)
    fine = Ascent(fixed, moving, centre, initial, reach, bone, options.fine, options.points)
    poses, _ = fine.climb(_kept(fine, poses, centre, options.refined, options), options.fine_steps)
    alike, _ = fine.weighed(poses)
    order = np.argsort(-alike, kind="stable")
    return Found(poses[order], alike[order])


def places(fixed: Volume, moving: Volume, initial: np.ndarray, centre: np.ndarray, options, threads: int = 1):
    """Local maxima of the correlation, for every rotation its best: poses (n, 4, 4), the highest first.

    The CT is looked at on the CBCT's axes as `initial` lays it there: the range of shifts is a box on those axes.
    """
    still, floating = prepare(fixed, True, options.voxel), prepare(moving, False, options.voxel)
    half, reach = _half_extent(still, centre, options.voxel), _reach(options)
    offsets = _offsets(half + reach, options.voxel)
    window = _sampled(
        floating, rigid.apply(rigid.invert(initial), (offsets + centre).reshape(-1, 3)), offsets.shape[:3]
    )
    correlation, seen = MaskedCorrelation(*window, options.floor), int((still.codes != OUTSIDE).sum())
    offsets, turns = _offsets(half, options.voxel), lattice(options.degrees, options.step)

    def correlate(turn: np.ndarray):
        """The peaks: (value, shift) each."""
        score, count = correlation(*_sampled(still, offsets.reshape(-1, 3) @ turn.T + centre, offsets.shape[:3]))
        score[count < options.overlap * seen] = -1.0
        return _peaks(score, options.peaks)

    turns = Rotation.from_rotvec(turns, degrees=True).as_matrix()
    with ThreadPoolExecutor(threads) as pool:
        looked = list(pool.map(correlate, turns))
    scores, poses = [], []
    for turn, peaks in zip(turns, looked, strict=True):
        rotation = np.eye(4)
        rotation[:3, :3] = turn
        for value, shift in peaks:
            there = rigid.translation(options.voxel * (reach - shift)[::-1])
            scores.append(value)
            poses.append(rigid.about(rotation, centre) @ there @ initial)
    if not poses:  # no shift leaves enough of the field of view inside the CT
        return initial[None]
    return np.stack(poses)[np.argsort(-np.array(scores), kind="stable")]


def lattice(degrees: float, step: float) -> np.ndarray:
    """Rotation vectors (n, 3) in degrees on a body-centred cubic lattice with cells of `step`, each within +-`degrees`."""
    n = int(degrees // step) + 1
    corners = np.array(list(itertools.product(np.arange(-n, n + 1) * step, repeat=3)))
    points = np.concatenate([corners, corners + step / 2])
    return points[(np.abs(points) <= degrees + 1e-6).all(axis=1)]


def _reach(options) -> np.ndarray:
    """Voxels (k, j, i) that the template may be shifted by, each way."""
    return np.ceil(np.array(options.reach)[::-1] / options.voxel).astype(int)


def _half_extent(still, centre: np.ndarray, voxel: float) -> np.ndarray:
    """Half size (k, j, i), in voxels, of the box about the centre that holds the field of view."""
    index = np.argwhere((still.codes != OUTSIDE).numpy())[:, ::-1].astype(float)
    return np.ceil(np.abs(rigid.apply(still.affine, index) - centre).max(axis=0)[::-1] / voxel).astype(int)


def _offsets(half: np.ndarray, voxel: float) -> np.ndarray:
    """Offsets (k, j, i, 3) in mm along x, y, z of a grid of 2 `half` + 1 voxels about its middle."""
    steps = [voxel * np.arange(-n, n + 1) for n in half]
    return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)[..., ::-1]


def _sampled(source, points: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask of a normalised image at points (n, 3) of its world, as arrays of `shape`."""
    index = torch.as_tensor(rigid.apply(np.linalg.inv(source.affine), points), dtype=torch.float32)
    images = torch.stack([source.values, (source.codes != OUTSIDE).float()])[None]
    size = torch.tensor(source.codes.shape[::-1], dtype=torch.float32)
    found = F.grid_sample(images, (index / (size - 1) * 2 - 1)[None, None, None], align_corners=True)
    values, mask = found[0].reshape(2, *shape).numpy()
    return values, mask > 0.5


def _peaks(score: np.ndarray, most: int):
    """The highest local maxima: (value, shift (3,)) each."""
    top = np.where(maximum_filter(score, 3, mode="nearest") == score, score, -1.0).ravel()
    chosen = np.argpartition(top, -most)[-most:] if top.size > most else np.arange(top.size)
    return [(float(top[n]), np.array(np.unravel_index(n, score.shape))) for n in chosen if top[n] > -1]


def _kept(ascent: Ascent, poses: np.ndarray, centre, most: int, options, thin: int = 1) -> np.ndarray:
    """The `most` poses (m, 4, 4) most alike that are distinct: `apart` mm at the centre, or twice as many degrees."""
    (alike, _), chosen = ascent.weighed(poses, thin), []
    there = np.stack([rigid.apply(rigid.invert(p), centre[None])[0] for p in poses])
    for n in np.argsort(-alike, kind="stable"):
        turn = np.einsum("aij,ij->a", poses[chosen][:, :3, :3], poses[n, :3, :3]) if chosen else np.empty(0)
        degrees = np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))
        shift = np.linalg.norm(there[chosen] - there[n], axis=1) if chosen else np.empty(0)
        if np.all((shift > options.apart) | (degrees > 2 * options.apart)):
            chosen.append(int(n))
        if len(chosen) == most:
            break
    return poses[chosen]
