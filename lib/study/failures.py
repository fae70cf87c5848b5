"""A picture of every failure: `python -m lib failures every_level register` -> results/figures/failures_every_level.png.

Each pose that a method of a study ended at and should not have, from the rows; who was registered is made again from the
study's file. Nothing is registered again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from lib import cases
from lib.base.errors import UserError
from lib.base.sections import hint
from lib.figures import charts, scans
from lib.registration.trust import GOOD
from lib.study import conditions, config, schema, sources
from lib.study import rows as study_rows
from lib.study.run import load_config


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("study", help="a study whose rows are there")
    parser.add_argument("method", help="one of its methods, as the column `method` has it")
    parser.add_argument("--good", action="store_true", help="only those that the verdict called good")


def run(options: argparse.Namespace) -> None:
    """Draw them. Raises UserError where there are no rows, no such method or no failure."""
    study, results = schema.load(options.study), config.results_dir("cpu")
    rows = study_rows.read(results, study.name)
    if rows.empty:
        raise UserError(f"There are no rows of {study.name}; run `python -m lib study {study.name}` first.")
    if options.method not in set(rows["method"]):
        raise UserError(f"{study.name} has no rows of {options.method!r}; {hint(options.method, set(rows['method']))}")
    rows = rows[(rows["method"] == options.method) & ~rows["success"]]
    rows = rows[(rows["verdict"] == GOOD) | (not options.good)]
    if rows.empty:
        raise UserError(f"{options.method} has no such failure in the rows of {study.name}.")
    title = f"All {len(rows)} failures of {options.method}, study {study.name}" + ", called good" * options.good
    drawn = scans.failures(found(study, rows), len(rows), title)
    path = results / "figures" / f"failures_{study.name}.png"
    charts.save(drawn, path, {"inputs": [study_rows.path_of(results, study.name)]}, dpi=70)  # there are many
    print(path)


def found(study: schema.Study, rows) -> Iterator[tuple]:
    """(words, patient, pose (4, 4), moving -> fixed) of each of the `rows` (DataFrame) of a study."""
    for block in study.cases:
        for experiment in block.experiments:
            mine = rows[rows["experiment"] == experiment]
            cfg = load_config("cpu", experiment)
            for person in sources.people(cfg, block, experiment, None, print):
                some = mine[(mine["case"] == person.id) & (mine["dataset"] == person.dataset)]
                for name, ends in some.groupby("condition", sort=False):
                    if name in block.conditions:
                        yield from _ends(block, person, block.conditions[name], ends)


def _ends(block, person, condition, ends) -> Iterator[tuple]:
    who = conditions.patient(person.load(), condition, person.anatomy, sources.SCANNERS[block.scanner])
    for row in ends.to_dict("records"):
        words = f"{person.id} {row['condition']}".strip().replace("_second_test", "")
        yield f"{words}: {row['final_error_mm']:.0f} mm", who, cases.pose_of(row, who)
