"""The paper's "Ground Truth" row: annotated landmarks (E1) or meshes (E2), aligned by iterative closest
points.

Annotations carry realistic errors, and the two hearts differ in shape, so even this has a residual TRE or
MME: the row. The closest-point iterations are trimesh's; they start at the Procrustes fit of E1's
numbered landmarks, or at the true pose for E2, as an expert's fit that is edited by eye would end there.
"""

from __future__ import annotations

import time

import numpy as np
import trimesh

from lib.cases import Result
from lib.errors import UserError


def landmarks(moving: np.ndarray, fixed: np.ndarray) -> Result:
    """Pose moving -> fixed from annotated landmarks (n, 3) each, in the same order."""
    begin = time.perf_counter()
    start, _, _ = trimesh.registration.procrustes(moving, fixed, reflection=False, scale=False)
    return Result(_icp(moving, fixed, start), time.perf_counter() - begin)


def meshes(moving, fixed, start: np.ndarray) -> Result:
    """Pose moving -> fixed from annotated surfaces, each (vertices (n, 3), faces), from the pose `start`."""
    begin = time.perf_counter()
    points, _ = trimesh.sample.sample_surface(trimesh.Trimesh(*fixed, process=False), 3000, seed=0)
    source, _ = trimesh.sample.sample_surface(trimesh.Trimesh(*moving, process=False), 3000, seed=0)
    return Result(_icp(np.asarray(source), np.asarray(points), start), time.perf_counter() - begin)


def _icp(moving: np.ndarray, fixed: np.ndarray, start: np.ndarray) -> np.ndarray:
    pose, _, _ = trimesh.registration.icp(
        moving, fixed, initial=start, threshold=1e-6, max_iterations=100, reflection=False, scale=False
    )
    return np.asarray(pose)


def register(patient) -> Result:
    """From a patient's own annotations (`Patient.annotated`). Raises UserError where there are none."""
    marks, kind = patient.annotated, "landmarks" if patient.experiment == "spine" else "mesh"
    if marks.get(f"{kind}_moving") is None or marks.get(f"{kind}_fixed") is None:
        raise UserError(f"{patient.id}: has no annotated {kind}; its ground-truth row cannot be measured.")
    moving, fixed = marks[f"{kind}_moving"], marks[f"{kind}_fixed"]
    return landmarks(moving, fixed) if kind == "landmarks" else meshes(moving, fixed, patient.truth)
