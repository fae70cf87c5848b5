"""`python -m lib release [PROFILE] [SPLIT]`: the agents of one split, copied to results/agents/ with their training logs.

Everything that registers uses them by default. Their model card is written by `python -m lib card` (`lib.tables.card`), after
the tables that it reads.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.registration.register import RegisterSettings
from lib.study import config, recipes
from lib.train import AGENTS

LIMIT_MB = 40


def release(profile: str = "cpu", split: int = 0, target: Path | None = None) -> list[Path]:
    """Copy the agents of both experiments; returns their paths. The agent that registers stays as it is where its population
    was not trained here. Raises UserError where none was trained, or they are too large."""
    target = target or folders.results_root() / "agents"
    copied = []
    for experiment in config.EXPERIMENTS:
        sections = ("patients", "stream", "training", "transfer")
        cfg = config.load(profile, sections=sections, experiment=experiment, split=split)
        folder = config.agents_dir(cfg)
        found = [p for agent in AGENTS for p in sorted(folder.glob(f"{agent}_*.safetensors"))]
        released = getattr(cfg.transfer, f"released_{experiment}")
        better = recipes.folder(cfg, recipes.Maker(experiment, released, ""))
        found = [better / p.name if (better / p.name).exists() else p for p in found]
        if not found:
            raise UserError(f"{folder}: no trained agents; run `make reproduce PROFILE={profile}` first.")
        registers = [p for p in found if p.parent == folder and p.name.startswith(f"{RegisterSettings().agent}_")]
        for path in registers if released != "reproduce" else []:
            if (target / experiment / path.name).exists():
                why = f"its population, {released}, was not trained here (make transfer)"
                print(f"{experiment}/{path.name} stays: {why}")
                found.remove(path)
        for source in dict.fromkeys(found):
            for path in (source, source.with_name(source.stem + "_log.csv"), provenance.beside(source)):
                if path.exists():
                    place = target / experiment / path.name
                    with provenance.atomic(place) as temporary:
                        shutil.copyfile(path, temporary)
            copied.append(target / experiment / source.name)
    size = sum(path.stat().st_size for path in copied) / 1e6
    if size > LIMIT_MB:
        raise UserError(f"The agents take {size:.0f} MB, more than {LIMIT_MB}; release fewer or train smaller ones.")
    return copied


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("profile", nargs="?", default="cpu", help="whose agents (default: cpu)")
    add.add_argument("split", nargs="?", type=int, default=0, help="of which split (default: 0)")


def run(options) -> None:
    """Copy, and name what was copied."""
    for path in release(options.profile, options.split):
        print(path)
    print("next: python -m lib card", *[options.profile] * (options.profile != "cpu"))
