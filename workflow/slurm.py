"""What Snakemake asks of Slurm (profiles/slurm): `python -m workflow.slurm submit … JOBSCRIPT` and `… status JOB`.

A job leaves its exit status in a file of its own (`JOB.ended`), since Slurm forgets a job five minutes after its end. A
unit has one name in the queue: after a restart the job that an earlier run left there is taken over, not submitted twice.
Why a job waits is said within a minute; one that can never start is cancelled and counts as failed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from lib.base.folders import results_root

GOES_ON = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING", "STOPPED", "PREEMPTED")
PATIENCE = 30  # seconds in the queue before it is said why
AGAIN = 3600  # seconds before the same reason is said again
UNKNOWN = 60  # seconds that the file of a job that Slurm has forgotten may take to show up on a shared disk
# Slurm's words for "not as the cluster is set up", beside all limits "PerJob"; others pass with time.
NEVER = (
    *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints", "DependencyNeverSatisfied"),
    *("AccountNotAllowed", "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "JobHeldAdmin"),
)
WAITS = {
    "Resources": "every node that has what it asks for is busy",
    "Priority": "jobs of a higher priority are before it",
    "ReqNodeNotAvail": "nodes that it could run on are down or reserved",
    "JobHeldUser": "you hold it; scontrol release lets it go",
}


def place() -> Path:
    """Where jobs leave their logs and their exit status."""
    return results_root() / "runs" / "slurm"


def ask(*words: str) -> str | None:
    """What a program of Slurm prints; None where it fails or is not there."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def tell(sentence: str) -> None:
    """A line for people: Snakemake and the progress pass it on."""
    print(sentence, file=sys.stderr, flush=True)


def nodes() -> list[tuple[int, int, int | None]]:
    """Of each kind of node in the partition that jobs go to: cores, MB, and the minutes that a job may take there."""
    wanted, found = os.environ.get("SBATCH_PARTITION"), []
    for line in (ask("sinfo", "--noheader", "--format=%P|%c|%m|%l") or "").splitlines():
        partition, cores, memory, limit = line.split("|")
        if partition.rstrip("*") in wanted.split(",") if wanted else partition.endswith("*"):
            found.append((int(cores.rstrip("+")), int(memory.rstrip("+")), minutes(limit)))
    return found


def minutes(limit: str) -> int | None:
    """Slurm's [days-]hours:minutes:seconds as minutes; None for no limit."""
    if ":" not in limit:
        return None
    days, _, clock = limit.rpartition("-")
    hours, least, _ = (["0", *clock.split(":")])[-3:]
    return int(days or 0) * 1440 + int(hours) * 60 + int(least)


def unit_name(rule: str, log: str) -> str:
    """The unit's name in the queue: the same in every run of this folder, and in no other's."""
    return f"{rule}-{hashlib.sha256(os.path.abspath(log).encode()).hexdigest()[:12]}"


def queued(name: str) -> str | None:
    """The job of that name which waits or runs; None where there is none."""
    for line in (ask("squeue", "--noheader", "--me", f"--name={name}", "--format=%i|%T") or "").splitlines():
        job, state = line.split("|")
        if state in GOES_ON and not (place() / f"{job}.ended").exists():
            return job
    return None


def submit(options) -> int:
    """Print the number of the unit's job: of one that is there already, or of a new one. 1 where Slurm refuses it."""
    place().mkdir(parents=True, exist_ok=True)
    name = unit_name(options.rule, options.log)
    if there := queued(name):
        tell(f"{options.rule}: job {there} of an earlier run is at work on {options.log}; it is taken over.")
        print(there)
        return 0
    there = nodes()
    cores = min(options.cores, max((node[0] for node in there), default=options.cores))
    limits = [node[2] for node in there if node[2]]
    words = [f"--job-name={name}", f"--cpus-per-task={cores}", f"--mem={options.mb}", "--no-requeue"]
    # A training that runs out of time goes on from its checkpoint when it is tried again.
    words += [f"--time={min([options.minutes, *limits])}", f"--output={place()}/%j-{options.rule}.log"]
    words += [f"--gpus={options.gpus}"] if options.gpus else []
    done = subprocess.run(["sbatch", "--parsable", *words, options.script], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (
            done.stderr.strip().splitlines()[-1].removeprefix("sbatch: error: ") if done.stderr.strip() else "no reason"
        )
        has = "; ".join(f"{c} cores and {m} MB" for c, m, _ in there) or "unknown"
        gpus = f", {options.gpus} GPU" if options.gpus else ""
        tell(
            f"Slurm refuses {options.rule}, which asks for {cores} cores, {options.mb} MB{gpus}: {why}. A node has {has}."
        )
        return 1
    print(done.stdout.strip().split(";")[0])
    return 0


def status(job: str) -> str:
    """running, success or failed."""
    ended = place() / f"{job}.ended"
    if ended.exists():
        return "success" if ended.read_text().strip() == "0" else "failed"
    found = ask("squeue", "--noheader", f"--jobs={job}", "--format=%T|%r|%V")
    state, reason, since = found.splitlines()[0].split("|") if found else ("", "", "")
    if state == "PENDING":
        return waiting(job, reason, since)
    if not state:
        shown = (ask("scontrol", "show", "job", job) or "").split()
        state = next((word.removeprefix("JobState=") for word in shown if word.startswith("JobState=")), "")
    if not state:
        kept = ask("sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={job}")
        state = kept.split()[0] if kept else ""
    if not state:
        return forgotten(job)
    return "success" if state == "COMPLETED" else "running" if state in (*GOES_ON, "COMPLETING") else "failed"


def waiting(job: str, reason: str, since: str) -> str:
    """Say why a job has not started; `failed`, and it is cancelled, where it never can."""
    if reason in NEVER or "PerJob" in reason:
        ask("scancel", job)
        tell(f"Job {job} can never start ({reason}): it asks for more than the cluster gives. See docs/develop.md.")
        return "failed"
    said = place() / f"{reason.split(',')[0].strip() or 'None'}.said"
    recent = said.exists() and time.time() - said.stat().st_mtime < AGAIN
    if reason != "None" and not recent and (datetime.now() - datetime.fromisoformat(since)).total_seconds() >= PATIENCE:
        said.parent.mkdir(parents=True, exist_ok=True)
        said.touch()
        tell(f"Job {job} waits ({reason}): {WAITS.get(reason.split(',')[0], 'see man squeue, JOB REASON CODES')}.")
    return "running"


def forgotten(job: str) -> str:
    """Of a job that Slurm no longer knows and that left no file: it was killed, unless the file is on its way."""
    if ask("squeue", "--noheader", "--me") is None:
        return "running"  # a controller that does not answer is no failed job
    mark = place() / f"{job}.unknown"
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return "failed" if time.time() - mark.stat().st_mtime > UNKNOWN else "running"


def arguments(words: list[str]) -> argparse.Namespace:
    top = argparse.ArgumentParser(prog="python -m workflow.slurm")
    commands = top.add_subparsers(dest="command", required=True)
    add = commands.add_parser("submit")
    for name in ("cores", "mb", "minutes", "gpus"):
        add.add_argument(f"--{name}", type=int, required=True)
    add.add_argument("--rule", required=True)
    add.add_argument("--log", required=True, help="tells units apart")
    add.add_argument("script")
    commands.add_parser("status").add_argument("job")
    return top.parse_args(words)


if __name__ == "__main__":
    given = arguments(sys.argv[1:])
    if given.command == "submit":
        sys.exit(submit(given))
    print(status(given.job))
