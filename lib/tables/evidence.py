"""What the claims are judged by: `load` reads it from a results folder, `gather` puts there what the runs have left.

* cases.csv: rows of variants (lib.study.variants) are added, those of an earlier run replaced
* attention.csv: distance (mm) of the fine window's centre, and of the image's, to the true object, a line a case
* walks.csv: how each test case's path went, see `lib.study.course`
* patients.csv: what is in each test patient's CBCT: stent, table, gas, devices; whether much of the body is not
* fig4_long.csv: Figure 4's curves over the paper's number of steps, where the study `figure4` has left any
* fig4.csv: Figure 4's curves; theory.json: Appendix A in numbers (both copied from their notebooks' runs)

Beside them `load` reads `real`, the case rows of real scans; `seeds`, those of trainings that differ in their seed alone; and
`studies`, the rows of the studies `ASKED`.
"""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, rigid
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.baselines.methods import OURS
from lib.patients import store
from lib.study import config
from lib.study import rows as study_rows
from lib.study.course import course
from lib.study.variants import REFERENCE
from lib.tables import intervals

FLAGS = ("stent", "table", "gas", "devices")
BODY = -300.0  # HU: tissue, not air
TRUNCATED = 1 / 3  # of the body
WALK = ["experiment", "split", "case", "start"]  # what names a walk, with its agent
SEEDED = ("transfer", "transfer_changes", "papers_agent")  # studies with trainings that differ in their seed alone
ASKED = ("papers_agent", "papers_changes", "objects")  # studies that verdicts rest on
NOTHING = r"|again(_\d+)?|seed_\d+"  # their changes: nothing but the seed
ONCE_MORE = (REFERENCE, "again")  # the same among the variants
# Files of a results folder with a line a case -> what names the line.
KEYS = {
    "cases.csv": [*cases.KEY, "method"],
    "attention.csv": [*WALK, "agent"],
    "walks.csv": [*WALK, "agent"],
    "patients.csv": ["experiment", "case"],
    "fig4.csv": ["method", "seed", "step"],
    "fig4_long.csv": ["window", "method", "seed", "step"],
}


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
    tables = {"real": real, "seeds": seeds(rows, study_rows.read(folder, *SEEDED))}
    tables["studies"] = study_rows.read(folder, *ASKED)
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


def gather(profile: str) -> list[Path]:
    """Collect what the runs of a profile have left, beside what stands in the results folder already (committed, or
    joined from other machines) and still has its case rows; returns those written beside cases.csv."""
    runs, out = folders.results_root() / "runs" / profile, config.results_dir(profile)
    rows_file = out / "cases.csv"
    written = []
    add_variants(runs, profile, rows_file)
    rows = pd.DataFrame(columns=cases.COLUMNS)
    if rows_file.exists():
        rows = pd.read_csv(rows_file, usecols=[*WALK, "method"], dtype={"case": str}).rename(
            columns={"method": "agent"}
        )
    tables = {
        "attention.csv": attention(runs),
        "walks.csv": walks(runs),
        "patients.csv": patients(profile, set(rows["case"])),
    }
    for name, table in tables.items():
        if len(table):
            if (out / name).exists():
                table = beside(table, pd.read_csv(out / name, dtype={"case": str}), rows, KEYS[name])
            with provenance.atomic(out / name) as temporary:
                table.to_csv(temporary, index=False)
            written.append(out / name)
    for name in ("fig4.csv", "theory.json"):
        source = runs / "spine" / "split0" / name
        if source.exists() and source != out / name:
            with provenance.atomic(out / name) as temporary:
                shutil.copyfile(source, temporary)
            written.append(out / name)
    for path in written:
        provenance.record(path, config.load(profile, ("patients", "evaluation", "variants")))
    return written


