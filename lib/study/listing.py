"""`python -m lib studies`: every study, what it asks, whether its rows are there, and what it takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.study import config, figure4, recipes, rows, schema


def state(study: schema.Study, results: Path) -> str:
    """`there` (rows of all that is asked), `partly` or `not`, with the number of rows, in a folder of results. Nothing but
    the file is looked at."""
    if study.command:
        return f"as `{study.command}` left them"
    if study.planar:
        return figure4.state(study.planar, results)
    found = rows.read(results, study.name)
    have = set(found[list(rows.WHAT)].itertuples(index=False, name=None))
    asked = expected(study)
    kind = "there" if asked <= have else "partly" if asked & have else "not"
    return f"{kind}, {len(found):,} rows" if len(found) else kind


def expected(study: schema.Study) -> set[tuple]:
    """`rows.WHAT` of every combination that a study asks for."""
    found = set()
    for block in study.cases:
        for experiment in block.experiments:
            for maker in (*recipes.makers(study, experiment), None):
                who = (maker.population, maker.label, maker.agent) if maker else None
                for m in block.methods or study.methods:
                    coarse_alone = maker and m.walks() and (maker.samples or experiment == "heart")
                    if m.trained() != (maker is not None) or (
                        coarse_alone and (m.stage == "coarse") != bool(maker.samples)
                    ):
                        continue
                    for condition in block.conditions:
                        for reach in block.ranges:
                            label = m.label(maker.agent if maker else "")
                            found.add((experiment, reach, *(who or ("", m.change, "")), label, condition))
    return found


def duration(minutes: float) -> str:
    return f"{minutes:g} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--profile", default="cpu")


def run(options) -> None:
    """Three lines a study. Raises UserError for a file that is none."""
    results = config.results_dir(options.profile)
    for name in schema.names():
        study = schema.load(name)
        print(f"{name}: {study.question}")
        print(f"    rows {state(study, results)}; {duration(study.cost)} on one core")
    print("\n`python -m lib study NAME` runs one. docs/develop.md says how to add one.")
