"""Level 3 of `python -m lib verify`: a chosen part is run again, from nothing, and compared with what is committed.

`make verify LEVEL=3 PART=organs_moved` runs that study in a process of its own, with an environment of its own, into a
fresh folder of results that holds the released agents alone and a fresh folder of data. PART=theory runs notebook 10.
A search or a training on another kind of processor ends elsewhere at times: a case differs where its success does, or
its error by more than `NEAR`; the part differs where more than `SHARE` of its cases do, or its share of successes by more.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.study import rows, schema

NEAR = 2.0  # mm of TRE or MME, of one case
SHARE = 0.05  # of the cases, and of the successes
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "AGENT_REGISTRATION_MIRROR", "AGENT_DEVICE")  # of the environment
THEORY = "theory"


def parts() -> list[str]:
    """What can be run again; not what takes days."""
    studies = {name: schema.load(name) for name in schema.names()}
    return [THEORY, *(name for name, study in studies.items() if not (study.command or study.planar))]


def clean(results: Path, data: Path) -> dict[str, str]:
    """The environment of the run: what a fresh shell has, and where its files go."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    folders = {"RESULTS_DIR": str(results), "DATA_DIR": str(data), "PYTHONPATH": str(ROOT)}
    return kept | folders | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def again(part: str, profile: str, folder: Path, scratch: Path) -> Path:
    """Run a part; returns its folder of results. Raises UserError with the last line of what it said."""
    results, data = scratch / "results", scratch / "data"
    shutil.copytree(folder / "agents", results / "agents")
    words = [sys.executable, "-m", "lib", "study", part, "--profile", profile]
    if part == THEORY:
        out = scratch / "10_theory.ipynb"
        words = [sys.executable, "-m", "papermill", "-k", "python3", "notebooks/10_theory.ipynb", str(out)]
        words += ["-r", "profile", profile]
    done = subprocess.run(words, cwd=ROOT, env=clean(results, data), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"{part} could not be run again: {said}")
    return results


def compare_rows(now: pd.DataFrame, then: pd.DataFrame) -> tuple[list[str], str]:
    """What differs between rows made again and the committed ones, a sentence each, and how much all in all."""
    key = [name for name in rows.KEY if name in then]
    both = then.merge(now, on=key, suffixes=("_then", "_now"))
    if both.empty:
        return ["none of its cases is among the committed rows."], ""
    then_mm, now_mm = both["final_error_mm_then"].astype(float), both["final_error_mm_now"].astype(float)
    flipped = both["success_then"].astype(str) != both["success_now"].astype(str)
    bad = flipped | ((then_mm - now_mm).abs() > NEAR)
    rates = [(both[f"success_{when}"].astype(str) == "True").mean() for when in ("then", "now")]
    note = (
        f"{len(both)} of {len(then)} committed rows made again: {bad.sum()} end more than {NEAR:g} mm elsewhere or with "
        f"another success ({bad.mean():.1%}); successes {rates[0]:.1%} then, {rates[1]:.1%} now; allowed {SHARE:.0%}"
    )
    if bad.mean() <= SHARE and abs(rates[0] - rates[1]) <= SHARE:
        return [], note
    some = both[bad].assign(now=now_mm, then=then_mm).itertuples()
    return [f"{r.method}, {r.case}, start {r.start}: {r.now:.2f} mm now, {r.then:.2f} then." for r in some], note


def numbers(value, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested lists and dicts, with where it stands."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from numbers(one, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for k, one in enumerate(value):
            yield from numbers(one, f"{name}[{k}]")
    elif isinstance(value, int | float):
        yield name, float(value)


def compare_numbers(now, then) -> tuple[list[str], str]:
    """The same of two JSON values: every number to six digits."""
    a, b = dict(numbers(then)), dict(numbers(now))
    apart = {
        k: (a.get(k), b.get(k)) for k in a | b if not math.isclose(a.get(k, math.nan), b.get(k, math.nan), rel_tol=1e-6)
    }
    return [f"{k} is {y} now, {x} then." for k, (x, y) in apart.items()], f"{len(a)} numbers, to six digits"


def differences(part: str, folder: Path, profile: str) -> tuple[list[str], str]:
    """Run a part again and compare it with a folder of results. Raises UserError where it cannot be run."""
    with tempfile.TemporaryDirectory() as scratch:
        results = again(part, profile, folder, Path(scratch))
        if part == THEORY:
            (made,) = results.rglob("theory.json")
            return compare_numbers(*(json.loads(p.read_text(encoding="utf-8")) for p in (made, folder / made.name)))
        summary = results if profile == "cpu" else results / "runs" / profile / "summary"
        return compare_rows(rows.read(summary, part), rows.read(folder, part))
