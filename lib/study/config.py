"""Typed parameters: one profile a file in `configs/`, one section a module.

A section's defaults (`lib.base.sections`) are the `smoke` profile. `load` reads `configs/<profile>.yaml`; `check` is the
second cell of every notebook. Both raise `UserError` for a name that no section knows: papermill only logs a misspelt
parameter and goes on.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.base.folders import ROOT, data_root, runs, summary
from lib.base.sections import SECTIONS, build, hint, known, merge
from lib.base.yaml_file import read as read_yaml
from lib.study import parameters

EXPERIMENTS = ("spine", "heart")  # E1, E2 in the paper
COMMON = ("profile", "experiment", "split", "dataset", "variant")  # parameters of a notebook that are no section
LIKE = "like"  # in a profile's file: the profile whose values hold where it has none
SMOKE = (
    "**Smoke run.** Minutes of work on a handful of patients: it shows that the notebook runs, and its numbers mean "
    "nothing. `make reproduce` makes numbers that do (profile `cpu`)."
)


@dataclasses.dataclass(frozen=True)
class Profile:
    """All parameters of one run; a section that was not asked for is None."""

    profile: str
    experiment: str = "spine"
    split: int = 0
    dataset: str | None = None  # None: the embedded virtual patients of the experiment
    variant: str | None = None  # None: the agent itself; else a name of variants.known
    change: Any = None  # what that variant changes, lib.study.variants.Variant
    patients: Any = None
    stream: Any = None
    training: Any = None
    per_agent: Any = None
    agent: Any = None
    baselines: Any = None
    drl: Any = None
    evaluation: Any = None
    theory: Any = None
    register: Any = None
    transfer: Any = None
    variants: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Plain dict of the sections present, for a provenance file or a hash."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
            for name, value in values.items()
            if value is not None
        }


def profiles() -> list[str]:
    """Names of the profiles in `configs/`."""
    return sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def load(profile: str = "smoke", sections: Iterable[str] | None = None, **common: Any) -> Profile:
    """Profile `configs/<profile>.yaml`, checked. `sections` (default: all): a bare box imports less.

    `common` are the parameters that are no section: `experiment`, `split`, `dataset`, `variant`. Raises UserError.
    """
    values = read(profile)
    known(common, COMMON, "parameter")
    wanted = tuple(SECTIONS) if sections is None else tuple(sections)
    known(wanted, SECTIONS, "section")
    built = {name: build(name, values.get(name) or {}, f"configs/{profile}.yaml") for name in wanted}
    return _whole(_with_variant(_with_common(Profile(profile=profile, **built), common), values))


def read(profile: str, behind: tuple[str, ...] = ()) -> dict[str, Any]:
    """The raw YAML of a profile, its top-level names checked; `like` names another one that it fills up. `behind`: the
    profiles that are like this one. Raises UserError."""
    path = ROOT / "configs" / f"{profile}.yaml"
    if not path.is_file():
        raise UserError(f"There is no profile {profile!r}; {hint(str(profile), profiles())}")
    values = read_yaml(path, f"configs/{profile}.yaml") or {}
    if not isinstance(values, dict):
        raise UserError(f"configs/{profile}.yaml must hold one section a name, such as `patients:`.")
    known(values, ("profile", LIKE, *SECTIONS), f"section in configs/{profile}.yaml")
    if values.get("profile", profile) != profile:
        raise UserError(f"configs/{profile}.yaml says profile: {values['profile']}; it must say {profile}.")
    like = values.pop(LIKE, None)
    if like == profile:
        raise UserError(f"configs/{profile}.yaml is like itself; name another profile, or none.")
    if like in behind:
        circle = ", ".join(f"{one} like {other}" for one, other in itertools.pairwise((*behind, profile, like)))
        raise UserError(
            f"configs/{profile}.yaml is like itself in a circle ({circle}); take `like` out of one of them."
        )
    return values if like is None else merge(read(like, (*behind, profile)), values)


def check(names: Mapping[str, Any], sections: Iterable[str] = (), also: Iterable[str] = ()) -> Profile:
    """Parameters of a notebook, from its `globals()`, right after the parameters cell.

    What the parameters cell and papermill assign (`lib.study.parameters`) must be known: one of `COMMON`, a section, or
    one of `also` (parameters of this notebook alone; they stay where they are). A section's dict overrides the profile's
    values name by name. Only the `sections` named are built. Raises UserError with the misspelt name and the closest
    right one; in a notebook it shows as one sentence.
    """
    parameters.quiet_user_errors(names.get("get_ipython"))
    given = parameters.given(names)
    known(given, (*COMMON, LIKE, *SECTIONS, *also), "parameter")
    known(sections, SECTIONS, "section")
    profile, built = given.get("profile", "smoke"), {}
    base = read(profile)
    for name in sections:
        override = given.get(name, {})
        values = merge(base.get(name) or {}, override) if isinstance(override, Mapping) else override
        built[name] = build(name, values, "the notebook's parameters" if override else f"configs/{profile}.yaml")
    common = {name: given[name] for name in COMMON[1:] if name in given}
    varied = merge(base, {name: given[name] for name in given if name == "variants"})
    return _whole(_with_variant(_with_common(Profile(profile=profile, **built), common), varied))


def headline(cfg: Profile, *words: Any) -> None:
    """The first line that a notebook prints: its profile and `words`. A smoke run also says what its numbers are worth."""
    print(f"profile {cfg.profile}:", *words)
    if cfg.profile == "smoke":
        from IPython.display import Markdown, display

        display(Markdown(f"> {SMOKE}"))


def data_dir(cfg: Profile | str) -> Path:
    """data/<profile>/: generated volumes; fetched scans stay in data/real."""
    return data_root() / _name(cfg)


def run_dir(cfg: Profile) -> Path:
    """results/runs/<profile>/<experiment>/split<k>/: what one unit of work leaves; a variant's and another data set's
    below it."""
    folder = runs(cfg.profile) / cfg.experiment / f"split{cfg.split}"
    folder = folder if cfg.variant is None else folder / "variants" / cfg.variant
    return folder if cfg.dataset is None else folder / cfg.dataset


def agents_dir(cfg: Profile) -> Path:
    """Where the split's trained agents are: whatever data set they are tried on, they trained on the split's patients.
    A variant that only walks otherwise borrows another's."""
    lender = (cfg.change and cfg.change.networks) or cfg.variant
    return run_dir(dataclasses.replace(cfg, dataset=None, variant=lender)) / "agents"


