"""`python -m lib check`: are a profile's settings with all its variants, the studies, the splits and the place to run
sound? What make asks first.
"""

from __future__ import annotations

import argparse
import shutil

from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.base.sections import known
from lib.study import config, schema

VARIED = ("stream", "training", "per_agent", "agent")  # sections that a variant changes


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("profile", nargs="*", help="profiles to check; all unless named")
    add.add_argument("--splits", default="0", help="all, or numbers such as 0,3")
    add.add_argument("--gpu", default="0", help="0, or how many GPUs a training asks for")
    add.add_argument("--where", default="local", help="folder of profiles/ that says where to run")


def run(options) -> None:
    """Raises UserError at the first thing that would end a run before it could start."""
    config.gpus(options.gpu)
    for name in options.profile or config.profiles():
        cfg = config.load(name)
        config.split_numbers(options.splits, cfg.patients.n_splits)
        for variant in cfg.variants.known:
            config.load(name, VARIED, variant=variant, experiment=cfg.variants.experiment)
    for name in schema.names():
        schema.load(name)
    places = [path.parent.name for path in (ROOT / "profiles").glob("*/config*.yaml")]
    known([options.where], places, "place to run (WHERE)")
    if options.where == "slurm" and shutil.which("sbatch") is None:
        raise UserError("WHERE is slurm, but there is no sbatch here: run make where Slurm is, or leave WHERE out.")
