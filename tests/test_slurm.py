"""What Snakemake asks of Slurm, with stand-ins for Slurm's programs; the real one is tried by `make test-slurm`."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from lib import __main__ as door
from lib.base import pools
from lib.base.folders import ROOT
from workflow import slurm


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """(program, shell line) puts a program of Slurm on the PATH; what it was called with is in calls()."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    for name in ("squeue", "scontrol", "sacct", "sbatch", "sinfo", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)

    def put(name, line):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/calls\n{line}\n')

    put.calls = lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
    put.jobs = tmp_path / "results" / "runs" / "slurm"
    return put


def waits(reason, seconds):
    """squeue's line on a job that has waited so long."""
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - seconds))
    return f"echo 'PENDING|{reason}|{since}'"


@pytest.mark.parametrize(
    ("squeue", "scontrol", "said"),
    [
        ("echo 'RUNNING|None|'", "false", "running"),
        ("echo 'COMPLETING|None|'", "false", "running"),
        ("true", "echo 'JobId=7 JobState=COMPLETED Reason=None'", "success"),
        ("true", "echo 'JobState=OUT_OF_MEMORY'", "failed"),
        ("false", "false", "running"),  # the controller does not answer
    ],
)
def test_what_slurm_says_of_a_job(cluster, squeue, scontrol, said):
    cluster("squeue", squeue)
    cluster("scontrol", scontrol)
    assert slurm.status("7") == said


@pytest.mark.parametrize(("code", "said"), [("0", "success"), ("1", "failed")])
def test_a_job_that_slurm_has_forgotten_speaks_for_itself(cluster, code, said):
    """It ended eleven minutes ago; squeue and scontrol know nothing of it."""
    cluster("squeue", "true")
    cluster.jobs.mkdir(parents=True)
    (cluster.jobs / "7.ended").write_text(f"{code}\n")
    assert slurm.status("7") == said


def test_a_job_that_vanished_without_a_word_was_killed(cluster):
    cluster("squeue", "true")
    assert slurm.status("7") == "running", "its file may be on the way"
    late = time.time() - slurm.UNKNOWN - 1
    os.utime(cluster.jobs / "7.unknown", (late, late))
    assert slurm.status("7") == "failed"


def test_why_a_job_waits_is_said_within_a_minute_and_once(cluster, capsys):
    cluster("squeue", waits("Resources", 5))
    assert slurm.status("7") == "running" and capsys.readouterr().err == ""
    cluster("squeue", waits("Resources", 31))
    assert slurm.status("7") == slurm.status("8") == "running"
    assert capsys.readouterr().err == "Job 7 waits (Resources): every node that has what it asks for is busy.\n"
    cluster("squeue", waits("ReqNodeNotAvail, UnavailableNodes:a", 31))
    assert slurm.status("8") == "running"
    assert "nodes that it could run on are down" in capsys.readouterr().err


@pytest.mark.parametrize("reason", ["PartitionConfig", "QOSMaxCpuPerJobLimit"])
def test_a_job_that_can_never_start_fails_at_once(cluster, capsys, reason):
    cluster("squeue", waits(reason, 0))
    cluster("scancel", "true")
    assert slurm.status("7") == "failed"
    assert f"Job 7 can never start ({reason})" in capsys.readouterr().err
    assert cluster.calls()[-1] == "scancel 7"


def job(*more):
    words = shlex.split("submit --rule train --log runs/03.ipynb --cores 4 --mb 3000 --minutes 7200 --gpus 0 job.sh")
    return slurm.arguments([*words[:1], *more, *words[1:]])


def test_a_job_asks_for_no_more_cores_and_time_than_there_are(cluster, capsys):
    cluster("squeue", "true")
    cluster("sinfo", "echo 'small*|2|20000|1-12:30:00'; echo 'big|64+|500000+|infinite'")
    cluster("sbatch", "echo '12;local'")
    assert slurm.submit(job()) == 0
    assert capsys.readouterr().out == "12\n"
    asked = cluster.calls()[-1].split()
    assert {"--cpus-per-task=2", "--mem=3000", "--time=2190", "--no-requeue"} <= set(asked) and "job.sh" in asked
    assert not [word for word in asked if word.startswith("--gpus")]


