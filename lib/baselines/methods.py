"""The registry: every method that stands in a table, once. Its name and look, where its code is, what it reads.

A method of `lib.baselines` is a function `register(fixed, moving, initial, settings, mask=None, rng=None) -> Result`:
two Volumes, a pose (4, 4) moving -> fixed to start from, `BaselineSettings`, the fixed field of view, a generator.
Those without a module are not called from here: agents walk (`lib.agent`), people turn sliders, and the truth is
annotated. To add one: a file in `lib/baselines/` with that function, its settings, and a line below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lib.base.errors import UserError


@dataclass(frozen=True)
class Method:
    """A line of the registry. The line of `lib.figures.charts`: colour, dash; of the runner: all that follows."""

    label: str  # in every figure and table
    colour: str  # Okabe and Ito's, safe for colour-blind readers; with more methods than colours the dash tells apart
    dash: str = "-"
    module: str = ""  # in lib.baselines
    function: str = "register"
    package: str = ""  # what a reader may lack
    reads: tuple[str, ...] = ()  # fields of BaselineSettings beside the seed: changing greedy's does not run ANTs again
    paper: bool = False  # a row of the paper's Table 1


ITK, SKY, GREEN = "SimpleITK", "#56b4e9", "#117733"
METHODS = {  # in the order of the tables
    "ground_truth": Method("Ground truth (ICP)", "#000000", ":", reads=("ground_truth",), paper=True),
    "initial": Method("Initial position", "#999999", ":", paper=True),
    "itk": Method("ITK, as published", SKY, "-", "itk", "register", ITK, ("itk",), paper=True),
    "quasi_global": Method(
        "Quasi-global", "#009e73", "-", "quasi_global", "register", ITK, ("quasi_global",), paper=True
    ),
    "semantic": Method(
        "Semantic", "#cc79a7", "-", "semantic", "register", "scikit-learn skops", ("semantic",), paper=True
    ),
    "dsl": Method("Agent (difference image)", "#d55e00", paper=True),
    "dsl_coarse": Method("Agent (difference image), coarse only", "#d55e00", "--"),
    "dsl_two_channel": Method("Agent (two channels)", "#0072b2"),
    "dsl_two_channel_coarse": Method("Agent (two channels), coarse only", "#0072b2", "--"),
    "dsl_two_channel_adaptive": Method("Agent (two channels), adaptive steps", "#0072b2", ":"),
    "dsl_three_channel": Method("Agent (three channels)", "#332288"),
    "dsl_two_channel_third": Method("Agent (two channels), 67 + 33 adaptive steps", "#44aa99", ":"),
    # Its cases begin where the agent ended.
    "dsl_polish": Method("Agent (difference image), then ITK", "#d55e00", "-.", "polish", "register", ITK, ("polish",)),
    "dsl_two_channel_polish": Method("Agent (two channels), then ITK", "#0072b2", "-.", reads=("polish",)),
    "regression": Method("Pose regression (two channels)", "#aa4499", ":"),
    "regression_iterated": Method("Pose regression (two channels), asked ten times", "#aa4499"),
    "regression_steps": Method("Pose regression (two channels), followed in steps", "#aa4499", "--"),
    "human": Method("Human", "#000000", paper=True),
    "itk_tuned": Method("ITK, tuned", SKY, "--", "itk", "tuned", ITK, ("tuned",)),
    "itk_bone": Method("ITK, tuned, then at bone", GREEN, "-", "itk_bone", "register", ITK, ("tuned", "bone")),
    "bone_search": Method(
        "Bone alone, searched starts", GREEN, ":", "itk_bone", "alone", ITK, ("tuned", "search", "bone", "bone_search")
    ),
    "itk_search_bone": Method(
        "ITK, searched starts, then at bone", GREEN, "-.", "itk_bone", "search", ITK, ("tuned", "search", "bone")
    ),
    "itk_search": Method("ITK, searched starts", SKY, "-.", "itk_search", "register", ITK, ("tuned", "search")),
    "quasi_global_tuned": Method(
        "Quasi-global, tuned", "#009e73", "--", "quasi_global", "tuned", ITK, ("quasi_global_tuned",)
    ),
    "elastix": Method("elastix", "#e69f00", "-", "elastix", "register", "itk-elastix", ("elastix",)),
    "ants": Method("ANTs", "#b8a600", "-", "ants", "register", "antspyx", ("ants",)),
    "ants_search": Method("ANTs, searched starts", "#b8a600", "-.", "ants", "search", "antspyx", ("ants", "search")),
    "greedy": Method("greedy", "#7a5195", "-", "greedy", "register", "picsl_greedy", ("greedy",)),
    "greedy_search": Method("greedy -search", "#7a5195", "-.", "greedy", "search", "picsl_greedy", ("greedy",)),
    "fft_search": Method("All shifts by FFT", "#882255", "-", "fft_search", "register", "scipy", ("fft_search",)),
    "dqn": Method("DRL (DQN)", SKY),
    "double_dqn": Method("DRL (double DQN)", "#009e73", "--"),
    "dqn_today": Method("DRL (double, dueling, n-step)", "#882255", ":"),
    "dsl_weighted": Method("DSL, our loss", "#e69f00"),
    "dsl_refined": Method("DSL, then DRL", "#cc79a7", "-."),
}
PAPER_METHODS = tuple(name for name, method in METHODS.items() if method.paper)
OURS = ("dsl", "dsl_two_channel")


def base(name: str) -> str:
    """The registered method behind a name: `semantic_5`, learnt on 5 patients, is `semantic`."""
    head, _, tail = name.rpartition("_")
    return head if tail.isdigit() else name


def learnt_on(name: str) -> int | None:
    """Training patients of `semantic_<n>`, a row that shows how the method starves; None for all others."""
    return int(name.rpartition("_")[2]) if name != "semantic" and base(name) == "semantic" else None


def competes(name: str) -> bool:
    """Whether a method is a rival of its own: not the start, the truth, a first stage or a starved training."""
    return name not in ("initial", "ground_truth") and not name.endswith("_coarse") and not learnt_on(name)


def label(name: str) -> str:
    """The name of a method as every figure and table shows it."""
    if learnt_on(name):
        return f"Semantic, {learnt_on(name)} training patients"
    return METHODS[name].label if name in METHODS else name.replace("_", " ")


def order(names: Iterable[str]) -> list[str]:
    """Methods in the order of the tables; fewer training patients first, unknown ones last."""
    rank = {name: place for place, name in enumerate(METHODS)}
    starved = rank["semantic"] - 0.5

    def place(name: str):
        return (starved, learnt_on(name)) if learnt_on(name) else (rank.get(name, len(rank)), 0)

    return sorted(set(names), key=lambda name: (*place(name), name))


def runnable() -> list[str]:
    """Names of the methods that `lib.baselines.run` can call."""
    return [name for name, method in METHODS.items() if method.module]


def check(names: Iterable[str]) -> None:
    """Raises UserError naming a method that cannot be run."""
    for name in names:
        if base(name) not in runnable():
            raise UserError(f"baselines.methods: there is no method {name!r}; choose from {', '.join(runnable())}.")


def load(name: str) -> Callable:
    """The method's function. Raises ImportError where its package is not installed, KeyError for no such name."""
    method = METHODS[base(name)]
    return getattr(importlib.import_module(f"lib.baselines.{method.module}"), method.function)


def settings_of(name: str, values: dict) -> dict:
    """The part of `values` (`asdict` of BaselineSettings, its `anatomy` that of the cases) that a method reads, seed apart:
    what its rows depend on."""
    method, of = METHODS.get(base(name)), f"_{values.get('anatomy')}"
    return {field: values.get(field + of, values[field]) for field in method.reads} if method else {}
