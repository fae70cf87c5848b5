"""`python -m lib verify`: does what is committed follow from what it says it follows from? A report, a line a check.

Tables and verdicts are computed again from the rows, documents filled again from the tables, every file compared with its
provenance, and every provenance with the files that it names. All checks run; the exit status is 1 where one differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.base import provenance
from lib.base.folders import ROOT, results_root
from lib.study import config
from lib.tables import command, documents

# Files that stand without a provenance of their own, and what vouches for them.
VOUCHED = {
    "*_log.csv": "written by the training whose network it lies beside",
    "MODEL_CARD.md": "filled from the networks and the tables by `python -m lib card`",
    "judged.json": "computed from the study judged_calibration by `python -m lib calibrate`",
    "trust.json": "computed from the study trust_calibration by `python -m lib calibrate`",
}
SHOWN = 8  # differences printed a check


def _provenances(folder: Path) -> Iterator[tuple[Path, dict]]:
    """Every provenance below a results folder, but those of runs, with what it says."""
    for path in sorted(folder.rglob("*.provenance.json")):
        if "runs" not in path.relative_to(folder).parts:
            yield path, json.loads(path.read_text(encoding="utf-8"))


def inputs(folder: Path) -> list[str]:
    """Files that were made from something else than what lies here under the name that their provenance gives."""
    wrong = []
    for path, value in _provenances(folder):
        made = path.name.removesuffix(".provenance.json")
        for name, digest in value.get("inputs", {}).items():
            source = folder.parent / name
            if not source.is_file():
                wrong.append(f"{made} was made from {name}, which is not here; make it again.")
            elif provenance.sha256(source) != digest:
                wrong.append(f"{made} was made from another {name} than the one here; make it again.")
    return wrong


def unaccounted(folder: Path) -> list[str]:
    """Files of a results folder that nothing says the origin of."""
    there = [p for p in sorted(folder.rglob("*")) if p.is_file() and "runs" not in p.relative_to(folder).parts]
    plain = [p for p in there if not p.name.endswith(".provenance.json") and not p.name.startswith(".")]
    alone = [p for p in plain if not provenance.beside(p).exists() and not any(p.match(name) for name in VOUCHED)]
    return [f"{p.relative_to(folder)} has no provenance; make it again." for p in alone]


def checks(folder: Path, shown: bool) -> dict[str, Callable[[], list[str]]]:
    """Name of a check -> what it finds. `shown`: the documents show this folder's rows."""
    found: dict[str, Callable[[], list[str]]] = {
        "tables and verdicts follow from the rows": lambda: command.verify(folder),
        "files are what their provenance says": lambda: provenance.verify(folder),
        "files were made from the inputs that lie here": lambda: inputs(folder),
        "every file says where it comes from": lambda: unaccounted(folder),
    }
    if shown:
        found["documents show the tables"] = lambda: documents.verify(folder)
    return found


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("--profile", default="cpu", help="whose results (default: cpu, that is results/)")


def run(options) -> int:
    """Run every check; exit code 1 where something differs."""
    folder = config.results_dir(options.profile)
    # After a run of one's own the documents still show the committed rows.
    shown = folder == results_root() == ROOT / "results" and command.unchanged(folder)
    bad = 0
    for name, check in checks(folder, shown).items():
        wrong = check()
        bad += bool(wrong)
        print(f"{'differs   ' if wrong else 'reproduced'}  {name}", flush=True)
        for line in wrong[:SHOWN]:
            print(f"              {line}")
        if len(wrong) > SHOWN:
            print(f"              and {len(wrong) - SHOWN} more")
    if not shown:
        print("left out    documents show the tables: these rows are not the committed ones")
    return int(bool(bad))