def joined(mine: pd.DataFrame, other: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """`mine`, then the lines of `other` whose key is not in `mine`, in the order of the key's experiment and split."""
    both = pd.concat([mine, other], ignore_index=True).drop_duplicates(key, keep="first")
    order = [name for name in ("experiment", "dataset", "split") if name in both]
    if order:
        both = both.sort_values(order, kind="stable", key=lambda c: c.astype(int) if c.name == "split" else c)
    return both.reset_index(drop=True)


def beside(new: pd.DataFrame, old: pd.DataFrame, rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """`new`, then the lines of `old` that `new` does not have (by `key`) and that still have a line in `rows`."""
    return joined(new, old.merge(rows[key].drop_duplicates(), on=key), key)


def add_variants(runs: Path, profile: str, rows_file: Path) -> None:
    """Rows of the variants that were run, into cases.csv in place of earlier ones of the same methods."""
    found = [path for path in cases.find_rows(runs) if "variants" in path.relative_to(runs).parts]
    if not found:
        return
    new = cases.read_rows(*found)
    new = new[new["profile"] == profile]
    old = cases.read_rows(rows_file) if rows_file.exists() else new.iloc[:0]
    rows = cases.instead(new, old, ["method"])
    if not rows.equals(old):
        cases.write_rows(rows_file, rows)
        provenance.record(rows_file, config.load(profile, ("patients", "evaluation", "variants")))


def _where(path: Path, runs: Path) -> dict:
    """Experiment and split of a file in its run folder <experiment>/split<k>/ or that of a variant below it."""
    experiment, split = path.relative_to(runs).parts[:2]
    return {"experiment": experiment, "split": int(split.removeprefix("split"))}


def _all(runs: Path, pattern: str) -> list[Path]:
    """Files of the agents and of their variants; other data sets' are not among them."""
    found = [*Path(runs).glob(f"*/split*/{pattern}"), *Path(runs).glob(f"*/split*/variants/*/{pattern}")]
    return sorted(p for p in found if not p.name.startswith("."))


def attention(runs: Path) -> pd.DataFrame:
    """All `attention_<agent>.csv` (case, start, agent, saliency, centre: mm) with experiment and split."""
    found = _all(runs, "attention_*.csv")
    tables = [pd.read_csv(path).assign(**_where(path, runs)) for path in found]
    return pd.concat(tables, ignore_index=True).round(2) if tables else pd.DataFrame()


def walks(runs: Path) -> pd.DataFrame:
    """`course` of every path in the `trajectories_<agent>.npz` of the runs."""
    lines = []
    for path in _all(runs, "trajectories_*.npz"):
        with np.load(path, allow_pickle=False) as data:
            agent = path.stem.removeprefix("trajectories_")
            for case, start, states in zip(data["case"], data["start"], data["states"], strict=True):
                lines.append(
                    {**_where(path, runs), "agent": agent, "case": str(case), "start": int(start), **course(states)}
                )
    return pd.DataFrame(lines).round(3)


def outside(patient) -> float:
    """Share of the CT's body, at the CBCT's height, that lies beyond the CBCT's field of view (at the true pose)."""
    thin = patient.moving.array[::2, ::2, ::2].numpy()
    body = np.argwhere(thin > BODY)[:, ::-1] * 2.0  # x, y, z
    points = rigid.apply(patient.truth, rigid.apply(patient.moving.affine, body))
    x, y, z = np.rint(rigid.apply(np.linalg.inv(patient.fixed.affine), points)).astype(int).T
    fixed = patient.fixed.array.numpy()
    depth, height, width = fixed.shape
    level = (z >= 0) & (z < depth)
    there = level & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = fixed[z[there], y[there], x[there]] > fixed.min()
    return 1.0 - float(seen.sum()) / max(int(level.sum()), 1)


def patients(profile: str, wanted: set[str]) -> pd.DataFrame:
    """Interfering objects of the test patients, from their `patient.json`; `truncation`: more than `TRUNCATED` of the
    body lies beyond the CBCT's field of view."""
    lines = []
    for path in sorted(config.data_dir(profile).glob("*/*/patient.json")):
        if path.parent.name in wanted:
            record = store.load_record(path.parent)
            meta = record.get("meta", {})
            flags = {f: bool(meta[f]) for f in FLAGS if f in meta}
            flags["truncation"] = outside(store.load(path.parent)) > TRUNCATED
            lines.append({"experiment": record["experiment"], "case": path.parent.name, **flags})
    return pd.DataFrame(lines)
