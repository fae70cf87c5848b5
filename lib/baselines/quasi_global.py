"""M2, quasi-global search (Miao, Liao, Pfister, Zhang, Ordy, MICCAI 2013): 2-D projections stand in for
the volumes.

What the 2013 method does, as far as its abstract and the two papers that compare with it say: the CT is
aligned to a non-contrast CBCT coarsely by its dominant neighbouring structure, the spine, through a fast
search over surrogate 2-D images, cheap enough for so many metric evaluations that the search is nearly
global; then finely, in 3-D, inside a confined volume of interest. It assumes moderate rotations between
the scans.

What is inferred here: the surrogates are mean projections of the target (bone for E1; soft tissue against
lung for E2) along two axes of the CBCT's grid, front and side. Bone is what lies
in a window of HU; `tuned` looks for what is denser than its neighbourhood instead, because grey values of a CBCT lie
off those of a CT by more than bone stands out, and many a CBCT has next to no bone in the window. For each rotation of a grid the CT's
target voxels are projected once, and masked normalised correlation is evaluated at *all* shifts by FFT,
over the pixels that both images cover; the two views share the shift along the body. That is about a
million evaluations in a second. The best poses are ordered again by mutual information in 3-D, and a few
that differ are refined by `mattes` and compared fairly (`fair`). The grid covers E1's whole range
of rotations, which the 2013 method did not: M2 at its best (a wider one finds no more of E2's hearts).
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from lib import rigid
from lib.baselines import common, fair, mattes
from lib.cases import Result
from lib.images import normalise, volume
from lib.images.volume import Volume


def register(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """Pose moving -> fixed. `settings.anatomy` says what is projected: "spine" or "heart"."""
    begin = time.process_time()
    rng, options = common.generator(settings, rng), settings.quasi_global
    centre = common.mask_centre(fixed, mask)
    poses, scores = _surrogate_search(fixed, moving, initial, settings, mask, centre)
    order = np.argsort(-scores, kind="stable")[: options.screened]
    small, floating, field = mattes.images(fixed, moving, options.mattes, mask)
    points, values = common.points_of(small, field, options.points, rng)
    coarse = floating.with_array(volume.gaussian(floating.array, options.smooth / floating.spacing))
    detail = fair.screen(poses[order], values, points, coarse, options.min_overlap, options.weighed)
    chosen = fair.distinct(poses[order], detail, options.refined, points, options.apart)
    ends, seed = [], int(rng.integers(2**30))
    for start in poses[order][chosen]:
        try:
            ends.append(mattes.optimise(small, floating, start, options.mattes, field, seed)[0])
        except RuntimeError:
            ends.append(start)
    winner, _ = fair.best(ends, values, points, floating, options.min_overlap)
    return Result(ends[winner], time.process_time() - begin)


def tuned(fixed, moving, initial, settings, mask=None, rng=None) -> Result:
    """The same with `quasi_global_tuned`."""
    return register(fixed, moving, initial, replace(settings, quasi_global=settings.quasi_global_tuned), mask, rng)


@dataclass
class Views:
    """Front and side projections on one canvas each, (..., n along x or y, n along z): values and what is
    covered.
    """

    values: list[torch.Tensor]
    covered: list[torch.Tensor]


def _surrogate_search(fixed, moving, initial, settings, mask, centre):
    """Poses (n, 4, 4) and surrogate scores (n,): for every rotation of the grid, its best shifts."""
    options = settings.quasi_global
    grid, target, field = _fixed_target(fixed, mask, settings)
    still = _project_fixed(target, field, options)
    points, weights, cover = _moving_target(moving, settings, grid, initial)
    angles = np.array(list(itertools.product(options.angles, repeat=3)))
    turns = rigid.params_to_matrix(np.concatenate([np.zeros_like(angles), angles], axis=1))
    starts = np.stack([rigid.about(turn, centre) @ initial for turn in turns])
    poses, scores = [], []
    for chunk in np.array_split(np.arange(len(starts)), max(1, len(starts) // 32)):
        drawn = _project_moving(points, weights, cover, starts[chunk], grid, options)
        front, side = (
            _correlate(s, m, drawn.values[v], drawn.covered[v], options.min_overlap)
            for v, (s, m) in enumerate(zip(still.values, still.covered, strict=True))
        )
        shifts, score = _best_shifts(front, side, options)
        for n, shift, value in zip(np.repeat(chunk, options.peaks), shifts, score, strict=True):
            offset = grid.direction @ (shift * options.spacing)
            poses.append(rigid.translation(offset) @ starts[n])
            scores.append(value)
    return np.stack(poses), np.array(scores)


def _target(hu: torch.Tensor, field: torch.Tensor, spacing, settings) -> torch.Tensor:
    """How much of the anatomy a voxel holds, from 0: HU, or HU above the neighbourhood's mean, within the anatomy's
    window; nothing outside `field`. All (nz, ny, nx).
    """
    options, anatomy = settings.quasi_global, settings.anatomy
    low, high = options.window[anatomy]
    if anatomy in options.local:
        hu = hu.clamp(min=options.darkest)  # lung and gas would make bone of all that lies beside them
        hu = hu - normalise.local_contrast(hu, field.float(), spacing)[0]
    return (hu.clamp(low, high) - low) * field


def _fixed_target(fixed, mask, settings):
    """The CBCT at the canvas' spacing, brought near HU: (grid, target (nz, ny, nx), field of view)."""
    spacing = settings.quasi_global.spacing
    small = common.prepare(fixed, spacing, (-1024.0, 3071.0))
    if np.any(small.spacing > 1.01 * spacing):  # thick slices: its pixels must be those of the CT's views
        small = volume.resample(small, spacing)
    field = common.mask_on(fixed, mask, small)
    small, field = common.crop(small, field, margin=0)
    if not field.any():
        raise ValueError("the fixed image has no field of view")
    gain, offset = normalise.tissue_level(small.array[field])
    hu = volume.gaussian(torch.where(field, small.array * gain + offset, torch.tensor(0.0)), [1.0] * 3)
    return small, _target(hu, field, small.spacing, settings), field


