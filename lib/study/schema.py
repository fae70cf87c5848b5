"""A study is a file: `configs/studies/<name>.yaml` says who trains (recipe), who is tried on what (cases), and by which
methods. `load` reads and checks one; anything misspelt or impossible is one sentence.

    name: organs_moved
    question: Does the agent follow organs that breathing has moved?
    cost: 15
    recipe: {population: released}
    cases: {source: real_scans, ranges: near, starts: 2, conditions: {breath: {what: organs 15 mm lower, organs_mm: -15}}}
    methods: [agent, register, itk_tuned]

One value may stand where a list may, and one block where a list of blocks may. `lib.study.run` runs a study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.base.limits import Number, Share
from lib.base.sections import hint, known
from lib.base.yaml_file import read
from lib.study import sound
from lib.study.planar.plan import Plan
from lib.study.sound import RANGES

FOLDER = ROOT / "configs" / "studies"
BOTH = ("coarse", "fine")
# The command: `--only agent`, the same from its first start alone, both scouts as shipped, `--only search`.
COMMANDS = ("register", "register_once", "register_both", "register_search")
ONE_RUN = ("register", "register_once")  # of them, what one run gives


@dataclass(frozen=True)
class Change:
    """One thing changed in how an agent is made, or walks. What is left empty is as without it."""

    what: str  # in words, for the tables
    stream: dict[str, Any] = field(default_factory=dict)  # overrides of these sections of the profile
    training: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    patients: dict[str, Any] = field(default_factory=dict)  # they are made again, in a folder of their own
    stages: tuple[Literal[BOTH], ...] = BOTH  # the networks that are trained again
    pairs: Number = 0  # train on so many patients only; 0: all
    scans: Number = 0  # grown from so many of the real scans only, as many patients in all; 0: from all of them
    learns: Literal["actions", "parameters", "stop"] = (
        "actions"  # actions | parameters (one-shot regression) | stop (a 13th output)
    )
    boost: Share = 0.0  # share of samples from where the reference fails on training patients
    alone: bool = False  # the coarse network alone, in place of two
    networks: str = ""  # walks with the networks of this change; empty: with its own
    against: str = ""  # the change that it is compared with; empty: none
    short: bool = False  # with `transfer.samples` also where the population has `transfer.without_samples`


@dataclass(frozen=True)
class Recipe:
    """Whose agents: every population with every change, agent and number of samples."""

    population: tuple[str, ...] = ("released",)  # released | reproduce | drawn | fresh | without_<fold>
    experiments: tuple[str, ...] = ("spine",)
    agents: tuple[str, ...] = ("dsl_two_channel",)
    changes: dict[str, Change] = field(default_factory=dict)
    samples: tuple[int, ...] = ()  # coarse network alone, trained with so many; empty: both, the profile's budget
    seeds: tuple[int, ...] = (0,)  # one training each, 0 being the profile's own


@dataclass(frozen=True)
class Condition:
    """One thing changed in what is registered."""

    what: str  # in words, for the tables
    scanner: dict[str, float] = field(default_factory=dict)  # factors on the ranges of ConeBeamSettings
    metal: bool = False  # two titanium rods beside the spine
    organs_mm: float = 0.0  # the organs, not the spine, are so much higher at the CBCT
    view: tuple[float, ...] = (1.0, 1.0)  # shares of the field of view's width and height that are kept
    turn: tuple[float, ...] = (0.0, 0.0, 0.0)  # degrees about x, y, z (LPS) by which every start is turned first
    tilt: float = 0.0  # degrees about a random axis in place of the start's own rotations
    stranger: bool = False  # the CT is another patient's: no pose is right
    # The CT shows only what lies so far (mm) from the CBCT's middle along the body, at least, on its longer side, or its last
    # 60 mm. 0: half of the CBCT is outside; more than half the CBCT's height: the CT does not hold the place at all.
    ct_from: float | None = None
    # The CT as a file with a slip in its header gives it: factors on its three axes about the CBCT's middle. -1 along the
    # first exchanges left and right; 1.1 along the third: slices 10 % too far apart.
    ct_axes: tuple[float, ...] = (1.0, 1.0, 1.0)
    # Of drawn spine patients: whether a stent, a table is there at the CBCT; the same patient, scanned again if need be.
    objects: dict[str, bool] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # CBCT and CT of these names in the scan's folder, read as a user's are

    def simulates(self) -> bool:
        """Whether the CBCT is made again from the CT."""
        return bool(self.scanner or self.metal or self.organs_mm)


# Of a condition: they do not count in what made rows where they are not used.
LATER = ("stranger", "ct_from", "ct_axes", "objects")


@dataclass(frozen=True)
class Cases:
    """Who is registered, from where: every condition with every range."""

    # real_scans | split (its test patients) | untested (in no split's test) | new | real_pairs (of the collections `scans`)
    source: str = "real_scans"
    experiments: tuple[str, ...] = ("spine",)
    splits: tuple[int, ...] = (0,)  # of the source `split`: whose test patients, and whose agents of `reproduce`
    scans: tuple[str, ...] = ()  # real scans or collections; none named: all that the recipe's agents never saw
    pairs: bool = True  # also real pairs, whose CBCT is real
    scanner: str = (
        "first"  # of the real scans' CBCTs: first | second, of scans never trained on | tuning, of those trained on
    )
    every_level: bool = False  # of the real scans: every vertebra that is marked, not only the levels of the manifest
    fat_mm: float = 0.0  # of the real scans: so much more under the skin, in CT and CBCT
    patients: int = 12  # of the source `new`: so many drawn, and as many grown
    ranges: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict.fromkeys(RANGES, ()))
    starts: int = 0  # a patient and range; 0: the profile's
    seed: int | None = None  # none: the profile's
    min_overlap: float | None = None  # share of the CBCT's field of view inside the CT at a start; none: the profile's
    conditions: dict[str, Condition] = field(default_factory=lambda: {"": Condition("")})
    methods: tuple[Method, ...] = ()  # in place of the study's


@dataclass(frozen=True)
class Method:
    """Who registers. `initial` is the start itself; `agent` walks; `COMMANDS` are the command; else a baseline."""

    method: str
    stage: str = "both"  # of `agent`: coarse | both
    steps: str = "one"  # of `agent`: one unit | adaptive | third (adaptive, with a third of the actions)
    then: str = ""  # of `agent`: polish
    refine: str = (
        "saliency"  # of `agent`, where its fine windows lie: saliency (the profile's) | object (the true vertebra)
    )
    change: str = ""  # of a baseline with `settings`: their name
    # Of a baseline: overrides of the section `baselines`.
    settings: dict[str, Any] = field(default_factory=dict, compare=False)

    def walks(self) -> bool:
        return self.method == "agent"

    def trained(self) -> bool:
        """Whether it needs a recipe."""
        return self.walks() or self.method in COMMANDS

    def label(self, agent: str) -> str:
        """The name in the column `method`, as tables show it: dsl_two_channel_adaptive."""
        if not self.walks():
            return self.method
        ways = ((self.then, ""), (self.steps, "one"), (self.stage, "both"), (self.refine, "saliency"))
        return "_".join([agent, *(way for way, usual in ways if way != usual)])


@dataclass(frozen=True)
class Study:
    """A study's file."""

    name: str
    question: str
    cost: float = 0.0  # minutes on one core, trainings included; measured where it was run, else estimated
    recipe: tuple[Recipe, ...] = ()
    cases: tuple[Cases, ...] = (Cases(),)
    methods: tuple[Method, ...] = (Method("initial"),)
    command: str = ""  # what runs it, where that is not `python -m lib study`
    planar: Plan | None = None  # in place of recipe, cases and methods: Figure 4's 2-D problem

    def changes(self) -> dict[str, Change]:
        """All changes of its recipes by name."""
        return {name: change for recipe in self.recipe for name, change in recipe.changes.items()}

    def conditions(self) -> dict[str, Condition]:
        """All conditions of its cases by name."""
        return {name: found for block in self.cases for name, found in block.conditions.items()}


