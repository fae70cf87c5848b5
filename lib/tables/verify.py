"""`python -m lib verify`: does what is committed follow from what it says it follows from? A report, a line a check.

Level 1 (a minute): tables and verdicts are computed again from the rows, documents filled again from the tables, every
file compared with its provenance, and every provenance with the files that it names. Level 2 (minutes): the released
agents walk again (`lib.tables.verify_agents`). Level 3: a part is run again (`lib.tables.verify_again`). A level holds
those below it. All checks run; the exit status is 1 where one differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT, results_root
from lib.base.sections import hint
from lib.study import config
from lib.tables import card, command, documents, verify_again, verify_agents

# Files that stand without a provenance of their own, and what vouches for them.
VOUCHED = {
    "*_log.csv": "written by the training whose network it lies beside",
    "DATA_SHEET.md": "written by hand; `tests/test_crate.py` compares its numbers with the settings",
    "MODEL_CARD.md": "filled from the networks and the tables by `python -m lib card`",
    "judged.json": "computed from the study judged_calibration by `python -m lib calibrate`",
    "[0-9][0-9]_*.ipynb": "executed with the parameters in its metadata; `make site` compares its cells with the committed one's",
    "*.jsonl": "the path of a person who registered by hand, written move by move (`human_sessions/`)",
    "trust.json": "computed from the study trust_calibration or heart_calibration by `python -m lib calibrate`",
    "ro-crate-metadata.json": "read from the provenance files by `python -m lib crate`",
}
# Figures that are drawn from files of results/, by their names: from which. The others show scans, patients or agents.
DRAWN = {
    "ablations*.png": {"ablations.csv"},
    "capture_range*.png": {"cases.csv"},
    "degradation*.png": {"rows/beyond_training.csv"},
    "eq5.png": {"theory.json"},
    "errors*.png": {"cases.csv"},
    "fig4.png": {"fig4.csv"},
    "figure[15]_*.png": {"cases.csv"},
    "learning_curve*.png": {"learning_curve.csv"},
    "table1_success*.png": {"cases.csv"},
    "trust_calibration*.png": {"rows/trust_calibration.csv"},
}
SHOWN = 8  # differences printed a check


def provenances(folder: Path) -> Iterator[tuple[Path, dict]]:
    """Every provenance below a results folder, but those of runs, with what it says."""
    for path in sorted(folder.rglob("*.provenance.json")):
        if "runs" not in path.relative_to(folder).parts:
            yield path, json.loads(path.read_text(encoding="utf-8"))


def inputs(folder: Path) -> list[str]:
    """Files that were made from something else than what lies here under the name that their provenance gives, or than
    what such a figure is drawn from."""
    wrong = []
    for path, value in provenances(folder):
        made = path.name.removesuffix(".provenance.json")
        needed = next((files for name, files in DRAWN.items() if fnmatch(made, name)), set())
        lacking = {n for n in needed if not any(name.endswith(f"/{n}") for name in value.get("inputs", {}))}
        wrong += [
            f"{made} is drawn from {name}, which its provenance does not name; make it again." for name in lacking
        ]
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
        found["the model card says what its networks and the tables do"] = lambda: card.verify(folder / "agents")
    return found


def deeper(folder: Path, profile: str, level: int, part: str) -> dict[str, Callable[[], tuple[list[str], str]]]:
    """The checks of levels 2 and 3, which compute: name -> what differs, and by how much."""
    found = {}
    if level >= 2:
        for study in (verify_agents.spine(), verify_agents.heart()):
            name = f"the released agent of {study.recipe[0].experiments[0]} walks as in {study.name}.csv"
            found[name] = partial(verify_agents.differences, study, folder, profile)
    if level >= 3:
        found[f"{part}, run again from nothing"] = partial(verify_again.differences, part, folder, profile)
    return found


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("--profile", default="cpu", help="whose results (default: cpu, that is results/)")
    add.add_argument("--level", type=int, choices=(1, 2, 3), default=1, help="files; agents too; a part too")
    add.add_argument("--part", default=verify_again.THEORY, help="of level 3: a study, or theory")


def run(options) -> int:
    """Run every check; exit code 1 where something differs."""
    if options.level == 3 and options.part not in verify_again.parts():
        raise UserError(f"PART is {options.part!r}; {hint(options.part, verify_again.parts())}")
    folder = config.results_dir(options.profile)
    # After a run of one's own the documents still show the committed rows.
    shown = folder == results_root() == ROOT / "results" and command.unchanged(folder)
    bad = 0
    for name, check in checks(folder, shown).items():
        bad += _tell(name, check(), "")
    for name, check in deeper(folder, options.profile, options.level, options.part).items():
        try:
            bad += _tell(name, *check())
        except UserError as error:
            print(f"left out    {name}: {error}", flush=True)  # asked for, and not seen to hold
            bad += 1
    if not shown:
        print("left out    documents show the tables: these rows are not the committed ones")
    return int(bool(bad))


def _tell(name: str, wrong: list[str], note: str) -> bool:
    """Print what a check found: by how much (`note`), and where. Whether something differs."""
    print(f"{'differs   ' if wrong else 'reproduced'}  {name}", flush=True)
    for line in [*filter(None, [note]), *wrong[:SHOWN]]:
        print(f"              {line}", flush=True)
    if len(wrong) > SHOWN:
        print(f"              and {len(wrong) - SHOWN} more", flush=True)
    return bool(wrong)
