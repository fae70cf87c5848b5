"""What a study of Figure 4's 2-D problem asks for: the block `planar` of its file in `configs/studies/`.

    planar:
      curves: [dsl, dqn, dsl_two_channel]
      seeds: [0, 1, 2]
      sizes: [{window: 36, spacing: 5.5}, {window: 64, spacing: 3.1}]
      settings: {steps: 62500}                     # over the section `drl` of the profile
      trials: {curves: [dqn], held_out: 7, settings: {steps: 6000}, values: {target_every: [100, 500]}}

`lib.study.figure4` runs it, `lib.study.planar.trials` chooses what only DRL needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lib.base.sections import build, known, merge
from lib.study.planar.settings import CURVES, DrlSettings

SAME = {"double_dqn": "dqn"}  # whose constants a method takes that has no trials of its own


@dataclass(frozen=True)
class Trials:
    """How the constants of DRL are chosen: one after the other, a value kept where it is better than the best so far."""

    curves: tuple[Literal[CURVES], ...] = ()
    held_out: int = 7  # training patients on whose pairs trials are judged; the others train
    settings: dict[str, Any] = field(default_factory=dict)  # over the study's
    values: dict[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # constant: values; the search begins at the first


@dataclass(frozen=True)
class Plan:
    """Every curve with every seed at every size."""

    curves: tuple[Literal[CURVES], ...]
    seeds: tuple[int, ...] = (0,)
    sizes: tuple[dict[str, Any], ...] = ({},)  # window and spacing of each
    settings: dict[str, Any] = field(default_factory=dict)  # over the section `drl` of the profile
    trials: Trials | None = None


def settings(plan: Plan, base: DrlSettings, *more: Mapping[str, Any]) -> DrlSettings:
    """The profile's section with the study's settings and `more` on top. Raises UserError."""
    values = dataclasses.asdict(base)
    for some in (plan.settings, *more):
        values = merge(values, some)
    return build("drl", values, "the study's file")


def tried(plan: Plan, curve: str) -> str:
    """The curve whose trials chose this one's constants; "" where it has none: DSL keeps what the file says."""
    for method, other in SAME.items():
        curve = other + curve.removeprefix(method) if curve.startswith(method) else curve
    return curve if plan.trials and curve in plan.trials.curves else ""


def words(plan: Plan) -> tuple[dict[str, list], ...]:
    """What `--only` may name: a size, a curve, a seed, each with the word for it. Words of one kind widen, words of
    different kinds narrow."""
    sizes = {f"{size.get('window', DrlSettings.window)}px": size for size in plan.sizes}
    return sizes, {curve: curve for curve in plan.curves}, {f"seed{seed}": seed for seed in plan.seeds}


def wanted(plan: Plan, only=()) -> list[tuple[dict[str, Any], str, int]]:
    """(size, curve, seed) of every training asked for: seed by seed, so that the first comparison is soon there. Raises
    UserError for a word that is none."""
    kinds = words(plan)
    known(only, [*(word for kind in kinds for word in kind), "trials"], "word after --only")
    sizes, curves, seeds = (
        [value for word, value in kind.items() if word in only or not set(only) & set(kind)] for kind in kinds
    )
    return [(size, curve, seed) for seed in seeds for size in sizes for curve in curves]
