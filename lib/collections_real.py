"""Test patients from real scans: a real pair as it is, or a real CT whose CBCT is simulated at the levels of
its manifest.

A patient is made once and kept in data/real/<scan>/patients/<id>/. Nothing here is used for training.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lib import collections_anatomy as anatomy
from lib import manifest, provenance, rigid
from lib.errors import UserError
from lib.patients.anatomy import Anatomy
from lib.patients.conebeam import ConeBeamSettings, simulate
from lib.register_images import shrink, trim
from lib.volume import read_transform, sample

VERSION = 4  # raised when what is made here changes
SCANNER = ConeBeamSettings(spacing=2.5, views=140, detector_pixel=3.0)  # the same in every profile


def patients(experiment: str, root: Path | None = None, only: str | None = None) -> list:
    """Test Patients of an experiment from every scan on this machine, or from the scan or collection `only`.

    Raises UserError for an unknown scan.
    """
    if only is not None:
        if manifest.load(only).kind == "collection":
            from lib import collections_patients

            return collections_patients.load(only, experiment, root)
        scans = [manifest.scan(only, root)]
        if experiment not in scans[0].manifest.experiments:
            raise UserError(
                f"{only} does not serve the {experiment}; it serves "
                f"{', '.join(scans[0].manifest.experiments)}."
            )
    else:
        scans = manifest.real_scans(experiment=experiment, root=root)
    return [patient for scan in scans for patient in of_scan(scan, experiment)]


def of_scan(scan: manifest.Scan, experiment: str) -> list:
    """The patients of one scan: one a level (spine), or one (heart). Cached on disk."""
    from lib.patients import store

    levels = list(scan.manifest.levels) if experiment == "spine" else ["heart"]
    loaded, made = None, []
    for level in levels:
        folder = manifest.data_folder(scan.name, scan.root) / "patients" / f"{scan.name}_{level}"
        wanted = fingerprint(scan, level)
        if _mark(folder) != wanted:
            loaded = loaded or scan.load()
            patient = make(scan, level, experiment, loaded)
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


def fingerprint(scan: manifest.Scan, level: str) -> str:
    return provenance.fingerprint([VERSION, scan.manifest.model_dump(), level, asdict(SCANNER)])


def make(scan: manifest.Scan, level: str, experiment: str, loaded):
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
    ct_small = shrink(ct, 2.0, False)
    surface = mesh
    if scan.is_pair:
        fixed, pose = trim(scan.load_cbct()), read_transform(scan.path(found.truth))
        truth = pose
    else:
        fixed, truth, pose, surface = scan_again(ct_small, labels, mesh, target, rng)
    patient = Patient(id, experiment, scan.name, fixed, ct_small, truth)
    patient.vertebrae = np.array([body.centre for body in spine]) if spine else None
    if points is not None:
        patient.landmarks_moving, patient.landmarks_fixed = points, rigid.apply(truth, points)
    if mesh is not None:
        patient.mesh_moving, patient.mesh_fixed = mesh, (rigid.apply(pose, surface[0]), surface[1])
    patient.annotated = place.annotate(patient, rng, 0.5, 2.0)
    patient.meta = meta | {
        "level": level,
        "truth": found.truth_is or "exact: the CBCT is simulated from this CT",
    }
    return patient


def scan_again(ct, labels, mesh, target, rng, scanner: ConeBeamSettings = SCANNER, implant=None):
    """A cone-beam scan of a CT's patient on another day, centred at `target` (3,). implant: a function that puts
    something into the body (Volume -> Volume) before it is scanned.

    Returns the CBCT, the truth (4, 4; CT -> CBCT world), the pose of the body, and `mesh` as it is on that day (CT frame).
    """
    from lib.patients import place

    pose = place.world_pose(target, rng)
    other = another_day(ct, labels, mesh, rng)
    if implant is not None:
        other.body_at_cbct = implant(other.body_at_cbct)
    fixed = simulate(other.body_at_cbct, target, rng, scanner, other.meta.get("body_phases"), pose)
    # E2: the heart itself has moved in the body; the truth is the rigid pose that aligns the epicardium best.
    truth = pose @ np.asarray(other.meta.get("heart_pose", np.eye(4)), dtype=np.float64)
    return fixed, truth, pose, other.mesh_cbct


def another_day(ct, labels, mesh, rng) -> Anatomy:
    """The body when the CBCT is made: the CT's table gone and another one there, bowel gas and contrast changed; with a
    `mesh` (the epicardium) also another heart and breathing state. Without this a CBCT simulated from its own CT is so
    like it that any optimiser aligns the two to a tenth of a millimetre."""
    from lib.patients import another_day as day
    from lib.patients import grow

    source = grow.axis_aligned(ct, 2.0)
    numbers = None
    if labels is not None:
        numbers = sample(grow.axis_aligned(labels, 2.0, nearest=True), source.points(), 0.0, "nearest")
    body = day.recolour(source, numbers, rng, 1.0)
    body = body.with_array(day.new_state(body, rng))
    result = Anatomy(source, body, np.zeros(3), meta={})
    if mesh is not None:
        result.mesh_ct = mesh
        result = day.beat(result, rng)
    return result
