"""What the runs of a profile have left, gathered into its results folder, from where the claims are judged:

* cases.csv: rows of variants (lib.study.variants) are added, those of an earlier run replaced
* attention.csv: distance (mm) of the fine window's centre, and of the image's, to the true object, a line a case
* walks.csv: how each test case's path went, see `lib.study.course`
* patients.csv: what is in each test patient's CBCT: stent, table, gas, devices; whether much of the body is not
* fig4.csv: Figure 4's curves; theory.json: Appendix A in numbers (both copied from their notebooks' runs)
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, rigid
from lib.base import folders, provenance
from lib.patients import store
from lib.study import config
from lib.study.course import course

FLAGS = ("stent", "table", "gas", "devices")
BODY = -300.0  # HU: tissue, not air
TRUNCATED = 1 / 3  # of the body
WALK = ["experiment", "split", "case", "start"]  # what names a walk, with its agent
# Files of a results folder with a line a case -> what names the line.
KEYS = {
    "cases.csv": [*cases.KEY, "method"],
    "attention.csv": [*WALK, "agent"],
    "walks.csv": [*WALK, "agent"],
    "patients.csv": ["experiment", "case"],
    "fig4.csv": ["method", "seed", "step"],
    "fig4_long.csv": ["window", "method", "seed", "step"],
}


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
