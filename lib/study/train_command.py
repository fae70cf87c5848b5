"""`python -m lib train`: one network of an agent, as notebook 03 trains it."""

from __future__ import annotations

import argparse

from lib import train
from lib.patients import population
from lib.study import config, pairs, train_agent


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("--profile", default="smoke")
    add.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    add.add_argument("--split", type=int, default=0)
    add.add_argument("--agent", default="dsl_two_channel", choices=("dsl", "dsl_two_channel"))
    add.add_argument("--stage", default="coarse", choices=("coarse", "fine"))


def run(options) -> None:
    """Patients, pairs, training: each made where it is missing. Goes on from the checkpoint. Raises UserError."""
    cfg = config.load(options.profile, experiment=options.experiment, split=options.split)
    cfg = train_agent.own(cfg, options.agent)
    population.build(cfg.patients, cfg.experiment, cfg.profile)
    folders = pairs.split_folders(cfg)
    sides = [pairs.prepare_pairs(folders[side], options.stage, cfg.stream) for side in ("train", "validation")]
    data = [pairs.load_pairs(side) for side in sides]
    out = config.run_dir(cfg) / "agents"
    lesson = train.Lesson(cfg.stream, cfg.training, cfg.experiment, options.stage, options.agent)
    train.train(lesson, *data, out)
