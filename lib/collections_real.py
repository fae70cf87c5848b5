"""Test patients from real scans: a real pair as it is, or a real CT whose CBCT is simulated at the levels of
its manifest.

A patient is made once and kept in data/real/<scan>/patients/<id>/. Nothing here is used for training.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from lib import collections_anatomy as anatomy
from lib import manifest, provenance, rigid
from lib.errors import UserError
from lib.register_images import shrink, trim
from lib.volume import read_transform

VERSION = 3  # raised when what is made here changes


def patients(experiment: str, root: Path | None = None, settings=None, only: str | None = None) -> list:
    """Test Patients of an experiment from every scan on this machine, or from the scan `only`.

    settings: a `PatientSettings` for the simulated scanner, None for its defaults. Raises UserError for an
    unknown scan.
    """
    if only is not None:
        scans = [manifest.scan(only, root)]
        if experiment not in scans[0].manifest.experiments:
            raise UserError(
                f"{only} does not serve the {experiment}; it serves "
                f"{', '.join(scans[0].manifest.experiments)}."
            )
    else:
        scans = manifest.real_scans(experiment=experiment, root=root)
    return [patient for scan in scans for patient in of_scan(scan, experiment, settings)]


def of_scan(scan: manifest.Scan, experiment: str, settings=None) -> list:
    """The patients of one scan: one a level (spine), or one (heart). Cached on disk."""
    from lib.patients import store

    levels = list(scan.manifest.levels) if experiment == "spine" else ["heart"]
    loaded, made = None, []
    for level in levels:
        folder = manifest.data_folder(scan.name, scan.root) / "patients" / f"{scan.name}_{level}"
        wanted = fingerprint(scan, level, settings)
        if _mark(folder) != wanted:
            loaded = loaded or scan.load()
            patient = make(scan, level, experiment, loaded, settings)
            patient.meta["fingerprint"] = wanted
            store.save(patient, folder)
        made.append(store.load(folder))
    return made


def _mark(folder: Path) -> str | None:
    from lib.patients import store

    try:
        return store.load_record(folder)["meta"].get("fingerprint")
    except (UserError, KeyError):
        return None


def fingerprint(scan: manifest.Scan, level: str, settings=None) -> str:
    cone = settings.cone_beam() if settings is not None else None
    return provenance.fingerprint([VERSION, scan.manifest.model_dump(), level, cone])


def make(scan: manifest.Scan, level: str, experiment: str, loaded, settings=None):
    """One Patient. `loaded` is what `Scan.load` gave. The truth is exact for a simulated CBCT, an estimate
    for a pair."""
    from lib.patients import place
    from lib.patients.store import Patient

    ct, labels, meta = loaded
    found, id = scan.manifest, f"{scan.name}_{level}"
    rng = np.random.default_rng(zlib.crc32(id.encode()))
    spine = anatomy.bodies(found, labels)
    target, points, mesh = None, None, None
    if experiment == "spine":
        target = next(body.centre for body in spine if body.name == level)
        points = anatomy.landmarks(spine, target)
    else:
        mesh = anatomy.heart_mesh(found.heart, labels)
        target = (mesh[0].min(axis=0) + mesh[0].max(axis=0)) / 2
    if scan.is_pair:
        fixed, truth = trim(scan.load_cbct()), read_transform(scan.path(found.truth))
    else:
        truth = place.world_pose(target, rng)
        fixed = _simulate(ct, target, rng, truth, settings)
    patient = Patient(id, experiment, scan.name, fixed, shrink(ct, 2.0, False), truth)
    patient.vertebrae = np.array([body.centre for body in spine]) if spine else None
    if points is not None:
        patient.landmarks_moving, patient.landmarks_fixed = points, rigid.apply(truth, points)
    if mesh is not None:
        patient.mesh_moving, patient.mesh_fixed = mesh, (rigid.apply(truth, mesh[0]), mesh[1])
    patient.annotated = place.annotate(patient, rng, 0.5, 2.0)
    patient.meta = meta | {
        "level": level,
        "truth": found.truth_is or "exact: the CBCT is simulated from this CT",
    }
    return patient


def _simulate(ct, target, rng, pose, settings):
    from lib.patients.conebeam import simulate

    body, cone = shrink(ct, 2.0, False), settings.cone_beam() if settings is not None else None
    for _ in range(5):
        fixed = simulate(body, target, rng, cone, None, pose)
        if torch.isfinite(fixed.array).all():  # the reconstruction's extrapolation of truncated rows may fail
            return fixed
    raise UserError("The simulated CBCT is not finite; choose another level or scanner settings.")
