"""`python -m lib COMMAND`: the one door. `python -m lib COMMAND --help` says what a command takes.

Bad input ends in one sentence on standard error and exit code 2, with nothing written.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NamedTuple

from lib.base.errors import UserError
from lib.base.talk import talking


class Command(NamedTuple):
    """Where a command is: a module with `arguments(parser)` and `run(options) -> exit code or None`."""

    group: str
    module: str
    help: str


USE, STUDY, CHECK = "your own scans", "the study", "numbers and files"
COMMANDS = {
    "register": Command(USE, "lib.registration.command", "align a CT to a cone-beam CT"),
    "data": Command(USE, "lib.patients.data", "list the data sets, fetch one, or read a downloaded collection"),
    "study": Command(STUDY, "lib.study.command", "run a study of configs/studies: train, register, write rows"),
    "studies": Command(
        STUDY, "lib.study.listing", "list the studies: what each asks, whether its rows are there, its time"
    ),
    "calibrate": Command(STUDY, "lib.tables.calibration", "limits of the verdict, from the study trust_calibration"),
    "train": Command(STUDY, "lib.study.train_command", "train an agent on the patients of a profile"),
    "join": Command(STUDY, "lib.tables.join", "add splits that were run elsewhere to results/"),
    "release": Command(STUDY, "lib.study.release", "copy the agents of one split to results/agents/"),
    "verify": Command(
        CHECK, "lib.tables.verify", "does everything committed follow from what it says it follows from?"
    ),
    "tables": Command(CHECK, "lib.tables.command", "tables from their rows, documents from the tables; do they agree?"),
    "claims": Command(CHECK, "lib.tables.verdicts", "a verdict on every claim of the paper: write, show or check"),
    "card": Command(CHECK, "lib.tables.card", "the model card of the released agents"),
    "crate": Command(
        CHECK, "lib.tables.crate", "results/ as an RO-Crate: what made each file, from what, and how again"
    ),
    "animation": Command(
        CHECK, "lib.tables.front_page", "the front page's picture: the agent walks home on the real pair"
    ),
    "baselines": Command(STUDY, "lib.study.baselines_command", "run some methods alone, without notebook 05"),
    "scanners": Command(CHECK, "lib.figures.scanners", "picture of both simulated scanners beside a real cone-beam CT"),
    "failures": Command(CHECK, "lib.study.failures", "a picture of every failure of a method in a study's rows"),
    "bench": Command(CHECK, "lib.study.bench", "speed of targets, stream, training, roll-out and registration"),
    "check": Command(CHECK, "lib.study.check", "are these settings sound? asked before any work begins"),
}


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only the module of `command` is imported, so that help and errors come at once."""
    top = argparse.ArgumentParser(
        prog="python -m lib",
        usage="python -m lib COMMAND ...",
        description=_listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="python -m lib"
    )
    for name, found in COMMANDS.items():
        add = commands.add_parser(name, description=_sentence(found.help))
        if name == command:
            importlib.import_module(found.module).arguments(add)
    return top


def _sentence(words: str) -> str:
    """A line of the listing as a sentence; a path keeps its small letter."""
    first = words if "/" in words.split()[0] else f"{words[0].upper()}{words[1:]}"
    return first if first[-1] in ".?" else f"{first}."


def _listing() -> str:
    """Every command in its group, a line each."""
    lines = ["An artificial agent for CT to cone-beam CT registration."]
    for group in dict.fromkeys(found.group for found in COMMANDS.values()):
        lines += ["", f"{group}:"]
        lines += [f"  {name:10} {found.help}" for name, found in COMMANDS.items() if found.group == group]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 stopped by Ctrl-C, or what the command says."""
    words = sys.argv[1:] if words is None else words
    try:
        with talking():
            named = next((word for word in words if not word.startswith("-")), None)
            options = parser(named).parse_args(words)
            return importlib.import_module(COMMANDS[options.command].module).run(options) or 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what was being written is left out, what was written before stays.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
