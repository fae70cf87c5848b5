"""The embedded population: patients drawn, or grown from a real scan, scanned, placed and saved, in parallel.

Every patient is a function of the settings, its experiment and its number alone. A patient whose fingerprint is on disk
is not made again; an interrupted build goes on where it stopped.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lib import rigid
from lib.base import pools, provenance
from lib.base.errors import UserError
from lib.base.folders import data_root
from lib.base.limits import Count, Number, Positive, Share, Size, Spacing
from lib.patients import place, store
from lib.patients.anatomy import Anatomy
from lib.patients.heart.hardness import DRAWN
from lib.patients.scanner import cheap
from lib.patients.scanner.conebeam import CardiacSettings, ConeBeamSettings, ManyScanners, simulate
from lib.patients.store import Patient

VERSION = {"spine": 2, "heart": 3}  # raise it when the same settings make other patients
# Settings that decide how a patient looks; the others say how many there are, who tests and how many processes work.
LOOKS = (
    *("spacing", "cbct_spacing", "views", "detector_pixel", "phases", "rtk", "breathing"),
    *("landmark_error", "mesh_error", "seed"),
)
WIDER = ("every_level", "fat", "scanners")  # looks too, which came later: they count where they are not the default


@dataclass(frozen=True)
class PatientSettings:
    """How many patients, and how finely. The defaults are the `smoke` profile."""

    spine: Number = 6  # drawn patients of E1 (paper: 82 + 5 a split)
    heart: Number = 6  # drawn patients of E2 (paper: 92 + 5 a split)
    n_splits: Count = 2  # blind splits (paper: 5), their test patients disjoint
    n_test: Count = 1  # test patients a split (paper: 5)
    n_validation: Number = 1  # patients that draw the learning curves, and on which settings may be chosen
    spacing: Spacing = 4.0  # mm, grid on which bodies are drawn and the CT is kept
    cbct_spacing: Spacing = 4.0  # mm, of the CBCT
    views: Count = 100  # projections of a cone-beam scan
    detector_pixel: Positive = 5.0  # mm on the detector
    phases: Count = 4  # states of the moving chest during a cone-beam scan of E2; 1: it holds still
    rtk: Share = 1.0  # share of cone-beam scans by physics (RTK); of the others only the look is imitated
    breathing: Size = 0.0  # mm, standard deviation of how far organs have moved at the CBCT, in patients grown for E1
    every_level: bool = False  # E1's CBCTs lie at any vertebra of the CT, not near its middle alone
    fat: Size = 0.0  # mm, the most that patients grown for E1 have more under the skin; half of them none
    scanners: Literal["one", "many"] = "one"  # E1: the scanner as it is, or one drawn anew for each scan, and worse
    landmark_error: Size = 0.55  # mm per axis: how precisely an expert marks a vertebra's edge
    mesh_error: Size = 1.5  # mm, smooth error of an expert's epicardium
    seed: Number = 2017
    workers: Number = 0  # processes; 0: one a core that this process may use

    def disagree(self) -> str:
        """Whether the splits ask for more patients than there are."""
        asked = f"has {self.n_splits} splits of {self.n_test} test and {self.n_validation} validation patients"
        for name in ("spine", "heart"):
            there = getattr(self, name)
            if there and (self.n_splits * self.n_test > there or self.n_test + self.n_validation >= there):
                return f"{asked}, too many for {name}: {there}; draw more patients, or test on fewer."
        return ""

    def cone_beam(self, experiment: str = "spine") -> ConeBeamSettings:
        """The scanner these settings ask for."""
        how = {"spacing": self.cbct_spacing, "views": self.views, "detector_pixel": self.detector_pixel}
        if experiment == "spine":
            return (ManyScanners if self.scanners == "many" else ConeBeamSettings)(**how)
        heart = {name: getattr(DRAWN, name) for name in ("diameter", "scatter", "gated", "gated_views")}
        return CardiacSettings(**how, **heart)


@dataclass(frozen=True)
class Task:
    """One patient to make. `source`: the manifest of the scan it grows from; None: it is drawn."""

    experiment: str
    index: int
    source: str | None = None

    @property
    def dataset(self) -> str:
        return f"{'grown' if self.source else 'virtual'}_{self.experiment}"

    @property
    def id(self) -> str:
        return f"{self.dataset}_{self.index:03d}"


def tasks(settings: PatientSettings, experiment: str) -> list[Task]:
    """The drawn patients that the settings ask for. Raises UserError for an unknown experiment."""
    if experiment not in ("spine", "heart"):
        raise UserError(f"There is no experiment {experiment!r}; choose spine or heart.")
    return [Task(experiment, n) for n in range(getattr(settings, experiment))]


def folder_of(task: Task, profile: str, root=None) -> Path:
    """data/<profile>/<dataset>/<id>/."""
    base = data_root() / profile if root is None else Path(root) / profile
    return base / task.dataset / task.id


def fingerprint(task: Task, settings: PatientSettings) -> str:
    """What decides how this patient looks: not how many others there are, nor how many processes make them."""
    values = {name: getattr(settings, name) for name in LOOKS}
    if not (task.source and task.experiment == "spine" and settings.breathing):
        values.pop("breathing")  # has no say
    if settings.rtk >= 1:
        values.pop("rtk")  # as it was before there was a choice
    if task.experiment == "spine":
        usual = PatientSettings()
        own = WIDER if task.source else ("every_level", "scanners")
        values |= {k: getattr(settings, k) for k in own if getattr(settings, k) != getattr(usual, k)}
    who = {"experiment": task.experiment, "index": task.index, "source": task.source}
    return provenance.fingerprint({"task": who, "settings": values, "version": VERSION[task.experiment]})


def make_patient(
    experiment: str,
    index: int,
    settings: PatientSettings,
    source: str | None = None,
    objects: dict[str, bool] | None = None,
) -> Patient:
    """Draw or grow one patient, scan it, place both images in their worlds. Deterministic. `objects`, of a drawn spine: see
    `spine.draw`; such a patient is not one of the population, and has no fingerprint."""
    task = Task(experiment, index, source)
    key = [settings.seed, ("spine", "heart").index(experiment), index, 0 if source is None else 1]
    rng = np.random.default_rng(key)
    anatomy = draw(task, settings, rng, objects)
    patient = scan_anatomy(anatomy, rng, settings, task.experiment, task.dataset, task.id)
    patient.meta |= {
        "fingerprint": "" if objects else fingerprint(task, settings),
        "simulated": True,
        "group": source or task.id,
    }
    return patient


def draw(task: Task, settings: PatientSettings, rng: np.random.Generator, objects=None) -> Anatomy:
    """The body of a patient, in the CT's frame."""
    if task.source is not None:
        from lib.patients import grow
        from lib.patients.scans import manifest

        wider = grow.Wider(settings.every_level, settings.fat)
        return grow.from_scan(
            manifest.scan(task.source), task.experiment, rng, settings.spacing, settings.breathing, wider
        )
    if task.experiment == "spine":
        from lib.patients.spine import draw as spine

        return spine.draw(rng, settings.spacing, objects, settings.every_level)
    from lib.patients.heart import draw as heart

    return heart.draw(rng, settings.spacing, settings.phases if settings.phases > 1 else 0)


