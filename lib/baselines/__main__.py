"""`python -m lib.baselines itk_search ants --profile cpu --experiment spine --splits all`: some methods alone,
without notebook 05. What is complete is not run again; an interrupted run goes on after the last finished patient.

The patients must be there (notebook 01). `dsl_polish` and `dsl_two_channel_polish` need the agents' rows (notebook
04). Rows go beside the notebook's, where notebook 06 finds them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from lib.base.errors import status
from lib.study import batch, config


def main(words: list[str] | None = None) -> int:
    """One line a method and split. Exit status 2 and one sentence for bad input."""
    parser = argparse.ArgumentParser(prog="python -m lib.baselines", description=main.__doc__)
    parser.add_argument("methods", nargs="+", help="names of methods, such as itk_search ants ants_search")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    parser.add_argument("--splits", default="0", help="all, or numbers such as 0,3")
    parser.add_argument("--dataset", help="real, or the name of a scan; default: the split's virtual patients")
    parser.add_argument("--workers", type=int, help="processes side by side; default: the profile's")
    given = parser.parse_args(words)

    def work():
        profile = config.load(given.profile, sections=("patients", "stream", "evaluation", "baselines"))
        if given.workers:
            profile = replace(profile, baselines=replace(profile.baselines, workers=given.workers))
        for split in config.split_numbers(given.splits, profile.patients.n_splits):
            cfg = replace(profile, experiment=given.experiment, split=split, dataset=given.dataset)
            for name, rows in batch.run_split(cfg, given.methods):
                good = sum(row["success"] for row in rows)
                print(f"{given.experiment} split {split} {name}: {good}/{len(rows)}", flush=True)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
