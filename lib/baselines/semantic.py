"""M3, semantic registration (Neumann et al., MICCAI 2013 and TMI 2015): find the object in both images,
then align it.

What their method does: a probabilistic boosting tree on Haar-like features tells, for each CBCT voxel,
how likely it belongs to the anchor anatomy (pericardium; in the paper we reproduce also the spine); the
object segmented in the CT is aligned to that map by iterative optimisation. 2 x 82 (spine) and 600 + 393
(heart) scans trained it.

What is inferred here: gradient-boosted trees (`forest`) stand for the probabilistic boosting tree; one is
trained for the CBCT, one for the CT, which thus segments itself, from the split's training patients only.
The object is bone near the line of the vertebrae (E1), or what the epicardium encloses (E2). The
alignment maximises the correlation of the two probability maps over the field of view, by regular-step
gradient descent on a pyramid (theirs is a sparse matching of surface points; both end in the nearest
optimum). It is no correspondence search: one vertebra looks like the next.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.baselines import common, forest, mattes
from lib.cases import Result
from lib.images import normalise, volume
from lib.images.volume import Volume

_maps: dict = {}  # the last patient's probability maps: (key, map, seconds it took)


def register(fixed, moving, initial, settings, mask=None, rng=None, model=None) -> Result:
    """Pose moving -> fixed. `model`: what `train` gave, a classifier each for "fixed" and "moving".

    A patient's maps are made once for all its starts; their time is counted in each.
    """
    if model is None:
        raise UserError("semantic registration has no trained classifier; run semantic.train first.")
    begin = time.process_time()
    options = settings.semantic
    target, made_fixed = _map("fixed", fixed, model["fixed"], options, common.seen(fixed, mask))
    source, made_moving = _map("moving", moving, model["moving"], options, None)
    seed = int(common.generator(settings, rng).integers(2**30))
    field = common.mask_on(fixed, mask, target)
    target, field = common.crop(target, field)
    pose, _ = mattes.optimise(target, source, initial, options.mattes, field, seed)
    return Result(pose, time.process_time() - begin + made_fixed + made_moving)


def probability(image: Volume, model, spacing: float, mask=None) -> Volume:
    """Probability map x 100 of the object in a CBCT or CT, at `spacing` mm; 0 outside `mask`."""
    small, field = forest.prepare(image, mask, spacing)
    field_body = field & (small.array > -300)  # neither bone nor heart is air
    index = torch.nonzero(field_body)
    out = torch.zeros_like(small.array)
    for part in index.split(100_000):
        out[part[:, 0], part[:, 1], part[:, 2]] = 100 * forest.probability(model, forest.features(small, field, part))
    return small.with_array(out)


def _map(role, image, model, options, mask):
    """The map and, where it was made by an earlier call, the seconds that call spent on it."""
    key = (id(image.array), id(model))
    known = _maps.get(role)
    if known is not None and known[0] == key:
        return known[1], known[2]
    begin = time.process_time()
    made = probability(image, model, options.spacing, mask)
    # The entry holds the image too, so that its id cannot be given to another.
    _maps[role] = (key, made, time.process_time() - begin, image.array, model)
    return made, 0.0


# --- training -------------------------------------------------------------------------------------


def train(patients, settings) -> dict:
    """Both classifiers from training patients (an iterable; one is held at a time). Raises UserError for
    none.
    """
    options, rows = settings.semantic, {"fixed": ([], []), "moving": ([], [])}
    rng = np.random.default_rng(settings.seed)
    for patient in patients:
        for role in rows:
            x, y = samples(patient, role, options, rng)
            rows[role][0].append(x)
            rows[role][1].append(y)
    if not rows["fixed"][0]:
        raise UserError("semantic registration needs training patients; this split has none.")
    return {
        role: forest.fit(np.concatenate(x), np.concatenate(y), options, settings.seed) for role, (x, y) in rows.items()
    }


def samples(patient, role: str, options, rng) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, f) and labels (n,) of one image of a patient; as many voxels of the object as others,
    if it has them.
    """
    image = patient.fixed if role == "fixed" else patient.moving
    mask = normalise.field_of_view(image) if role == "fixed" else None
    small, field = forest.prepare(image, mask, options.spacing)
    body = field & (small.array > -300)
    index = torch.nonzero(body)
    label = object_at(patient, role, _world(small, index), small.array[body])
    half = options.voxels // 2
    chosen = []
    for kind in (label, ~label):
        where = np.flatnonzero(kind)
        chosen.append(rng.choice(where, min(half, len(where)), replace=False))
    chosen = np.sort(np.concatenate(chosen))
    return forest.features(small, field, index[torch.as_tensor(chosen)]).numpy(), label[chosen]


def _world(small: Volume, index: torch.Tensor) -> np.ndarray:
    ijk = index.flip(1).double().numpy()
    return ijk @ small.affine[:3, :3].T + small.affine[:3, 3]


def object_at(patient, role: str, points: np.ndarray, hu: torch.Tensor) -> np.ndarray:
    """Which of the points (n, 3), in the role's own world, belong to the object; bool (n,)."""
    if patient.experiment == "heart":
        mesh = patient.mesh_fixed if role == "fixed" else patient.mesh_moving
        return inside_mesh(points, *mesh)
    if role == "fixed":  # the CT says better than the CBCT what is bone
        points = rigid.apply(rigid.invert(patient.truth), points)
        hu = volume.sample(patient.moving, torch.as_tensor(points).float())
    return near_line(points, np.asarray(patient.vertebrae)) & (hu.numpy() > 150)


def near_line(points: np.ndarray, vertebrae: np.ndarray, radius: float = 40.0, ahead: float = 25.0) -> np.ndarray:
    """Points (n, 3) within `radius` of the line through the vertebrae (m, 3), which goes on `ahead` mm at
    its ends.

    The line is laid 15 mm behind the bodies' centres, so that arches and processes belong to it.
    """
    line = np.asarray(vertebrae, dtype=np.float64) + [0.0, 15.0, 0.0]
    step = lambda a, b: (a - b) / max(np.linalg.norm(a - b), 1e-6) * ahead  # noqa: E731
    line = np.concatenate([[line[0] + step(line[0], line[1])], line, [line[-1] + step(line[-1], line[-2])]])
    nearest = np.full(len(points), np.inf)
    for a, b in zip(line[:-1], line[1:], strict=True):
        t = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    return nearest < radius


def inside_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Which points (n, 3) lie inside a closed, star-shaped-or-not surface: its voxels at 4 mm, filled."""
    import trimesh
    from scipy import ndimage

    mesh = trimesh.Trimesh(np.asarray(vertices), np.asarray(faces), process=False)
    surface, step = trimesh.sample.sample_surface(mesh, 60_000, seed=0)[0], 4.0
    low = surface.min(0) - 2 * step
    shape = np.ceil((surface.max(0) + 2 * step - low) / step).astype(int)
    shell = np.zeros(shape, dtype=bool)
    shell[tuple(((surface - low) / step).astype(int).T)] = True
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(shell))
    index = np.floor((points - low) / step).astype(int)
    within = ((index >= 0) & (index < shape)).all(1)
    out = np.zeros(len(points), dtype=bool)
    out[within] = solid[tuple(index[within].T)]
    return out
