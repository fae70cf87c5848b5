"""`python -m lib study NAME`: runs a study of configs/studies/."""

from __future__ import annotations

import argparse

from lib.base.errors import UserError
from lib.base.sections import known
from lib.study import config, figure4, recipes, schema
from lib.study.run import Loop, load_config
from lib.study.schema import Study


def names(study: Study) -> list[str]:
    """What `--only` may name: populations and recipes (fresh, fresh+again), methods that need none."""
    makers = [m for e in config.EXPERIMENTS for m in recipes.makers(study, e)]
    asked = [m for block in study.cases for m in block.methods or study.methods]
    found = [word for m in makers for word in (m.population, m.name)] + [m.method for m in asked if not m.trained()]
    return list(dict.fromkeys(found))


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m lib study` takes."""
    parser.add_argument("name", help="a study of configs/studies/; `python -m lib studies` lists them")
    parser.add_argument("--profile", default="cpu")
    what = "these recipes or methods of it alone; of figure4: sizes, curves, seeds (36px dsl seed0), or trials"
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help=what)
    parser.add_argument("--again", action="store_true", help="make rows again that are there")
    parser.add_argument("--train", action="store_true", help="train what is missing, and no more")


def run(options) -> None:
    """Run a study. Raises UserError."""
    import torch

    torch.set_num_threads(1)
    study = schema.load(options.name)
    if study.command:
        raise UserError(f"{study.name} is run by `{study.command}`.")
    if study.planar:
        if options.again or options.train:
            raise UserError(
                f"{study.name} knows neither --again nor --train; delete a curve's folder to train it again."
            )
        cfg = config.load(options.profile, sections=("patients", "drl"), experiment="spine", split=0)
        figure4.Long(cfg, study.planar).run(options.only)
        return
    known(options.only, names(study), f"word after --only for {study.name}")
    loop = Loop(load_config(options.profile), study, options.only, options.again)
    loop.train() if options.train else loop.run()