def test_after_a_restart_the_job_of_the_same_unit_is_taken_over(cluster, capsys):
    cluster("sinfo", "true")
    cluster("sbatch", "echo 13")
    cluster("squeue", "echo '11|COMPLETING'; echo '12|RUNNING'")
    assert slurm.submit(job()) == 0
    taken = capsys.readouterr()
    assert taken.out == "12\n" and "job 12 of an earlier run" in taken.err
    assert f"--name={slurm.unit_name('train', 'runs/03.ipynb')}" in cluster.calls()[-1]
    (cluster.jobs / "12.ended").write_text("1\n")  # it has failed, and Slurm is about to notice
    assert slurm.submit(job()) == 0 and capsys.readouterr().out == "13\n"
    assert slurm.unit_name("train", "runs/03.ipynb") != slurm.unit_name("train", "runs/04.ipynb")


def test_a_refusal_says_what_was_asked_and_what_there_is(cluster, capsys):
    cluster("squeue", "true")
    cluster("sinfo", "echo 'main*|2|20000|infinite'")
    cluster("sbatch", "echo 'sbatch: error: Memory specification can not be satisfied' >&2; exit 1")
    assert slurm.submit(job()) == 1
    assert capsys.readouterr().err == (
        "Slurm refuses train, which asks for 2 cores, 3000 MB: Memory specification can not be satisfied. "
        "A node has 2 cores and 20000 MB.\n"
    )


def script(tmp_path, last) -> subprocess.Popen:
    """The job's script as Snakemake fills it, at work."""
    text = (
        (ROOT / "profiles/slurm/jobscript.sh").read_text().format(properties="{}", exec_job=f"cd {tmp_path} && {last}")
    )
    (tmp_path / "a b/runs/slurm").mkdir(parents=True)
    environment = os.environ | {"RESULTS_DIR": str(tmp_path / "a b"), "SLURM_JOB_ID": "7"}
    return subprocess.Popen(["bash", "-c", text], env=environment, stdout=-1, text=True, start_new_session=True)


@pytest.mark.parametrize(("last", "kept"), [("true && exit 0 || exit 1", "0"), ("false && exit 0 || exit 1", "1")])
def test_the_job_leaves_its_exit_status(tmp_path, last, kept):
    assert str(script(tmp_path, last).wait(60)) == kept
    assert (tmp_path / "a b/runs/slurm/7.ended").read_text() == f"{kept}\n"
    assert [p.name for p in (tmp_path / "a b/runs/slurm").iterdir()] == ["7.ended"]


def test_a_cancelled_job_does_not_say_that_all_went_well(tmp_path):
    """scancel ends all processes of a job; bash's own status is then that of the command before."""
    job = script(tmp_path, "sh -c 'echo began; exec sleep 60' && exit 0 || exit 1")
    assert job.stdout.readline() == "began\n"
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(30) != 0
    assert (tmp_path / "a b/runs/slurm/7.ended").read_text() != "0\n"


def test_patients_are_made_on_the_cores_that_the_job_asked_for(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert pools.cores() == 3
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert pools.cores() == len(os.sched_getaffinity(0))


def test_the_profile_calls_what_is_here():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    assert "python -m workflow.slurm submit" in text and "python -m workflow.slurm status" in text
    done = subprocess.run([sys.executable, "-m", "workflow.slurm", "status"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "job" in done.stderr


def test_without_slurm_a_run_ends_in_one_sentence_before_it_starts(cluster, tmp_path, monkeypatch, capsys):
    asked = ["check", "smoke", "--where", "slurm"]
    assert door.main(asked) == 0, "where sbatch is"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert door.main(asked) == 2 and door.main(asked[:2]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "sbatch" in said[0]


def test_what_is_fetched_is_fetched_where_make_runs():
    text = (ROOT / "Snakefile").read_text()
    local = text.split("localrules:")[1].split("\n\n")[0]
    assert "scans," in local and "train" not in local
