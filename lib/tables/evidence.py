"""What the claims are judged by: `load` reads it from a results folder, in which `lib.tables.gather` put what the runs have
left: cases.csv, attention.csv, walks.csv, patients.csv, fig4.csv, theory.json; and fig4_long.csv, Figure 4's curves over
the paper's number of steps, where the study `figure4` has left any.

Beside them it reads `real`, the case rows of real scans; `seeds`, those of trainings that differ in their seed alone; and
`studies`, the rows of the studies `ASKED`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib import cases
from lib.base.errors import UserError
from lib.baselines.methods import OURS
from lib.study import config
from lib.study import rows as study_rows
from lib.study.variants import REFERENCE
from lib.tables import intervals

SEEDED = ("transfer", "transfer_changes", "papers_agent")  # studies with trainings that differ in their seed alone
ASKED = ("papers_agent", "papers_changes", "objects")  # studies that verdicts rest on
NOTHING = r"|again(_\d+)?|seed_\d+"  # their changes: nothing but the seed
ONCE_MORE = (REFERENCE, "again")  # the same among the variants


@dataclass
class Evidence:
    """Everything a claim may look at; a table that is missing is empty."""

    profile: str
    rows: pd.DataFrame  # case rows of the virtual patients
    tables: dict[str, pd.DataFrame]  # attention, walks, patients, fig4, fig4_long, real, seeds, studies
    theory: dict

    def of(self, experiment: str, method: str) -> pd.DataFrame:
        """Rows of one method."""
        return self.rows[(self.rows["experiment"] == experiment) & (self.rows["method"] == method)]

    def agents(self, experiment: str) -> list[str]:
        """The paper's agent, always, and ours where it was run."""
        return [a for a in OURS if a == "dsl" or len(self.of(experiment, a))]

    def shown(self, experiment: str, agent: str) -> dict:
        """Command and files behind an agent's rows, where they are not those of its claim: all its trainings."""
        rows = self.of(experiment, agent)
        studied = agent == "dsl" and "seed" in rows and (rows["seed"] != "").any()
        return {"command": "python -m lib study papers_agent", "evidence": "rows/papers_agent.csv"} if studied else {}

    def asked(self, study: str, experiment: str) -> pd.DataFrame:
        """Rows of one of the studies `ASKED`; none where it was not run."""
        rows = self.tables.get("studies", pd.DataFrame())
        return rows[(rows["study"] == study) & (rows["experiment"] == experiment)] if len(rows) else rows

    def unmoved(self, experiment: str) -> float:
        """Share of the starts that count as success before anything is done; 0 where that was not measured."""
        start = self.of(experiment, "initial")
        return float(start["success"].mean()) if len(start) else 0.0

    def spread(self, experiment: str) -> dict[str, intervals.Spread]:
        """How much another training moves a success ("%", "points") and the error of a case ("mm"); as on the spine, where
        it was not measured."""
        return self._spreads[experiment]

    @functools.cached_property
    def _spreads(self) -> dict[str, dict[str, intervals.Spread]]:
        return intervals.spreads(self.tables.get("seeds", pd.DataFrame()), config.EXPERIMENTS)


def load(folder, profile: str = "cpu") -> Evidence:
    """Evidence from a results folder. Raises UserError if there is none."""
    folder = Path(folder)
    if not any((folder / name).exists() for name in ("cases.csv", "fig4.csv", "theory.json")):
        raise UserError(f"{folder} holds no results yet; run: make reproduce PROFILE={profile}")
    there = (folder / "cases.csv").exists()  # not where `make claims CLAIM=C7` was all that ran
    rows = cases.read_rows(folder / "cases.csv") if there else pd.DataFrame(columns=cases.COLUMNS)
    drawn = rows["dataset"].isin(["virtual_spine", "virtual_heart"])
    real, rows = rows[~drawn], rows[drawn]
    studies = with_table1s(rows, study_rows.read(folder, *dict.fromkeys(SEEDED + ASKED)))
    tables = {"real": real, "seeds": seeds(rows, studies[studies["study"].isin(SEEDED)])}
    tables["studies"] = studies[studies["study"].isin(ASKED)]
    rows = all_trainings(rows, tables["studies"])
    for name in ("attention", "walks", "patients", "fig4", "fig4_long"):
        path = folder / f"{name}.csv"
        tables[name] = pd.read_csv(path) if path.exists() else pd.DataFrame()
    theory = folder / "theory.json"
    return Evidence(profile, rows, tables, json.loads(theory.read_text()) if theory.exists() else {})