def names() -> list[str]:
    """Names of the studies in `configs/studies/`."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, folder: Path | None = None) -> Study:
    """The study of that name, checked. Raises UserError in one sentence."""
    folder = folder or FOLDER
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in there:
        raise UserError(f"There is no study {name!r}; {hint(str(name), there)}")
    path = folder / f"{name}.yaml"
    values = read(path)
    for needed in ("name", "question"):
        if not isinstance(values, dict) or not values.get(needed):
            raise UserError(f"{path.name} has no {needed}; a study begins with its name and its question.")
    if values["name"] != name:
        raise UserError(f"{path.name} says name: {values['name']}; it must say {name}.")
    study = _build(Study, _plural(Study, values), path.name)
    sound.check(study, path.name)
    return study


def _plural(kind: type, values: Any) -> Any:
    """`values` with a list wherever one value stands for it, names of ranges and methods spelt out."""
    if kind is Method and isinstance(values, str):
        return {"method": values}
    if not isinstance(values, Mapping):
        return values
    hints, found = get_type_hints(kind), dict(values)
    for name, value in found.items():
        inner = hints.get(name)
        if name == "ranges" and not isinstance(value, Mapping):
            found[name] = {reach: () for reach in (value if isinstance(value, list) else [value])}
        elif get_origin(inner) is tuple:
            some = value if isinstance(value, list) else [value]
            of = get_args(inner)[0]
            found[name] = [_plural(of, one) for one in some] if dataclasses.is_dataclass(of) else some
        elif get_origin(inner) is dict and dataclasses.is_dataclass(get_args(inner)[1]) and isinstance(value, Mapping):
            found[name] = {key: _plural(get_args(inner)[1], one) for key, one in value.items()}
    return found


def _names(kind: type, values: Any, where: str, source: str) -> None:
    """Unknown names anywhere in the file."""
    if not isinstance(values, Mapping):
        return
    known(values, [f.name for f in dataclasses.fields(kind)], f"name in {source}", where)
    for name, inner in get_type_hints(kind).items():
        of = next((kind for kind in get_args(inner) if dataclasses.is_dataclass(kind)), None)
        value = values.get(name)
        if of is not None and value is not None:
            one_of_it = [value] if isinstance(value, Mapping) else value
            pairs = value.items() if get_origin(inner) is dict else ((None, one) for one in one_of_it)
            for key, one in pairs:
                _names(of, one, f"{where}{name}." + ("" if key is None else f"{key}."), source)


def _build(kind: type, values: Mapping, source: str):
    """The dataclass from plain values. Raises UserError for names and types that are none."""
    from pydantic import TypeAdapter, ValidationError

    _names(kind, values, "", source)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{source}: {where} is {first['input']!r}: {first['msg'].lower()}.") from None
