"""Who is registered in a study: real scans, the test patients of a split, patients that no split tests, or new ones.

A `Person` is known by name before anything is read, so that a study whose rows are there ends at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from lib.base.errors import UserError
from lib.patients import population, real, store
from lib.patients.scanner import second
from lib.patients.scans import manifest
from lib.patients.scans import marks as anatomy
from lib.study import consensus, pairs, populations
from lib.study.schema import Cases

SCANNERS = {"first": real.SCANNER, "second": second.TEST, "tuning": second.TUNING}
FIRST_DRAWN, FIRST_GROWN = 900, 40  # numbers of new patients, which no training uses


@dataclass(frozen=True)
class Person:
    """`load()` gives the Patient; `anatomy()` the place (3,) at which its CT is scanned and the CT's labels. `group`: what
    it shares with others, where that is neither its data set nor itself."""

    dataset: str
    id: str
    load: Callable
    anatomy: Callable | None = None
    group: str = ""
    again: Callable | None = None  # of a drawn patient: again({object: there}) gives the same one with it or without


def people(cfg, block: Cases, experiment: str, held_out: set[str] | None, say=print) -> Iterator[Person]:
    """Who a block of cases asks for. held_out: the real scans that the agents never saw; None: all that are here."""
    if block.source == "real_scans":
        yield from _real(cfg, block, experiment, held_out)
    elif block.source == "new":
        yield from _new(cfg, block, experiment, say)
    elif block.source == "real_pairs":
        for name, pair, folder in consensus.usable(block.scans, say):
            yield Person(name, f"{name}_{pair.patient}", partial(consensus.patient, name, pair, folder))
    else:
        yield from _drawn(cfg, block.source)


def _real(cfg, block: Cases, experiment: str, held_out) -> Iterator[Person]:
    scanner = SCANNERS[block.scanner]
    found = [manifest.load(name) for name in block.scans]
    for collection in (one for one in found if one.kind == "collection"):
        for patient in real.patients(experiment, only=collection.name):
            yield Person(collection.name, patient.id, lambda patient=patient: patient)
    here = {scan.name: scan for scan in populations.real_scans(cfg.transfer, experiment)}
    missing = [one.name for one in found if one.kind == "scan" and one.name not in here]
    if missing:
        raise UserError(f"{missing[0]} is not on this machine; run `make data DATASET={missing[0]}`.")

    @lru_cache(maxsize=1)  # the methods of a task follow each other
    def patient(name: str, level: str):
        return real.at_level(here[name], level, experiment, scanner, block.fat_mm)

    @lru_cache(maxsize=1)  # the levels of a scan follow each other
    def bodies(name: str) -> dict:
        _, labels, _ = here[name].load()
        marked = anatomy.bodies(here[name].manifest, labels, further=block.every_level)
        return {body.name: (body.centre, labels) for body in marked}

    for name, scan in here.items():
        tried = held_out is None or (name in held_out) != (block.scanner == "tuning")  # tuning scans are never tested
        paired = scan.is_pair and (not block.pairs or block.scanner != "first")
        if (block.scans and name not in block.scans) or not tried or paired:
            continue
        for level in real.levels(scan.manifest, experiment, block.every_level):
            id = real.id_of(scan, level, scanner, block.fat_mm)
            yield Person(name, id, partial(patient, name, level), lambda n=name, k=level: bodies(n)[k])


def _drawn(cfg, source: str) -> Iterator[Person]:
    """Test patients of the split, or those that are a test patient in no split."""
    folders = pairs.split_folders(cfg)["test"]
    if source == "untested":
        parts = [pairs.split_folders(dataclasses.replace(cfg, split=s)) for s in range(cfg.patients.n_splits)]
        tested = {folder for part in parts for folder in part["test"]}
        folders = sorted({f for part in parts for side in ("train", "validation") for f in part[side]} - tested)

    def load(folder: Path) -> store.Patient:  # not before: a study that trains makes its patients, too
        if not (folder / "patient.json").exists():
            raise UserError(f"{folder}: there is no patient here; run notebook 01 (make reproduce does) first.")
        return store.load(folder)

    for folder in folders:
        again = partial(_with_objects, cfg, folder)
        yield Person(folder.parent.name, folder.name, lambda f=folder: load(f), again=again)


def _with_objects(cfg, folder: Path, objects: dict[str, bool]) -> store.Patient:
    """The patient of a folder with and without what `objects` says."""
    patient = store.load(folder)
    if all(patient.meta[name] == there for name, there in objects.items()):
        return patient
    index = int(folder.name.rpartition("_")[2])
    return population.make_patient(patient.experiment, index, cfg.patients, objects=objects)


def _new(cfg, block: Cases, experiment: str, say) -> Iterator[Person]:
    """New patients, drawn, and grown from the scans that the released agent's training patients grew from."""
    drawn = [population.Task(experiment, FIRST_DRAWN + k) for k in range(block.patients)]
    try:
        sources = populations.scans(cfg.transfer, experiment, "released")
    except UserError as error:  # no mirror of real scans: drawn patients alone
        say(f"{error} Only drawn patients take part.")
        sources = []
    grown = [
        population.Task(experiment, populations.PLACES[scan] * populations.PER_SCAN + FIRST_GROWN + k, scan)
        for k in range(-(-block.patients // max(len(sources), 1)))
        for scan in sources
    ]
    for task in drawn + grown[: block.patients]:
        folder = population.folder_of(task, cfg.profile)

        def load(task=task, folder=folder) -> Path:
            population.build_tasks([task], cfg.patients, cfg.profile, progress=say)
            return store.load(folder)

        yield Person(task.dataset, task.id, load, group=task.source or "")
