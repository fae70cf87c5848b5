"""`python -m lib check`: are a profile's settings, the splits and the place to run sound? What make asks first."""

from __future__ import annotations

import argparse

from lib.base.folders import ROOT
from lib.base.sections import known
from lib.study import config


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
        config.split_numbers(options.splits, config.load(name).patients.n_splits)
    places = [path.parent.name for path in (ROOT / "profiles").glob("*/config*.yaml")]
    known([options.where], places, "place to run (WHERE)")
