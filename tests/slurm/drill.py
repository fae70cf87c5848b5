"""`python -m tests.slurm.drill FOLDER`: `make reproduce PROFILE=smoke` through a real Slurm, disturbed twice.

A running job is cancelled: it must be tried once more. Then make's process group gets SIGKILL while a job runs: that job must
go on, and the next make must take it over instead of submitting it twice. At the end the rows are compared with those of a
local run (`--against RESULTS`, else one is made first). `make test-slurm` runs it; some 20 minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from lib.base.folders import ROOT
from tests.kills import differences

LIMIT = 3600  # seconds for anything that is waited for


def part(folder: Path) -> list[str]:
    """The word for make that asks for the spine's walks alone: patients, two trainings, walks."""
    return [f"TARGET={os.path.relpath(folder, ROOT)}/results/runs/smoke/spine/split0/cases_dsl.csv"]


def start(folder: Path, where: str, words: list[str]) -> subprocess.Popen:
    """make, in a process group of its own; its words are added to FOLDER/make.log."""
    places = {"RESULTS_DIR": str(folder / "results"), "DATA_DIR": str(folder / "data")}
    with open(folder / "make.log", "ab") as log:
        return subprocess.Popen(
            ["make", "-s", "reproduce", "PROFILE=smoke", f"WHERE={where}", *words],
            cwd=ROOT,
            env=os.environ | places,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def jobs(state: str = "RUNNING") -> dict[str, str]:
    """Number -> name of this user's jobs in a state."""
    words = ["squeue", "--me", "--noheader", f"--states={state}", "--format=%i %j"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split() for line in lines)


def wait_for(found, run: subprocess.Popen, what: str):
    """What `found()` gives once it gives something. Raises AssertionError where make ends or nothing comes."""
    until = time.time() + LIMIT
    while time.time() < until:
        if value := found():
            return value
        assert run.poll() is None, f"make ended before {what}"
        time.sleep(1)
    raise AssertionError(f"{what} did not come")


def said(folder: Path, words: str) -> list[str]:
    """Lines of make that hold these words."""
    return [line for line in (folder / "make.log").read_text(errors="replace").splitlines() if words in line]


def drill(folder: Path, words: list[str]) -> None:
    """The disturbed run, to its end. Raises AssertionError where Slurm and Snakemake lose each other."""
    run = start(folder, "slurm", words)
    first = wait_for(lambda: [job for job, name in jobs().items() if name.startswith("train")], run, "a training")[0]
    time.sleep(10)
    subprocess.run(["scancel", first], check=True)
    print(f"job {first} cancelled while it ran", flush=True)
    wait_for(lambda: said(folder, "trying once more"), run, "another try")
    print("it is tried once more", flush=True)
    job, name = wait_for(lambda: sorted(jobs().items()), run, "a running job")[0]
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    print(f"make killed while job {job} ({name}) ran", flush=True)
    run = start(folder, "slurm", words)
    wait_for(lambda: said(folder, "taken over") or job not in jobs(), run, "the second make")
    there = [number for state in ("RUNNING", "PENDING") for number, other in jobs(state).items() if other == name]
    assert there == [job] or not there, f"submitted twice: {there}"
    print(said(folder, "taken over")[-1:] or f"job {job} had ended before make looked", flush=True)
    status = run.wait()
    assert status == 0, f"make ended with {status}; see {folder / 'make.log'}"


def main() -> int:
    """Exit status 1 where rows differ."""
    add = argparse.ArgumentParser(prog="python -m tests.slurm.drill", description=__doc__.splitlines()[0])
    add.add_argument("folder", type=Path, help="where the run puts its results and data")
    add.add_argument("--against", type=Path, help="results folder of a local run of the profile smoke")
    add.add_argument("--part", action="store_true", help="the spine's walks alone: four jobs")
    add.add_argument("words", nargs="*", help="more words for make, such as BIN=...")
    options = add.parse_intermixed_args()
    folder = options.folder.resolve()
    against = options.against or folder / "local" / "results"
    (folder / "local").mkdir(parents=True, exist_ok=True)
    if not (against / "runs/smoke/spine/split0/cases_dsl.csv").exists():
        more = part(folder / "local") if options.part else []
        assert start(folder / "local", "local", options.words + more).wait() == 0, (
            f"see {folder / 'local' / 'make.log'}"
        )
    began = time.time()
    drill(folder, options.words + (part(folder) if options.part else []))
    wrong = differences(folder / "results", against)
    if options.part:  # what it did not run is no loss; what it ran is there, or make had not ended well
        wrong = [line for line in wrong if not line.endswith("is missing")]
    print(f"{(time.time() - began) / 60:.0f} min through Slurm; {wrong or 'rows agree with those of the local run'}")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
