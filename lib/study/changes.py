"""One thing changed in how a population's networks are made: what carries over to real scans, and what does not.

`fresh+coarse_8mm` is the population `fresh` with the change `coarse_8mm` (`CHANGES`): its agent is tried on the same scans
from the same starts as that of `fresh`, and has lines of its own in results/transfer.csv. A network that a change does not
touch is the population's own. Nothing is chosen from these rows: the recipe was there before them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.study import config

BOTH = ("coarse", "fine")


@dataclass(frozen=True)
class Change:
    """Overrides of the sections `patients`, `stream` and `training`; what is left empty is as in the population."""

    what: str  # in words, for the tables
    patients: dict[str, Any] = field(default_factory=dict)  # they are made again, in a folder of their own
    stream: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = BOTH  # the networks that are trained again
    scans: int = 0  # grown from so many of the real scans only, as many patients in all; 0: from all of them
    against: str = ""  # the change that it is compared with; empty: the population without any
    short: bool = False  # with `transfer.samples` also where the population has `transfer.without_samples`


CHANGES = {
    "again": Change("nothing, another seed: how much two trainings differ", training={"seed": 1}),
    "again_2": Change("nothing, a third seed", training={"seed": 2}),
    "plain_window": Change("one fixed window of HU instead of local contrast", stream={"contrast": "window"}),
    "rtk_half": Change("half of the CBCTs by RTK, half cheap", patients={"rtk": 0.5}),
    "rtk_none": Change("no CBCT by RTK: all cheap", patients={"rtk": 0.0}),
    "coarse_4mm": Change(
        "coarse voxel 4 mm: sees 128 mm instead of 192", stream={"coarse_voxel": 4.0}, stages=("coarse",)
    ),
    "coarse_8mm": Change("coarse voxel 8 mm: sees 256 mm", stream={"coarse_voxel": 8.0}, stages=("coarse",)),
    "window_24": Change(
        "24³ coarse windows of 8 mm: sees 192 mm, less sharply",
        stream={"coarse_voxel": 8.0, "window": 24},
        stages=("coarse",),
    ),
    "fine_2mm": Change("fine voxel 2 mm: sees 64 mm instead of 96", stream={"fine_voxel": 2.0}, stages=("fine",)),
    "fine_4mm": Change("fine voxel 4 mm: sees 128 mm", stream={"fine_voxel": 4.0}, stages=("fine",)),
    "scans_all": Change("the samples of `fresh`, grown from all scans", short=True),
    "scans_2": Change("the same, as many patients from two scans", scans=2, against="scans_all", short=True),
    "scans_1": Change("the same, as many patients from one scan", scans=1, against="scans_all", short=True),
}


def parts(population: str) -> tuple[str, Change | None]:
    """`fresh+coarse_8mm` -> the population `fresh` and its change; None without one. Raises UserError for no such change."""
    base, plus, name = population.partition("+")
    if not plus:
        return base, None
    config.known([name], CHANGES, "change of a population", f"{base}+")
    if base == "reproduce":
        raise UserError("The population reproduce is trained by `make reproduce`; change another one, such as drawn.")
    return base, CHANGES[name]


def reference(population: str) -> str:
    """The population that one with a change is compared with; itself where there is no change."""
    base, change = parts(population)
    return f"{base}+{change.against}" if change and change.against else base


def applied(cfg, population: str):
    """`cfg` with the change of a population in its sections. Raises UserError for no such change."""
    change = parts(population)[1]
    if change is None:
        return cfg
    changed = {}
    for section in ("patients", "stream", "training"):
        values = getattr(change, section)
        if values:
            merged = config.merge(dataclasses.asdict(getattr(cfg, section)), values)
            changed[section] = config.build(section, merged, f"the change of {population}")
    return dataclasses.replace(cfg, **changed)


def patients_root(cfg, population: str) -> Path | None:
    """Where the patients of a population are made: None, the usual place, unless its change makes other ones."""
    change = parts(population)[1]
    if change is None or not change.patients:
        return None
    return config.data_dir(cfg.profile).parent / "changed" / population.partition("+")[2]
