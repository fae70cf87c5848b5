"""What notebook 05 calls: methods over a split's test cases, their rows on disk, and what is already there.

Every method leaves `cases_<method>.csv`; one that is complete and was made with the same settings *of its own* is not run
again, whatever else changed in the profile. Until then its rows stand in `unfinished_<method>.<stamp>.csv`, so that an
interrupted run goes on after the last finished patient: searches take minutes a patient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lib import cases as case_rows
from lib.base import provenance
from lib.base.errors import UserError
from lib.base.sections import hint
from lib.baselines import ground_truth, methods, run
from lib.cases import Case, Result
from lib.study import config


def path_of(cfg, name: str, folder=None) -> Path:
    """Where a method's rows go."""
    return Path(folder or config.run_dir(cfg)) / f"cases_{name}.csv"


def stamp(cfg, name: str, folder=None) -> str:
    """Fingerprint of everything that a method's rows depend on, but the cases (`complete` compares them)."""
    b = asdict(_own(cfg.baselines)) | {"anatomy": cfg.experiment}
    tried = asdict(cfg.evaluation)
    parts = [name, b["seed"], methods.settings_of(name, b), tried]
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
    return [_key(row) for row in case_rows.read_rows(path).to_dict("records")] == [_key(case) for case in cases]


def _key(one) -> tuple:
    """What names a case, and the start that it must have: of a Case or of its row."""
    if isinstance(one, Case):
        return one.id, one.start, round(one.initial_error, 3)
    return one["case"], one["start"], round(one["initial_error_mm"], 3)


def save(cfg, name: str, cases: Sequence[Case], results: Sequence[Result], folder=None) -> list[dict]:
    """Write the rows, then the provenance whose stamp calls them complete."""
    rows = [case_rows.row(case, name, result, cfg) for case, result in zip(cases, results, strict=True)]
    return _save(cfg, name, rows, folder)


def _save(cfg, name: str, rows: list[dict], folder) -> list[dict]:
    path = path_of(cfg, name, folder)
    case_rows.write_rows(path, rows)
    seeds = {"starts": cfg.evaluation.seed, "baselines": cfg.baselines.seed}
    provenance.record(path, cfg, seeds=seeds, stamp=stamp(cfg, name, folder))
    for old in path.parent.glob(f"unfinished_{name}.*"):
        old.unlink()
    return rows


def run_all(cfg, names: Sequence[str], cases: Sequence[Case], models=None, folder=None) -> Iterator[tuple]:
    """(name, rows) of each method that was not complete, saved as it ends; after each patient what there is
    so far. models: name -> what `semantic_model` gave."""
    todo = [name for name in names if not complete(cfg, name, cases, folder)]
    paths = {name: _unfinished(cfg, name, folder) for name in todo}
    known = {name: _known(paths[name], cases) for name in todo}

    def keep(name, numbers, results):
        made = (case_rows.row(cases[n], name, result, cfg) for n, result in zip(numbers, results, strict=True))
        known[name].update(zip(numbers, made, strict=True))
        case_rows.write_rows(paths[name], list(known[name].values()))

    for name, _ in run.run_methods(todo, cases, cfg.baselines, models, known, keep):
        yield name, _save(cfg, name, [known[name][n] for n in range(len(cases))], folder)


def _unfinished(cfg, name: str, folder) -> Path:
    """Not among the `cases_*.csv` that tables are made from; other settings, another name."""
    return path_of(cfg, name, folder).with_name(f"unfinished_{name}.{stamp(cfg, name, folder)[:12]}.csv")


def _known(path: Path, cases: Sequence[Case]) -> dict[int, dict]:
    """Case number -> its row, of those that an interrupted run has left."""
    try:
        left = {_key(row): row for row in case_rows.read_rows(path).to_dict("records")}
    except UserError:  # none, or cut off: nothing is lost but time
        return {}
    return {n: left[_key(case)] for n, case in enumerate(cases) if _key(case) in left}


def run_split(cfg, names: Sequence[str]) -> Iterator[tuple]:
    """(name, rows) of each method named that was not complete for the split's cases: what `python -m
    lib baselines` calls. Patients are not made here. Raises UserError."""
    from lib.study import walk
    from lib.train import AGENTS

    polished = [name for name in names if name.endswith("_polish")]
    asked = [name for name in names if name not in polished]
    run.check(asked)
    for name in polished:
        if name.removesuffix("_polish") not in AGENTS:
            raise UserError(f"There is no {name}; {hint(name, [f'{agent}_polish' for agent in AGENTS])}")
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
    ends = {(row["case"], row["start"]): row for row in case_rows.read_rows(source).to_dict("records")}
    walked = [case for case in cases if (case.id, case.start) in ends]
    rows = [ends[case.id, case.start] for case in walked]
    moved = [replace(c, initial=case_rows.pose_of(row, c.patient)) for c, row in zip(walked, rows, strict=True)]
    ((_, results),) = run.run_methods(["dsl_polish"], moved, cfg.baselines)
    taken = [replace(r, seconds=r.seconds + row["seconds"]) for r, row in zip(results, rows, strict=True)]
    return save(cfg, name, walked, taken, folder)


def semantic_models(cfg, names: Sequence[str]) -> dict:
    """name -> the classifiers behind `semantic` (all training patients) and `semantic_<n>` (the first n of them).
    Empty where scikit-learn is not installed; the rows will say so."""
    from lib.study import pairs

    folders = pairs.split_folders(cfg)["train"]
    counts = {name: methods.learnt_on(name) for name in names}
    for name, count in counts.items():
        if count is not None and not 1 <= count <= len(folders):
            raise UserError(
                f"{name}: this split has {len(folders)} training patients; name 1 to {len(folders)} of them."
            )
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
    path = Path(folder or config.run_dir(cfg)) / "semantic" / f"forest_{len(folders)}_{key}.skops"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        forest.save(semantic.train((store.load(f) for f in folders), cfg.baselines), path)
        provenance.record(path, cfg, seeds={"baselines": cfg.baselines.seed})
    return forest.load(path)