def scan_anatomy(anatomy: Anatomy, rng, settings: PatientSettings, experiment: str, dataset: str, id: str) -> Patient:
    """The CBCT, the CT cropped as a protocol would, the truth, and what an expert would mark."""
    pose = place.world_pose(anatomy.target, rng)
    body, scanner = anatomy.body_at_cbct, settings.cone_beam(experiment)
    if settings.rtk < 1 and rng.random() >= settings.rtk:
        fixed = cheap.simulate(body, anatomy.target, rng, scanner, pose)
    else:
        fixed = simulate(body, anatomy.target, rng, scanner, anatomy.meta.get("body_phases"), pose)
    # E2: the heart itself has moved in the body; the truth is the rigid pose that aligns the epicardium best.
    truth = pose @ np.asarray(anatomy.meta.get("heart_pose", np.eye(4)), dtype=np.float64)
    # E2's CT is cut about the heart, not about the CBCT's middle.
    about = anatomy.target if anatomy.mesh_ct is None else anatomy.mesh_ct[0].mean(axis=0)
    moving = place.crop(anatomy.ct, about, rng, experiment)
    patient = Patient(id, experiment, dataset, fixed, moving, truth, vertebrae=anatomy.vertebrae)
    if anatomy.landmarks is not None:
        patient.landmarks_moving = np.asarray(anatomy.landmarks, dtype=np.float64)
        patient.landmarks_fixed = rigid.apply(truth, patient.landmarks_moving)
    if anatomy.mesh_ct is not None:
        patient.mesh_moving = anatomy.mesh_ct
        patient.mesh_fixed = (rigid.apply(pose, np.asarray(anatomy.mesh_cbct[0])), anatomy.mesh_cbct[1])
    patient.annotated = place.annotate(patient, rng, settings.landmark_error, settings.mesh_error)
    patient.meta = {k: v for k, v in anatomy.meta.items() if k != "body_phases"}
    return patient


