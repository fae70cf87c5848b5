"""Where along the spine: tables of studies that ask at every vertebra, `every_level`, `wider_training`, `which_to_release`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import rigid
from lib.baselines.methods import label
from lib.cases import STATE
from lib.patients.scans import marks
from lib.study import rows as study_rows
from lib.study import schema
from lib.tables.registration import JUDGED, METHODS, RIGHT, worth
from lib.tables.words import table as as_markdown

REGIONS = {"C7 to T6": range(0, 7), "T7 to T12": range(7, 13), "L1 to S1": range(13, 19)}  # by `marks.level_number`
BY_REGION = [*REGIONS, "all"]
# Changes of `wider_training` whose trainings differ in samples and seed alone.
VOTERS = ("all_one_network", "all_one_network_long")


def by_region(rows: pd.DataFrame, judged: bool) -> list[str]:
    """Of how many starts in each part of the spine how many ended within 10 mm, and all of them with the interval (over CTs:
    levels of one share body, day and scanner)."""
    level = rows["case"].str.extract(r"_([CTLS]\d+)_second")[0].map(marks.level_number)
    right = rows["final_error_mm"] <= RIGHT
    parts = [right[level.isin(list(numbers))] for numbers in REGIONS.values()]
    return [*(f"{part.sum()} of {len(part)}" for part in parts), worth(rows, judged, "dataset")]


def every_level(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line a body and method."""
    fat, lines = rows["case"].str.extract(r"_fat(\d+)$")[0].fillna("0"), []
    for mm in dict.fromkeys(fat):
        body = f"{mm} mm of fat added" if int(mm) else "as it is"
        for method in (m.label("agent") for m in study.methods):
            mine = rows[(rows["method"] == method) & (fat == mm)]
            if len(mine):
                lines.append([body, METHODS.get(method) or label(method), *by_region(mine, method in JUDGED)])
    return as_markdown(["body", "method", *BY_REGION], lines)


def by_change(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line for each change of the training, its trainings side by side and together; the released agent, which has none
    and longer training, at the end."""
    lines, change = [], rows["change"].str.replace(r"_seed_\d+$", "", regex=True)
    asked = [(name, one.what, change == name) for name, one in study.changes().items()]
    asked.append(("released", "nothing; the command's agent, trained longer", rows["recipe"] == "released"))
    for name, what, which in asked:
        mine = rows[which]
        if len(mine):
            right = (mine["final_error_mm"] <= RIGHT).groupby(mine["seed"]).mean()
            each = ", ".join(f"{share:.0%}" for share in right)
            lines.append([f"`{name}`", what, each, *by_region(mine, False)])
    voters = rows[change.isin(VOTERS)]
    if (n := voters["change"].nunique()) > 2:
        words = f"the {n} trainings with one network and all four changes: the end that is nearest to the others"
        lines.append(["a vote", words, "", *by_region(voted(voters), False)])
    return as_markdown(["training", "what is changed", "each training", *BY_REGION], lines)


def voted(rows: pd.DataFrame) -> pd.DataFrame:
    """Of several trainings' rows the one a start whose end lies nearest to the ends of the others, on average: no truth is
    asked."""
    chosen = []
    for _, some in rows.groupby(["case", "start"], sort=False):
        # A state is T_g T^-1. Its inverse is T T_g^-1, and of two of those T_g cancels where they are compared.
        ends = rigid.invert(rigid.params_to_matrix(some[list(STATE)].to_numpy(float)))
        apart = rigid.displacement(ends[:, None], ends[None], np.zeros(3))
        chosen.append(some.index[int(apart.sum(1).argmin())])
    return rows.loc[chosen]


def which(rows: pd.DataFrame, released: pd.DataFrame) -> str:
    """A line for each of several trainings of one recipe, for their vote, and for the released agent from these starts."""
    seeds = sorted(rows["seed"].unique())
    asked = [(f"training {seed}", rows[rows["seed"] == seed]) for seed in seeds]
    if len(seeds) > 2:
        asked.append((f"a vote of the {len(seeds)}", voted(rows)))
    asked.append(("the released agent", released))
    return as_markdown(["agent", *BY_REGION], [[who, *by_region(some, False)] for who, some in asked])


def at_every_level(folder: Path) -> str:
    """`every_level`, of the rows in a folder of results."""
    return every_level(study_rows.read(folder, "every_level"), schema.load("every_level"))


def wider_training(folder: Path) -> str:
    """`by_change`, of the rows in a folder of results."""
    return by_change(study_rows.read(folder, "wider_training"), schema.load("wider_training"))


def which_to_release(folder: Path) -> str:
    """`which`, of the rows in a folder of results."""
    rows, others = (study_rows.read(folder, name) for name in ("which_to_release", "every_level"))
    same = others["case"].isin(rows["case"]) & (others["method"] == "register_once")
    return which(rows, others[same])
