"""What notebook 05 calls: methods over a split's test cases, their rows on disk, and what is already
there.

Every method leaves `cases_<method>.csv`; one that is complete and was made with the same settings *of its own*
is not run again, whatever else changed in the profile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lib import cases as case_rows
from lib.base import provenance
from lib.base.errors import UserError
from lib.baselines import ground_truth, methods, run
from lib.cases import Case, Result
from lib.study import config, unfinished

READS = {name: method.reads for name, method in methods.METHODS.items()}


def path_of(cfg, name: str, folder=None) -> Path:
    """Where a method's rows go."""
    return Path(folder or config.run_dir(cfg)) / f"cases_{name}.csv"


def stamp(cfg, name: str, folder=None) -> str:
    """Fingerprint of everything that a method's rows depend on, but the cases (`complete` compares them)."""
    b = asdict(_own(cfg.baselines))
    parts = [name, b["seed"], {k: b[k] for k in READS.get(run.base(name), ())}, asdict(cfg.evaluation)]
    if name.endswith("_polish"):
        parts.append(provenance.sha256(path_of(cfg, name.removesuffix("_polish"), folder)))
    return provenance.fingerprint(parts)


def _own(settings):
    """The settings without `semantic.patients`, which decides which rows there are and not what is in them."""
    return replace(settings, semantic=replace(settings.semantic, patients=()))


def complete(cfg, name: str, cases: Sequence[Case], folder=None) -> bool:
    """Whether the method's rows are there for exactly these cases, made with these settings."""
    path = path_of(cfg, name, folder)
    beside = provenance.beside(path)
    if not path.exists() or not beside.exists():
        return False
    if json.loads(beside.read_text(encoding="utf-8")).get("stamp") != stamp(cfg, name, folder):
        return False
    rows = case_rows.read_rows(path)
    there = list(zip(rows["case"], rows["start"], rows["initial_error_mm"].round(3), strict=True))
    return there == [(c.id, c.start, round(c.initial_error, 3)) for c in cases]


def save(cfg, name: str, cases: Sequence[Case], results: Sequence[Result], folder=None) -> list[dict]:
    """Write the rows, then the provenance whose stamp calls them complete."""
    path = path_of(cfg, name, folder)
    rows = [case_rows.row(case, name, result, cfg) for case, result in zip(cases, results, strict=True)]
    case_rows.write_rows(path, rows)
    seeds = {"starts": cfg.evaluation.seed, "baselines": cfg.baselines.seed}
    provenance.record(path, cfg, seeds=seeds, stamp=stamp(cfg, name, folder))
    return rows


def run_all(cfg, names: Sequence[str], cases: Sequence[Case], models=None, folder=None) -> Iterator[tuple]:
    """(name, rows) of each method that was not complete, saved as it ends; after each patient what there is
    so far. models: name -> what `semantic_model` gave."""
    where = Path(folder or config.run_dir(cfg))
    stamps = {name: stamp(cfg, name) for name in names if not complete(cfg, name, cases, folder)}
    for name, results in unfinished.go_on(where, stamps, cases, cfg.baselines, models):
        rows = save(cfg, name, cases, results, folder)
        unfinished.path_of(where, name).unlink(missing_ok=True)
        yield name, rows


def run_split(cfg, names: Sequence[str]) -> Iterator[tuple]:
    """(name, rows) of each method named that was not complete for the split's cases: what `python -m
    lib baselines` calls. Patients are not made here. Raises UserError."""
    from lib.study import walk

    polished = [name for name in names if name.endswith("_polish")]
    asked = [name for name in names if name not in polished]
    run.check(asked)
    cases = walk.cases_of(cfg)
    learns = [n for n in asked if run.base(n) == "semantic" and not complete(cfg, n, cases)]
    yield from run_all(cfg, asked, cases, semantic_models(cfg, learns) if learns else None)
    for name in polished:
        rows = polish(cfg, cases, name.removesuffix("_polish"))
        if rows is None:
            raise UserError(f"{name}: the agent has not walked yet; run notebook 04 of this split first.")
        yield name, rows


def table(cfg, names: Sequence[str]):
    """Rows of those methods that have left any, as one DataFrame."""
    return case_rows.read_rows(*(p for p in (path_of(cfg, name) for name in names) if p.exists()))


def ground_truth_results(cases: Sequence[Case], settings) -> list[Result]:
    """ICP on each patient's annotations: the same result for all its starts, for it knows none."""
    known: dict[str, Result] = {}
    for case in cases:
        if case.id not in known:
            try:
                known[case.id] = ground_truth.register(case.patient, settings)
            except UserError as problem:
                known[case.id] = Result(case.initial, 0.0, str(problem))
    return [known[case.id] for case in cases]


def polish(cfg, cases: Sequence[Case], agent: str = "dsl", folder=None) -> list[dict] | None:
    """`<agent>_polish` rows from the agent's rows; None where the agent has not walked yet (notebook 04)."""
    source, name = path_of(cfg, agent, folder), f"{agent}_polish"
    if not source.exists():
        return None
    if complete(cfg, name, cases, folder):
        return case_rows.read_rows(path_of(cfg, name, folder)).to_dict("records")
    rows = case_rows.read_rows(source)
    moved = case_rows.from_rows(cases, rows)
    ((_, results),) = run.run_methods(["dsl_polish"], moved, cfg.baselines)
    before = {(r.case, int(r.start)): float(r.seconds) for r in rows.itertuples()}
    results = [replace(r, seconds=r.seconds + before[c.id, c.start]) for c, r in zip(moved, results, strict=True)]
    originals = {(c.id, c.start): c for c in cases}
    return save(cfg, name, [originals[c.id, c.start] for c in moved], results, folder)


def semantic_models(cfg, names: Sequence[str]) -> dict:
    """name -> the classifiers behind `semantic` (all training patients) and `semantic_<n>` (the first n of them).
    Empty where scikit-learn is not installed; the rows will say so."""
    from lib.study import pairs

    folders = pairs.split_folders(cfg)["train"]
    counts = {name: None if name == "semantic" else int(name.rpartition("_")[2]) for name in names}
    try:
        return {name: semantic_model(cfg, folders, count) for name, count in counts.items()}
    except ImportError:
        return {}


def starved(cfg, there: int) -> list[str]:
    """Names of the rows with fewer training patients than the split's `there`, as `semantic.patients` asks."""
    return [f"semantic_{n}" for n in cfg.baselines.semantic.patients if n < there]


def semantic_model(cfg, folders: Sequence[Path], count: int | None = None, folder=None):
    """The voxel classifiers trained on `count` (all) training patients, from the run's folder if they are
    there.
    """
    from lib.baselines import forest, semantic
    from lib.patients import store

    folders = sorted(Path(f) for f in folders)[:count]
    if not folders:
        raise UserError("semantic registration: this split has no training patients; build some (notebook 01).")
    settings = asdict(_own(cfg.baselines).semantic)
    key = provenance.fingerprint([[f.name for f in folders], settings, cfg.baselines.seed])[:12]
    path = Path(folder or config.run_dir(cfg)) / "semantic" / f"forest_{len(folders)}_{key}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        forest.save(semantic.train((store.load(f) for f in folders), cfg.baselines), path)
        provenance.record(path, cfg, seeds={"baselines": cfg.baselines.seed})
    return forest.load(path)