def build(
    settings: PatientSettings,
    experiment: str,
    profile: str,
    root=None,
    progress: Callable[[str], None] = print,
) -> list[Path]:
    """All drawn patients of an experiment, made where they are missing. Returns their folders.

    `root` defaults to the project's data folder. Raises UserError: no space on the disk, a patient that fails.
    """
    return build_tasks(tasks(settings, experiment), settings, profile, root, progress)


def build_tasks(
    wanted: list[Task],
    settings: PatientSettings,
    profile: str,
    root=None,
    progress: Callable[[str], None] = print,
) -> list[Path]:
    """The patients of these tasks, made where they are missing, as `build` does. Returns their folders, in order."""
    folders = [folder_of(task, profile, root) for task in wanted]
    missing = [(t, f) for t, f in zip(wanted, folders, strict=True) if not is_current(t, f, settings)]
    if missing:
        _check_space(missing[0][1], settings, len(missing))
        _make_all(missing, settings, progress)
    return folders


def is_current(task: Task, folder: Path, settings: PatientSettings) -> bool:
    """Whether the patient on disk is the one the settings ask for."""
    try:
        return store.load_record(folder)["meta"].get("fingerprint") == fingerprint(task, settings)
    except (UserError, KeyError):
        return False


def make_and_save(task: Task, folder: Path, settings: PatientSettings) -> float:
    """One unit of work in a process of its own. Returns seconds."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    patient = make_patient(task.experiment, task.index, settings, task.source)
    patient.meta["seconds"] = round(time.perf_counter() - began, 2)
    store.save(patient, folder)
    return time.perf_counter() - began


def _make_all(missing, settings: PatientSettings, progress) -> None:
    workers = min(settings.workers or pools.cores(), len(missing))
    began, total = time.perf_counter(), len(missing)
    with pools.pool(workers, preload=["lib.patients.scanner.preload"]) as pool:  # RTK is loaded once: 10 s
        running = {pool.submit(make_and_save, t, f, settings): t for t, f in missing}
        for done, future in enumerate(as_completed(running), start=1):
            try:
                future.result()
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise
            except Exception as error:
                pool.shutdown(cancel_futures=True)
                task = running[future]
                raise UserError(f"Patient {task.id} could not be made: {type(error).__name__}: {error}.") from error
            if done == total or done % max(1, total // 10) == 0:
                spent = time.perf_counter() - began
                left = spent / done * (total - done)
                progress(
                    f"{done}/{total} {running[future].experiment} patients, {spent:.0f} s, about {left:.0f} s left"
                )


def _check_space(folder: Path, settings: PatientSettings, count: int) -> None:
    """Refuse early where the disk cannot hold what is asked for."""
    megabytes = count * (5.0 + 250.0 / settings.spacing**3 + 12.0 / settings.cbct_spacing**3)
    existing = next(p for p in folder.parents if p.exists())
    if shutil.disk_usage(existing).free < megabytes * 1.2e6:
        raise UserError(
            f"{existing}: too little space for {count} patients (about {megabytes:.0f} MB); free some or set DATA_DIR."
        )