def seeds(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """Rows of trainings that differ in their seed alone, as `intervals.spread` wants them: of the variants, from case
    rows, and of studies."""
    case = ["dataset", "split", "case", "start"]
    parts = [
        rows[rows["method"] == f"{agent}_{name}"].assign(recipe=f"variants {agent}", training=name, range="full")
        for agent in OURS
        for name in ONCE_MORE
    ]
    whole = (studies["stage"] == "both") & (studies["method"] == studies["agent"])  # as it usually walks
    some = studies[whole & (studies["condition"] == "") & studies["change"].str.fullmatch(NOTHING)]
    who = some["recipe"] + " " + some["agent"] + " split " + some["split"].astype(str)
    parts.append(some.assign(recipe=who, training=some["change"]))
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    key = table[case].astype(str).agg(" ".join, axis=1) if len(table) else ""
    return table.assign(key=key)[["experiment", "recipe", "training", "range", "key", "success", "final_error_mm"]]


def with_table1s(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """Rows of studies with Table 1's trainings of the paper's agent, case rows, as seed 0 of the study `papers_agent`, in an
    experiment of which it has other seeds alone: they are of the same recipe."""
    parts = [studies]
    asked = studies[studies["study"] == "papers_agent"]
    for experiment, mine in asked.groupby("experiment"):
        first = rows[(rows["experiment"] == experiment) & (rows["method"] == "dsl")]
        if not (mine["seed"] == "0").any() and len(first):
            same = mine.loc[mine["method"] == "dsl", list(set(mine) - set(first))].iloc[0].to_dict()
            parts.append(first.assign(**same | {"seed": "0", "change": ""}))
    return pd.concat(parts, ignore_index=True)[list(studies)] if len(parts) > 1 else studies


def all_trainings(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """Case rows with all trainings of the paper's agent, which a column `seed` tells apart: those of the study
    `papers_agent` in place of Table 1's, in an experiment of which it has more of them."""
    asked = studies[studies["study"] == "papers_agent"] if len(studies) else studies
    for experiment in config.EXPERIMENTS if len(asked) else ():
        mine, usual = (some[some["experiment"] == experiment] for some in (asked, rows))
        if not len(mine) or trained(mine) <= trained(usual[usual["method"] == "dsl"]):
            continue
        kinds = ["dsl", "dsl_coarse"]
        others = rows[~(rows["method"].isin(kinds) & (rows["experiment"] == experiment))]
        more = mine.loc[mine["method"].isin(kinds), [*cases.COLUMNS, "seed"]]
        rows = pd.concat([others.assign(seed=others.get("seed", "")), more], ignore_index=True)
    return rows


def trained(*rows: pd.DataFrame) -> int:
    """How many trainings are behind case rows, on the side that has fewest: one a split, or a split and seed."""
    return min(len(some[[n for n in ("split", "seed") if n in some]].drop_duplicates()) for some in rows)


def experiment_of(both: pd.DataFrame) -> str:
    """Whose rows these are: of one experiment, or side by side as `pairs_in` and `pairs_of` give them."""
    return both.reset_index()["experiment"].iloc[0]


def pairs_in(rows: pd.DataFrame, column: str, first: str, second: str) -> pd.DataFrame:
    """Rows of a study side by side: those with `first` in a column and, of the same cases and trainings, those with `second`;
    the second's columns end in `_other`. May be empty."""
    keys = ["split", "case", "start", "agent", "seed"]
    mine, other = (rows[rows[column] == word].set_index(keys) for word in (first, second))
    return mine.join(other, rsuffix="_other", how="inner").reset_index()


def pairs_of(data, experiment: str, method: str, other: str):
    """Rows of two methods on the same cases, side by side; the second's columns end in `_other`. May be
    empty."""
    first, second = data.of(experiment, method), data.of(experiment, other)
    alike = "seed" in first and set(first["seed"]) == set(second["seed"])  # two stages of the same trainings
    keys = [k for k in (*cases.KEY, *["seed"] * alike) if k != "case"]
    first, second = (some.set_index([*keys, "case"]) for some in (first, second))
    return first.join(second, rsuffix="_other", how="inner").reset_index("case")