def results_dir(cfg: Profile | str) -> Path:
    """Where tables and figures go: results/ for `cpu`, results/runs/<profile>/summary/ for the others. Raises UserError for
    a profile that is none."""
    if isinstance(cfg, str):
        known([cfg], profiles(), "profile")
    return summary(_name(cfg))


def split_numbers(splits: Any, n_splits: int = 5) -> list[int]:
    """`all`, `2` or `0,3` -> numbers of the cross-validation's splits. Raises UserError."""
    if str(splits) == "all":
        return list(range(n_splits))
    numbers = {str(n): n for n in range(n_splits)}
    parts = str(splits).replace(",", " ").split()
    if not parts or not all(part in numbers for part in parts):
        raise UserError(f"SPLITS is {splits!r}; it must be all, or numbers below {n_splits} such as 0,3.")
    return sorted({numbers[part] for part in parts})


def gpus(asked: Any) -> int:
    """`make ... GPU=1` -> 1. Raises UserError."""
    if not re.fullmatch(r"[0-9]{1,6}", str(asked)):
        raise UserError(f"GPU is {str(asked)!r}; it must be 0, or a whole number of GPUs such as 1.")
    return int(asked)


def _name(cfg: Profile | str) -> str:
    return cfg if isinstance(cfg, str) else cfg.profile


def _with_variant(profile: Profile, values: Mapping[str, Any]) -> Profile:
    """The profile with its variant's overrides. Not a plain import: the catalogue is no input of every notebook."""
    if profile.variant is None:
        return profile
    settings = build("variants", values.get("variants") or {}, f"configs/{profile.profile}.yaml")
    return importlib.import_module("lib.study.variants").resolve(profile, settings)


def _whole(profile: Profile) -> Profile:
    """The profile, where its sections go together: every agent's network must be able to take its windows. Raises
    UserError."""
    if profile.stream is None or profile.training is None:
        return profile
    training = importlib.import_module("lib.study.train_agent")  # no input of notebooks that train nothing
    for name in training.train.AGENTS:
        own = profile if profile.per_agent is None else training.own(profile, name)
        if says := training.shape(own, name).disagree():
            variant = f" (variant {profile.variant})" if profile.variant else ""
            raise UserError(f"stream and training in configs/{profile.profile}.yaml{variant}: {says}")
    return profile


def _with_common(profile: Profile, common: Mapping[str, Any]) -> Profile:
    result = dataclasses.replace(profile, **common)
    if result.experiment not in EXPERIMENTS:
        raise UserError(f"There is no experiment {result.experiment!r}; {hint(str(result.experiment), EXPERIMENTS)}")
    if isinstance(result.split, bool) or not isinstance(result.split, int) or result.split < 0:
        raise UserError(f"split is {result.split!r}; it must be a whole number from 0.")
    if result.patients is not None and result.split >= result.patients.n_splits:
        there = result.patients.n_splits
        raise UserError(f"split is {result.split}; profile {result.profile} has {there}, numbered 0 to {there - 1}.")
    if result.dataset not in (None, "real"):
        manifests = importlib.import_module("lib.patients.scans.manifest").names()  # no input of every notebook
        if result.dataset not in manifests:
            raise UserError(
                f"There is no data set {result.dataset!r}; {hint(str(result.dataset), ('real', *manifests))}"
            )
    return result
