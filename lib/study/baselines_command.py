"""`python -m lib baselines itk_search ants --profile cpu --splits all`: some methods alone, without notebook 05.

What is complete is not run again; an interrupted run goes on after the last finished patient. The patients must be there
(notebook 01). `dsl_polish` and `dsl_two_channel_polish` need the agents' rows (notebook 04). Rows go beside the
notebook's, where notebook 06 finds them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from lib.study import batch, config


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("methods", nargs="+", help="names of methods, such as itk_search ants ants_search")
    add.add_argument("--profile", default="cpu")
    add.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    add.add_argument("--splits", default="0", help="all, or numbers such as 0,3")
    add.add_argument("--dataset", help="real, or the name of a scan; default: the split's virtual patients")
    add.add_argument("--workers", type=int, help="processes side by side; default: the profile's")


def run(options) -> None:
    """One line a method and split. Raises UserError."""
    common = {"experiment": options.experiment, "dataset": options.dataset}
    profile = config.load(options.profile, ("patients", "stream", "evaluation", "baselines"), **common)
    if options.workers:
        profile = replace(profile, baselines=replace(profile.baselines, workers=options.workers))
    for split in config.split_numbers(options.splits, profile.patients.n_splits):
        cfg = replace(profile, split=split)
        for name, rows in batch.run_split(cfg, options.methods):
            good = sum(row["success"] for row in rows)
            print(f"{options.experiment} split {split} {name}: {good}/{len(rows)}", flush=True)
