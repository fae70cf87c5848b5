"""From patients on disk to training pairs: normalised pyramid levels, made once and cached beside each patient.

This is the door between the volumes (NIfTI, read through ITK) and training, which needs torch and NumPy only: a bare
GPU box gets the `pair_<stage>_<voxel>mm.npz` files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import rigid
from lib.augment import StreamSettings, TrainingPair
from lib.base.errors import UserError
from lib.base.pools import one_thread, pool
from lib.images.normalise import field_of_view, field_of_view_centre, prepare


def anchors(patient, stage: str) -> np.ndarray:
    """Where windows may be centred (n, 3), fixed world.

    Coarse: the field of view's middle. Fine, E1: the vertebral bodies inside it, and points half-way from them to the
    middle across the body, at their own height, because attention is that imprecise (notebook 04); E2: the heart's centre.
    """
    middle = field_of_view_centre(patient.fixed)
    if stage == "coarse":
        return middle[None]
    if patient.experiment == "heart":
        return np.asarray(patient.mesh_fixed[0]).mean(axis=0)[None]
    points = rigid.apply(patient.truth, np.asarray(patient.vertebrae, dtype=np.float64))
    mask = field_of_view(patient.fixed).nonzero().numpy()
    corners = (patient.fixed.affine @ np.array([[*mask.min(0)[::-1], 1.0], [*mask.max(0)[::-1], 1.0]]).T)[2]
    inside = points[(points[:, 2] > min(corners) + 15) & (points[:, 2] < max(corners) - 15)]
    if not len(inside):
        return middle[None]
    half_way = inside + 0.5 * (middle - inside) * [1.0, 1.0, 0.0]
    return np.concatenate([inside, half_way])


def split_folders(cfg, root=None) -> dict[str, list[Path]]:
    """Patient folders of this split: train, validation, test; below `root`, by default the project's data folder.

    They are drawn patients; other data sets are for testing alone (`lib.study.walk.cases_of`).
    """
    from lib.patients import population, splits

    s = cfg.patients
    folder = {t.id: population.folder_of(t, cfg.profile, root) for t in population.tasks(s, cfg.experiment)}
    parts = splits.split(folder, cfg.split, s.n_splits, s.n_test, s.n_validation, s.seed)
    return {side: [folder[name] for name in names] for side, names in parts.items()}


def pair_path(folder, stage: str, settings: StreamSettings) -> Path:
    plain = "" if settings.contrast == "local" else f"_{settings.contrast}"
    return Path(folder) / f"pair_{stage}_{settings.source(stage):g}mm{plain}.npz"


def _make(folder, stage, settings) -> Path:
    from lib.patients import store
    from lib.patients.scanner import second

    path = pair_path(folder, stage, settings)
    source = Path(folder) / "patient.json"
    if path.exists() and path.stat().st_mtime >= source.stat().st_mtime:
        return path
    patient, mm = store.load(folder), settings.source(stage)
    second.refuse(patient.meta)
    pair = TrainingPair(
        patient.id,
        prepare(patient.fixed, True, mm, settings.contrast),
        prepare(patient.moving, False, mm, settings.contrast),
        patient.truth,
        anchors(patient, stage),
    )
    pair.save(path)
    return path


def prepare_pairs(folders, stage: str, settings: StreamSettings, workers: int = 2) -> list[Path]:
    """Make the training pairs of patients that have none yet, in parallel. Returns their paths, in order."""
    folders = [Path(f) for f in folders]
    missing = [f for f in folders if not (f / "patient.json").exists()]
    if missing:
        raise UserError(f"{missing[0]}: there is no patient here; run notebook 01 (make reproduce does) first.")
    todo = [f for f in folders if not pair_path(f, stage, settings).exists()]
    if workers > 1 and len(todo) > 2:
        with pool(workers, one_thread) as processes:
            return list(processes.map(_make, folders, [stage] * len(folders), [settings] * len(folders)))
    return [_make(f, stage, settings) for f in folders]


def load_pairs(paths) -> list[TrainingPair]:
    """Read training pairs. Raises UserError naming a damaged file."""
    return [TrainingPair.load(p) for p in paths]
