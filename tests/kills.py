"""`python -m tests.kills FOLDER --kills 20`: one `make reproduce PROFILE=smoke`, killed again and again, each time resumed.

Its process group gets SIGKILL at seeded moments after the first unit has begun; what is left is counted 3 and 30 seconds
later. When all kills are done the run may end, and its rows are compared with those of a run that nobody killed (`--against RESULTS`).
FOLDER/kills.csv is the log: a line a kill. Not part of `make test`: a smoke run takes ten minutes of processor time.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd

from lib.base.disk import OURS
from lib.base.folders import ROOT

COLUMNS = ("kill", "after_s", "rules_done", "processes_left", "processes_after_30_s", "temporaries_left")
SHORT, LONG = 5.0, 120.0  # seconds to a kill, log-uniform
TIMED = ("seconds", "device", "note")  # columns that no two runs share
NO_SEED = ("greedy", "greedy_search")  # methods without one


def start(folder: Path, words: list[str]) -> subprocess.Popen:
    """The run, in a process group of its own."""
    places = {"RESULTS_DIR": str(folder / "results"), "DATA_DIR": str(folder / "data")}
    with open(folder / "make.log", "ab") as log:
        return subprocess.Popen(
            ["make", "-s", "reproduce", "PROFILE=smoke", *words],
            cwd=ROOT,
            env=os.environ | places,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def units_begun(folder: Path) -> int:
    """How many units all starts together have begun."""
    return (folder / "make.log").read_text(errors="replace").count("  start  ")


def wait_for_work(run: subprocess.Popen, folder: Path, before: int) -> None:
    """Until a unit of this start has begun, or the run has ended."""
    while run.poll() is None and units_begun(folder) <= before:
        time.sleep(0.5)


def processes(folder: Path) -> list[str]:
    """Command lines of living processes that work in the folder: their environment names it."""
    mark, found = f"RESULTS_DIR={folder / 'results'}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended, or is another user's
    return [words for words in found if words]


def temporaries(folder: Path) -> list[Path]:
    """Files and folders that a writer left half-written."""
    return [path for path in folder.rglob(".*") if OURS.match(path.name)]


def kill(run: subprocess.Popen, folder: Path, number: int, after: float) -> dict:
    """End the run's process group at once; what is left of it."""
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(3)
    left = len(processes(folder))
    time.sleep(27)
    done = (folder / "make.log").read_text(errors="replace").count("  done   ")
    values = (number, round(after, 1), done, left, len(processes(folder)), len(temporaries(folder)))
    return dict(zip(COLUMNS, values, strict=True))


def differences(ours: Path, theirs: Path) -> list[str]:
    """Rows of cases that differ between two results folders, a sentence a file."""
    wrong = []
    for path in sorted((theirs / "runs" / "smoke").rglob("cases*.csv")):
        name = path.relative_to(theirs)
        if not (ours / name).exists():
            wrong.append(f"{name} is missing")
            continue
        a, b = (pd.read_csv(p).drop(columns=list(TIMED), errors="ignore") for p in (ours / name, path))
        a, b = (rows[~rows["method"].isin(NO_SEED)].reset_index(drop=True) for rows in (a, b))
        if not a.equals(b):
            wrong.append(f"{name} differs")
    return wrong


def main() -> int:
    """Kill, resume, count; exit status 1 where something was lost or left behind, or the run had ended before all kills."""
    add = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.splitlines()[0])
    add.add_argument("folder", type=Path, help="where the run puts its results and data")
    add.add_argument("--kills", type=int, default=20)
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--against", type=Path, help="results folder of a run that nobody killed")
    add.add_argument("words", nargs="*", help="more words for make, such as BIN=...")
    options = add.parse_intermixed_args()
    folder, chance = options.folder.resolve(), random.Random(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "kills.csv"  # of earlier starts in this folder, which go on
    log = list(csv.DictReader(kept.open(newline=""))) if kept.exists() else []
    wanted = len(log) + options.kills
    for number in range(len(log) + 1, wanted + 1):
        (folder / "make.log").touch()
        before, after = units_begun(folder), SHORT * (LONG / SHORT) ** chance.random()
        run = start(folder, options.words)
        wait_for_work(run, folder, before)
        try:
            run.wait(after)
            break  # it has ended before: nothing is left to kill
        except subprocess.TimeoutExpired:
            log.append(kill(run, folder, number, after))
        with open(kept, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(log)
        print(log[-1], flush=True)
    ended = start(folder, options.words).wait()
    wrong = differences(folder / "results", options.against) if options.against else []
    left = [*map(str, temporaries(folder)), *processes(folder)]
    print(
        f"{len(log)} kills of {wanted}; the run ended with status {ended}; left behind: {left or 'nothing'}; {wrong or 'rows agree'}"
    )
    return int(bool(ended or wrong or left or len(log) < wanted))


if __name__ == "__main__":
    raise SystemExit(main())
