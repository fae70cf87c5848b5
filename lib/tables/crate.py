"""`python -m lib crate`: a results folder as an RO-Crate (profile Process Run Crate), for archives and their readers.

Everything in it is read from the provenance files at that moment: each file is an entity, each provenance an action with
the files it took (`object`), the file it made (`result`), the code's commit and the command that makes it again. The
metadata is made on demand and not committed, so it cannot go stale.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from lib.base import provenance
from lib.base.errors import UserError
from lib.study import config
from lib.tables.verify import VOUCHED, provenances

NAME = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
TITLE = "Results of a reproducibility study of An Artificial Agent for Robust Image Registration"
# Which command makes a file again, "" where a person wrote it; the first pattern that fits counts. codecheck.yml names the
# same. {stem} is the file's name without its ending, {folder} that of its folder.
REPRODUCE = "make reproduce SPLITS=all"
FIGURE4, C6, C7 = "python -m lib study figure4", "make claims CLAIM=C6", "make claims CLAIM=C7"
UNIT = "papermill -k python3 notebooks/{stem}.ipynb results/runs/cpu/spine/split0/{stem}.ipynb"
UNIT += " -r profile cpu -r experiment spine -p split 0"
PAIR = "-r fixed_path data/pancreatic_ct_cbct_001/cbct.nii.gz -r moving_path data/pancreatic_ct_cbct_001/ct.nii.gz"
MADE_BY = {
    "rows/*.csv": "python -m lib study {stem}",
    "agents/*/trust.json": "python -m lib calibrate --experiment {folder}",
    "agents/*/judged.json": "python -m lib calibrate --experiment {folder}",
    "agents/MODEL_CARD.md": "python -m lib card",
    "agents/DATA_SHEET.md": "",
    "agents/*": "python -m lib release",
    "notebooks/*/10_*": C7,
    "notebooks/*/11_*": f"{UNIT} {PAIR}",
    "notebooks/*/12_*": UNIT,
    "*theory.json": C7,
    "figures/eq5.png": C7,
    "fig4_*.csv": FIGURE4,
    "figures/fig4.png": f"{FIGURE4} && {C6}",  # the left panel shows fig4_long.csv, the right one fig4.csv
    "fig4.csv": C6,
    "*ablations.*": "make claims",
    "claims.csv": "make claims",
    "baseline_choice.csv": "python -m lib study choice_of_settings",
    "table_real.csv": "python -m lib tables write",
    "transfer.csv": "python -m lib tables write",
    "*learning_curve.*": "python -m lib tables write",
    "figures/degradation.png": "python -m lib tables write",
    "figures/trust_calibration.png": "python -m lib calibrate",
    "figures/agent_walks_home.gif": "python -m lib animation",
    "figures/scanners.png": "python -m lib scanners",
    "figures/failures_every_level.png": "python -m lib failures every_level register",
    "figures/real_*.png": "make transfer",
    "*": REPRODUCE,
}


def command(name: str) -> str:
    """The command that makes a file again, "" for one that a person wrote; `name` is relative to the results folder."""
    pattern = next(pattern for pattern in MADE_BY if fnmatch(name, pattern))
    return MADE_BY[pattern].format(stem=Path(name).stem, folder=Path(name).parent.name)


def files(folder: Path) -> Iterator[Path]:
    """Every file of a results folder but those of runs, hidden ones and the crate's own metadata."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and inside[0] != "runs" and not path.name.startswith(".") and path.name != NAME:
            yield path


def crate(folder: Path) -> ROCrate:
    """The crate of a results folder. Raises UserError where no provenance is there."""
    actions, made = list(provenances(folder)), ROCrate(version="1.1")
    if not actions:
        raise UserError(f"{folder} has no provenance files; run make reproduce first.")
    made.name, made.description = TITLE, "Rows, tables, figures and agents; pictures of scans keep the scans' licences."
    made.root_dataset["datePublished"] = max(value.get("finished_utc", "") for _, value in actions)
    made.license = made.add(ContextEntity(made, LICENCE, {"@type": "CreativeWork", "name": "Apache License 2.0"}))
    named = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    made.root_dataset["conformsTo"] = made.add(ContextEntity(made, PROFILE, named))
    entities = {path: _file(made, folder, path) for path in files(folder)}
    for path, value in actions:
        _action(made, folder, path, value, entities)
    return made


def _file(made: ROCrate, folder: Path, path: Path):
    """A file as an entity, with its digest and size."""
    words = {"name": path.name, "contentSize": str(path.stat().st_size), "sha256": provenance.sha256(path)}
    vouched = next((text for pattern, text in VOUCHED.items() if path.match(pattern)), None)
    name = path.relative_to(folder).as_posix()
    return made.add_file(path, name, properties=words | ({"description": vouched} if vouched else {}))


def _action(made: ROCrate, folder: Path, path: Path, value: dict, entities: dict) -> None:
    """One provenance as an action: what made the file, from what, when, and how to make it again."""
    result = path.with_name(path.name.removesuffix(".provenance.json"))
    name = result.relative_to(folder).as_posix()
    objects = [_input(made, folder, source, digest, entities) for source, digest in value.get("inputs", {}).items()]
    words = {"name": f"make {name}", "description": command(name), "subjectOf": entities[path]}
    words |= {"endTime": value["finished_utc"]} if value.get("finished_utc") else {}
    action = made.add_action(_code(made, value), f"#make/{name}", objects, entities.get(result), words)
    made.root_dataset.append_to("mentions", action)


def _input(made: ROCrate, folder: Path, source: str, digest: str, entities: dict):
    """A file that a result was made from: of this crate, or, where it is not here, its name and digest."""
    here = folder.parent / source
    if here in entities:
        return entities[here]
    words = {"@type": "CreativeWork", "name": source, "sha256": digest}
    return made.add(ContextEntity(made, f"#input/{digest[:12]}/{source}", words))


def _code(made: ROCrate, value: dict):
    """The software that made a file: this repository at the commit that its provenance names."""
    commit = (value.get("git") or {}).get("commit") or "unknown"
    words = {"@type": "SoftwareApplication", "name": "registration agent, reproducibility study", "version": commit}
    return made.dereference(f"#code/{commit}") or made.add(ContextEntity(made, f"#code/{commit}", words))


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("--profile", default="cpu", help="whose results (default: cpu, that is results/)")


def run(options) -> None:
    """Write the metadata into the results folder."""
    folder = config.results_dir(options.profile)
    provenance.write_json(folder / NAME, crate(folder).metadata.generate())
    print(f"{folder / NAME}: the folder is an RO-Crate now; make it again when its files change.")