def _canvas(options, grid: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Canvas size (3,) in pixels along i, j, k and the canvas index of the grid's first voxel."""
    reach = np.ceil(np.array(options.reach) / options.spacing).astype(int)
    extent = np.ceil(np.array(grid.size) * grid.spacing / options.spacing).astype(int)
    return extent + 2 * reach, reach


def _project_fixed(target: torch.Tensor, field: torch.Tensor, options) -> Views:
    count = [field.sum(dim=1).float().T, field.sum(dim=2).float().T]  # front (nx, nz), side (ny, nz)
    total = [target.sum(dim=1).T, target.sum(dim=2).T]
    values = [t / c.clamp(min=1) for t, c in zip(total, count, strict=True)]
    # A ray must have seen a fair depth of the body, or its mean is one voxel's noise.
    return Views(values, [(c >= 0.3 * c.max()).float() for c in count])


def _moving_target(moving, settings, grid, initial):
    """Points (n, 3) of the CT's target and weights (n,); points (m, 3) that tell where the CT has data at
    all.

    Off to the sides only what could come into the field of view counts: pelvis and arms would cover the
    spine.
    """
    options = settings.quasi_global
    small = common.prepare(moving, options.spacing, (-1024.0, 3071.0))
    points = small.points().reshape(-1, 3).double()
    weights = _target(small.array, torch.ones_like(small.array, dtype=torch.bool), small.spacing, settings).reshape(-1)
    to_index = torch.as_tensor(np.linalg.inv(grid.affine) @ initial)
    where = points @ to_index[:3, :3].T + to_index[:3, 3]
    margin = torch.tensor([options.slab / s for s in grid.spacing[:2]])
    size = torch.tensor(grid.size[:2])
    near = ((where[:, :2] > -margin) & (where[:, :2] < size + margin)).all(-1)
    keep = near & (weights > 0)
    stride = max(1, int(keep.sum()) // options.max_points)
    cover = points[near][:: max(1, int(near.sum()) // 6000)]
    return points[keep][::stride], weights[keep][::stride], cover


def _project_moving(points, weights, cover, poses, grid, options) -> Views:
    """Splat the CT's points under each pose (n, 4, 4): views (n, nx or ny, nz) on the canvas."""
    size, first = _canvas(options, grid)
    to_index = torch.as_tensor(np.linalg.inv(grid.affine))
    scale = torch.tensor(grid.spacing / options.spacing)
    poses = torch.as_tensor(poses)

    def place(p):
        world = p @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]
        return ((world @ to_index[:3, :3].T + to_index[:3, 3]) * scale).round().long() + torch.tensor(first)

    at, at_cover = place(points), place(cover)
    views = Views([], [])
    for axis in (0, 1):
        views.values.append(_splat(at[..., axis], at[..., 2], weights, size[axis], size[2]))
        hit = _splat(at_cover[..., axis], at_cover[..., 2], torch.ones(len(cover)), size[axis], size[2])
        grown = torch.nn.functional.max_pool2d((hit > 0).float()[:, None], 5, stride=1, padding=2)[:, 0]
        views.covered.append(-torch.nn.functional.max_pool2d(-grown[:, None], 3, stride=1, padding=1)[:, 0])
    return views


def _splat(u, w, weights, nu: int, nw: int) -> torch.Tensor:
    """Sum weights (m,) into images (n, nu, nw) at pixels u, w (n, m); what falls outside is dropped."""
    inside = (u >= 0) & (u < nu) & (w >= 0) & (w < nw)
    image = torch.zeros(len(u), nu * nw)
    flat = torch.where(inside, u * nw + w, torch.tensor(0))
    return image.scatter_add_(1, flat, weights.float() * inside).reshape(-1, int(nu), int(nw))


def _correlate(f, f_mask, g, g_mask, min_overlap: float) -> torch.Tensor:
    """Normalised correlation of f (a, b) with g (n, A, B) at all shifts (n, A - a + 1, B - b + 1), masked
    (Padfield 2012).

    Entry [s] compares f[p] with g[p + s] over the pixels covered in both; -1 where they are fewer than
    `min_overlap`.
    """
    a, b = f.shape
    rows, columns = g.shape[1] - a + 1, g.shape[2] - b + 1
    scale = f[f_mask > 0].std().clamp(min=1e-6) if (f_mask > 0).sum() > 1 else 1.0
    f, g = f * f_mask / scale, g * g_mask / g.std().clamp(min=1e-6)
    spectrum = lambda x: torch.fft.rfft2(x.double(), s=g.shape[1:])  # noqa: E731
    back = lambda x: torch.fft.irfft2(x, s=g.shape[1:])[:, :rows, :columns]  # noqa: E731
    f1, f2, fm = spectrum(f).conj(), spectrum(f * f).conj(), spectrum(f_mask).conj()
    g1, g2, gm = spectrum(g), spectrum(g * g), spectrum(g_mask)
    n = back(fm * gm).clamp(min=1e-3)
    mean_f, mean_g = back(f1 * gm), back(fm * g1)
    top = back(f1 * g1) - mean_f * mean_g / n
    below = (back(f2 * gm) - mean_f**2 / n).clamp(min=1e-6) * (back(fm * g2) - mean_g**2 / n).clamp(min=1e-6)
    return torch.where(n >= min_overlap * f_mask.sum(), top / below.sqrt(), torch.tensor(-1.0, dtype=torch.float64))


def _best_shifts(front, side, options):
    """The best `peaks` shifts along the body of each rotation: shifts (n * peaks, 3) in pixels, scores (n
    * peaks,).

    front (n, X, Z), side (n, Y, Z): entry [s] says that the CT must move by reach - s.
    """
    x_score, x = front.max(dim=1)
    y_score, y = side.max(dim=1)
    total = x_score + y_score  # (n, Z)
    shifts, scores = [], []
    apart = max(1, int(options.apart / options.spacing))
    reach = np.array([(front.shape[1] - 1) / 2, (side.shape[1] - 1) / 2, (front.shape[2] - 1) / 2])
    for n, line in enumerate(total.clone()):
        for _ in range(options.peaks):
            z = int(line.argmax())
            shifts.append(reach - np.array([int(x[n, z]), int(y[n, z]), z]))
            scores.append(float(line[z]))
            line[max(0, z - apart) : z + apart + 1] = -2.0
    return np.array(shifts), scores
