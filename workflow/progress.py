"""`snakemake … 2>&1 | python -m workflow.progress`: one line a finished notebook, with the time left.

The weights are the minutes that each notebook took in profile `cpu` on two cores; only their proportions
matter, since what has been measured in this run rescales them.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator

MINUTES = {
    "patients": 4.0,
    "scans": 0.5,
    "stream": 0.5,
    "train": 10.0,
    "roll_out": 3.0,
    "real_roll_out": 4.0,
    "real_baselines": 8.0,
    "baselines": 6.0,
    "summary": 1.0,
    "claims_so_far": 0.3,
    "study": 60.0,
    "real_scans": 60.0,
    "variant_train": 4.0,
    "variant_walk": 1.0,
    "drl": 20.0,
    "theory": 0.5,
    "verdicts": 0.1,
    "claim": 0.1,
}
_RULE = re.compile(r"^(?:local)?rule (\w+):")
_ROW = re.compile(r"^(\w+)\s+(\d+)\s*$")
_WILDCARDS = re.compile(r"^\s+wildcards: (.*)")
_JOBID = re.compile(r"^\s+jobid: (\d+)")
_BROKEN = re.compile(r"^\w+(Exception|Error) in")
_EMPTY = re.compile(r"^(\d+ of \d+ steps|[\w./-]+/[\w.-]+(, [\w./-]+)*$)")  # counts, lists of removed files
_RESOURCES = re.compile(r"^\s+resources: ")
_DONE = re.compile(r"^Finished jobid: (\d+)")
_ERROR = re.compile(r"^Error in rule (\w+)")
_SAYS_NOTHING = (
    *("Building DAG", "Using ", "Provided ", "Rules ", "Job stats", "job ", "----", "total ", "Select"),
    *("Execute ", "Retrieving", "Assuming", "host:", "[", "Complete log", "Storing", "Touching", "Finished"),
    *("resources:", "SNAKEMAKE", "=====", "  ", "RuleException", "CalledProcessError", "Command '"),
    *(
        "Submitted job",
        "WorkflowError",
        "At least one job",
        "Shutting down",
        "Exiting because",
        "Elapsed time",
        "Removing",
    ),
)


def follow(lines: Iterable[str], clock=time.monotonic) -> Iterator[str]:
    """Turn Snakemake's chatter into lines for people; what it does not know, errors too, passes through."""
    loud = False  # the graph itself is broken: everything that follows is of interest
    began, rule, note, job = clock(), "", "", ""
    planned: dict[str, int] = {}
    running: dict[str, tuple[str, str, float]] = {}
    finished = {"n": 0, "weight": 0.0}
    for line in lines:
        line = line.rstrip("\n")
        if row := _ROW.match(line):
            if row[1] in MINUTES:
                planned[row[1]] = int(row[2])
        elif found := _RULE.match(line):
            rule, note = found[1], ""
        elif found := _WILDCARDS.match(line):
            note = _words(found[1])
        elif found := _JOBID.match(line):
            job = found[1]
        elif _RESOURCES.match(line) and rule:  # the last line of a job's announcement
            running[job] = (rule, note, clock())
            if rule in MINUTES:
                yield f"{_clock()}  start  {rule} {note}".rstrip()
            rule = ""
        elif (found := _DONE.match(line)) and found[1] in running:
            name, what, start = running.pop(found[1])
            if name in MINUTES:
                finished["n"] += 1
                finished["weight"] += MINUTES[name]
                yield _report(name, what, clock() - start, clock() - began, planned, finished)
        elif found := _ERROR.match(line):
            yield f"{_clock()}  failed {found[1]}: its notebook in results/runs/ stops where it happened"
        elif line.startswith("Trying to restart"):
            yield f"{_clock()}  trying once more"
        elif line.strip() and (loud or not line.startswith(_SAYS_NOTHING) and not _EMPTY.match(line)):
            loud = loud or bool(_BROKEN.match(line))
            yield line


def minutes_left(elapsed: float, planned: dict[str, int], weight_done: float) -> float:
    """Minutes left when `elapsed` seconds brought `weight_done` of the planned weight."""
    total = sum(MINUTES[name] * count for name, count in planned.items())
    return max(total - weight_done, 0.0) * elapsed / 60 / weight_done if weight_done else total


def _report(name: str, what: str, took: float, elapsed: float, planned: dict, finished: dict) -> str:
    left = minutes_left(elapsed, planned, finished["weight"])
    count = f"{finished['n']} of {max(sum(planned.values()), finished['n'])}"
    done = f"{_clock()}  done   {name} {what}".rstrip()
    return f"{done} in {took / 60:.1f} min; {count}, about {left:.0f} min left"


def _words(wildcards: str) -> str:
    """experiment=spine, split=0 -> spine, split 0."""
    pairs = [part.split("=", 1) for part in wildcards.split(", ") if "=" in part]
    return ", ".join(f"{name} {value}" if name == "split" else value for name, value in pairs)


def _clock() -> str:
    return time.strftime("%H:%M")


if __name__ == "__main__":
    # Ctrl-C reaches every process of the pipe; Snakemake ends the run, and what it says until then is still told.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for text in follow(sys.stdin):
        print(text, flush=True)
