"""The paper's "Ground Truth" row: annotated landmarks (E1) or meshes (E2), aligned by iterative closest
points.

Annotations carry realistic errors, and the two hearts differ in shape, so even this has a residual TRE or
MME: the row. An expert who sees a vertebra's edge too high marks all of it too high: besides its own error,
each landmark carries one that is common to its vertebra. With independent errors alone 32 landmarks would
average them away (0.3 mm, where the paper has 0.9). The closest-point iterations are trimesh's; they start
at the Procrustes fit of E1's numbered landmarks, or at the true pose for E2, as an expert's fit that is
edited by eye would end there.
"""

from __future__ import annotations

import time
import zlib

import numpy as np
import trimesh

from lib.base.errors import UserError
from lib.cases import Result


def landmarks(moving: np.ndarray, fixed: np.ndarray) -> Result:
    """Pose moving -> fixed from annotated landmarks (n, 3) each, in the same order."""
    begin = time.process_time()
    start, _, _ = trimesh.registration.procrustes(moving, fixed, reflection=False, scale=False)
    return Result(_icp(moving, fixed, start), time.process_time() - begin)


def meshes(moving, fixed, start: np.ndarray) -> Result:
    """Pose moving -> fixed from annotated surfaces, each (vertices (n, 3), faces), from the pose `start`."""
    begin = time.process_time()
    points, _ = trimesh.sample.sample_surface(trimesh.Trimesh(*fixed, process=False), 3000, seed=0)
    source, _ = trimesh.sample.sample_surface(trimesh.Trimesh(*moving, process=False), 3000, seed=0)
    return Result(_icp(np.asarray(source), np.asarray(points), start), time.process_time() - begin)


def _icp(moving: np.ndarray, fixed: np.ndarray, start: np.ndarray) -> np.ndarray:
    pose, _, _ = trimesh.registration.icp(
        moving, fixed, initial=start, threshold=1e-6, max_iterations=100, reflection=False, scale=False
    )
    return np.asarray(pose)


def register(patient, settings) -> Result:
    """From a patient's own annotations (`Patient.annotated`) and `settings.ground_truth`. Raises UserError
    where there are none.
    """
    marks, kind = patient.annotated, "landmarks" if patient.experiment == "spine" else "mesh"
    if marks.get(f"{kind}_moving") is None or marks.get(f"{kind}_fixed") is None:
        raise UserError(f"{patient.id}: has no annotated {kind}; its ground-truth row cannot be measured.")
    moving, fixed = marks[f"{kind}_moving"], marks[f"{kind}_fixed"]
    if kind == "mesh":
        return meshes(moving, fixed, patient.truth)
    errors = level_errors(patient, settings)
    return landmarks(moving + errors[0], fixed + errors[1])


def level_errors(patient, settings) -> np.ndarray:
    """Errors (2, n, 3) in mm that the landmarks of one vertebra share, in the CT and in the CBCT.

    A landmark belongs to the nearest vertebral centre. Drawn from the seed and the patient's id: the patients
    on disk, whose annotations carry the landmarks' own errors, stay what they are. Zero without vertebrae.
    """
    points = np.asarray(patient.landmarks_moving)
    if patient.vertebrae is None or not len(patient.vertebrae):
        return np.zeros((2, *points.shape))
    centres = np.asarray(patient.vertebrae)
    level = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)
    rng = np.random.default_rng([settings.seed, zlib.crc32(patient.id.encode())])
    return rng.normal(0, settings.ground_truth.level_error, (2, *centres.shape))[:, level]
