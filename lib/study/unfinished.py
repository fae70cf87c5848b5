"""Results of a method that has not gone through all its cases yet: `unfinished_<method>.json`, so that an
interrupted run goes on where it stopped. Searches take minutes a patient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.base.provenance import write_json
from lib.baselines import run
from lib.cases import Case, Result


def path_of(folder, name: str) -> Path:
    """Not among the `cases_*.csv` that tables are made from."""
    return Path(folder) / f"unfinished_{name}.json"


def read(folder, name: str, stamp: str, cases: Sequence[Case]) -> dict[int, Result]:
    """Case number -> Result, for those of `cases` that are there and were made with the settings `stamp`."""
    try:
        value = json.loads(path_of(folder, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or cut off: nothing is lost but time
        return {}
    if value.get("stamp") != stamp:
        return {}
    there = {}
    for n, case in enumerate(cases):
        found = value["results"].get(_key(case))
        if found is not None:
            there[n] = Result(np.array(found["pose"]), found["seconds"], found["note"])
    return there


def write(folder, name: str, stamp: str, cases: Sequence[Case], results: dict[int, Result]) -> None:
    """All results so far, in one file that replaces the last."""
    found = {
        _key(cases[n]): {"pose": np.asarray(r.pose).tolist(), "seconds": r.seconds, "note": r.note}
        for n, r in results.items()
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(path_of(folder, name), {"stamp": stamp, "results": found})


def go_on(
    folder, stamps: dict[str, str], cases: Sequence[Case], settings, models=None
) -> Iterator[tuple[str, list[Result]]]:
    """`run.run_methods` for the methods of `stamps`, from what an earlier run left in `folder`; what there is so far is
    kept there after each patient. The caller removes a method's file (`path_of`) when its results are safe."""
    known = {name: read(folder, name, stamp, cases) for name, stamp in stamps.items()}

    def keep(name, numbers, results):
        known[name].update(zip(numbers, results, strict=True))
        write(folder, name, stamps[name], cases, known[name])

    yield from run.run_methods(list(stamps), cases, settings, models, known, keep)


def _key(case: Case) -> str:
    return f"{case.id} {case.start} {case.initial_error:.3f}"
