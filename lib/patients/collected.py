"""Test patients from a collection that someone downloaded: what `python -m lib data NAME --from FOLDER` makes.

They are kept in data/real/<NAME>/patients/, and `-r dataset NAME` runs the notebooks on them, as on any other data set.
A pair is taken as it is where its authors aligned it (`alignment` in the manifest: the truth is then the identity, as
exact as their alignment). Of every other case the CT is taken and its CBCT simulated, so that the truth is known: a real
CBCT without a reference pose can be registered, but nothing can be measured on it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lib import rigid
from lib.base import provenance
from lib.base.errors import UserError
from lib.images import read
from lib.images.pair import shrink, trim
from lib.images.volume import Volume
from lib.patients.rescan import scan_again
from lib.patients.scans import layouts, manifest
from lib.patients.scans import marks as anatomy

VERSION = 1  # raised when what is made here changes


def folder_of(name: str, root=None) -> Path:
    """data/real/<name>/patients/."""
    return manifest.data_folder(name, root) / "patients"


def make_all(name: str, source, root=None, limit: int | None = None, say: Callable[[str], None] = print) -> list[Path]:
    """Patients of the first `limit` cases (all by default), each once; a case that cannot be used is named and left out.

    Raises UserError: what `collections.read` raises, or no case at all could be used.
    """
    from lib.patients import store

    found, made = manifest.load(name), []
    for case in layouts.read(name, source)[:limit]:
        for experiment in case.experiments:
            id = re.sub(r"[^A-Za-z0-9.-]", "_", f"{name}_{case.id}_{experiment}")
            folder, wanted = folder_of(name, root) / id, fingerprint(found, case, experiment)
            try:
                if _mark(folder) != wanted:
                    patient = make(found, case, experiment, id)
                    patient.meta["fingerprint"] = wanted
                    store.save(patient, folder)
                    say(f"{id}: {patient.meta['cbct']}")
                made.append(folder)
            except UserError as error:
                say(f"{id}: left out: {error}")
    if not made:
        raise UserError(f"{name}: none of its cases could be used; the lines above say why.")
    return made


def load(name: str, experiment: str, root=None) -> list:
    """The Patients made of a collection, their volumes read as they are used. Raises UserError where there are none."""
    from lib.patients import store

    folders = sorted(p.parent for p in folder_of(name, root).glob(f"*_{experiment}/patient.json"))
    if not folders:
        raise UserError(
            f"{name}: no patient for the {experiment} here; run `python -m lib data {name} --from FOLDER` on its download."
        )
    return [store.load(folder, later=True) for folder in folders]


def fingerprint(found: manifest.Manifest, case: layouts.Case, experiment: str) -> str:
    files = [p for p in (case.ct, case.cbct, case.labels) if p is not None and p.is_file()]
    return provenance.fingerprint([VERSION, found.identity(), case.id, experiment, [p.stat().st_size for p in files]])


def _mark(folder: Path) -> str | None:
    from lib.patients import store

    try:
        return store.load_record(folder)["meta"].get("fingerprint")
    except (UserError, KeyError):
        return None


def make(found: manifest.Manifest, case: layouts.Case, experiment: str, id: str):
    """One Patient of a collection's case."""
    from lib.patients import place
    from lib.patients.store import Patient

    ct, cbct = case.load()
    ct = ct.with_array(ct.array.clamp(min=-1024.0))
    rng = np.random.default_rng(zlib.crc32(id.encode()))
    labels = label_image(found, case)
    bodies = anatomy.bodies(found, labels) if experiment == "spine" else []
    mesh = anatomy.heart_mesh(found.heart, labels) if experiment == "heart" and found.heart and labels else None
    paired, small = cbct is not None and found.alignment is not None, shrink(ct, 2.0, False)
    if paired:
        fixed, truth, pose, surface = trim(cbct), np.eye(4), np.eye(4), mesh
        target = fixed.centre
    elif experiment == "heart" and mesh is None:
        raise UserError("the heart is not labelled, so there is no place to simulate a cone-beam scan of.")
    else:
        target = target_of(ct, bodies, mesh)
        fixed, truth, pose, surface = scan_again(small, labels, mesh, target, rng)
    patient = Patient(id, experiment, found.name, fixed, small, truth)
    if bodies:
        patient.vertebrae = np.array([body.centre for body in bodies])
        patient.landmarks_moving = anatomy.landmarks(bodies, target)
        patient.landmarks_fixed = rigid.apply(truth, patient.landmarks_moving)
    if mesh is not None:
        patient.mesh_moving, patient.mesh_fixed = mesh, (rigid.apply(pose, surface[0]), surface[1])
    patient.annotated = place.annotate(patient, rng, 0.5, 2.0)
    said = (
        "a real pair"
        if paired
        else "CBCT simulated" + ("; its real one has no reference pose" if cbct is not None else "")
    )
    patient.meta = {
        "dataset": found.name,
        "source": found.source,
        "licence": found.licence,
        "simulated_cbct": not paired,
        "cbct": said,
        "truth": found.alignment if paired else "exact: the CBCT is simulated from this CT",
    }
    return patient


def label_image(found: manifest.Manifest, case: layouts.Case) -> Volume | None:
    """One label image of a case: its own, or its folder of masks, whose names the manifest gives values (`masks`)."""
    if case.labels is None:
        return None
    if not case.labels.is_dir():
        labels = read.read_image(case.labels)
        if found.heart_values:
            heart = torch.isin(labels.array.round(), torch.tensor(found.heart_values, dtype=torch.float32))
            labels = labels.with_array(heart.float() * found.heart.label)
        return labels
    merged = None
    for stem, value in found.masks.items():
        path = case.labels / f"{stem}.nii.gz"
        if not path.exists():
            continue
        try:
            mask = read.read_image(path)
        except UserError:  # an empty mask: this structure is not in view
            continue
        merged = mask.with_array(torch.zeros_like(mask.array)) if merged is None else merged
        merged.array[mask.array > 0.5] = float(value)
    return merged


def target_of(ct: Volume, bodies, mesh) -> np.ndarray:
    """Where the CBCT is centred (3,): the vertebra nearest the middle of the CT's length, the heart's middle, or, without
    labels, the middle of the bone (above 250 HU) of the CT's middle 80 mm."""
    if bodies:
        return min(bodies, key=lambda body: abs(body.centre[2] - ct.centre[2])).centre
    if mesh is not None:
        return (mesh[0].min(axis=0) + mesh[0].max(axis=0)) / 2
    bone = shrink(ct, 4.0, False)
    points = bone.points()[(bone.array > 250) & ((bone.points()[..., 2] - ct.centre[2]).abs() < 40)]
    if len(points) < 50:
        raise UserError("there is no bone in the middle of the CT, so no place to simulate a cone-beam scan of.")
    return points.double().mean(dim=0).numpy()
