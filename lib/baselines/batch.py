"""What notebook 05 calls: methods over a split's test cases, their rows on disk, and what is already
there.

Every method leaves `cases_<method>.csv`; one that is complete and was made with the same settings is not
run again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lib import cases as case_rows
from lib import config, provenance, rigid
from lib.baselines import ground_truth, run
from lib.cases import Case, Result
from lib.errors import UserError

# Which settings a method reads, beside the seed: changing greedy's does not run ANTs again.
READS = {
    "itk": ("itk",),
    "itk_tuned": ("tuned",),
    "itk_search": ("tuned", "search"),
    "quasi_global": ("quasi_global",),
    "semantic": ("semantic",),
    "elastix": ("elastix",),
    "ants": ("ants",),
    "ants_search": ("ants", "search"),
    "greedy": ("greedy",),
    "greedy_search": ("greedy",),
    "dsl_polish": ("polish",),
    "dsl_two_channel_polish": ("polish",),
}


def path_of(cfg, name: str, folder=None) -> Path:
    """Where a method's rows go."""
    return Path(folder or config.run_dir(cfg)) / f"cases_{name}.csv"


def stamp(cfg, name: str) -> str:
    """Fingerprint of everything that a method's rows depend on, but the patients."""
    b = asdict(cfg.baselines)
    method = name.split("_of_")[0]
    return provenance.fingerprint(
        [name, b["seed"], {k: b[k] for k in READS.get(method, ())}, asdict(cfg.evaluation)]
    )


def complete(cfg, name: str, cases: Sequence[Case], folder=None) -> bool:
    """Whether the method's rows are there for exactly these cases, made with these settings and newer
    patients.
    """
    path = path_of(cfg, name, folder)
    beside = provenance.beside(path)
    if not path.exists() or not beside.exists():
        return False
    if json.loads(beside.read_text(encoding="utf-8")).get("stamp") != stamp(cfg, name):
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
    provenance.record(path, cfg, seeds=seeds, stamp=stamp(cfg, name))
    return rows


def table(cfg, names: Sequence[str]):
    """Rows of those methods that have left any, as one DataFrame."""
    return case_rows.read_rows(*(p for p in (path_of(cfg, name) for name in names) if p.exists()))


def ground_truth_results(cases: Sequence[Case]) -> list[Result]:
    """ICP on each patient's annotations: the same result for all its starts, for it knows none."""
    known: dict[str, Result] = {}
    for case in cases:
        if case.id not in known:
            try:
                known[case.id] = ground_truth.register(case.patient)
            except UserError as problem:
                known[case.id] = Result(case.initial, 0.0, str(problem))
    return [known[case.id] for case in cases]


def from_rows(cases: Sequence[Case], rows) -> list[Case]:
    """The cases, begun anew where a method's `rows` (DataFrame) ended: for `dsl_polish`. A case without
    row is left out.
    """
    ends = {(r.case, int(r.start)): np.array([r.tx, r.ty, r.tz, r.rx, r.ry, r.rz]) for r in rows.itertuples()}
    moved = []
    for case in cases:
        state = ends.get((case.id, case.start))
        if state is not None:
            left = rigid.about(rigid.params_to_matrix(state), case.centre)
            moved.append(replace(case, initial=rigid.invert(left) @ case.patient.truth))
    return moved


def polish(cfg, cases: Sequence[Case], agent: str = "dsl", folder=None) -> list[dict] | None:
    """`<agent>_polish` rows from the agent's rows; None where the agent has not walked yet (notebook 04)."""
    source = path_of(cfg, agent, folder)
    if not source.exists():
        return None
    rows = case_rows.read_rows(source)
    moved = from_rows(cases, rows)
    ((_, results),) = run.run_methods(["dsl_polish"], moved, cfg.baselines)
    before = {(r.case, int(r.start)): float(r.seconds) for r in rows.itertuples()}
    results = [
        replace(r, seconds=r.seconds + before[c.id, c.start]) for c, r in zip(moved, results, strict=True)
    ]
    originals = {(c.id, c.start): c for c in cases}
    return save(cfg, f"{agent}_polish", [originals[c.id, c.start] for c in moved], results, folder)


def semantic_model(cfg, folders: Sequence[Path], count: int | None = None, folder=None):
    """The voxel classifiers trained on `count` (all) training patients, from the run's folder if they are
    there.
    """
    from lib.baselines import forest, semantic
    from lib.patients import store

    folders = sorted(Path(f) for f in folders)[:count]
    if not folders:
        raise UserError(
            "semantic registration: this split has no training patients; build some (notebook 01)."
        )
    key = provenance.fingerprint(
        [[f.name for f in folders], asdict(cfg.baselines.semantic), cfg.baselines.seed]
    )[:12]
    path = Path(folder or config.run_dir(cfg)) / "semantic" / f"forest_{len(folders)}_{key}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        forest.save(semantic.train((store.load(f) for f in folders), cfg.baselines), path)
        provenance.record(path, cfg, seeds={"baselines": cfg.baselines.seed})
    return forest.load(path)
