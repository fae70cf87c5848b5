"""Agents and baselines on real scans, from the same starts in two ranges: rows, then the tables that the README shows.

`python -m lib.study.transfer agents POPULATION`, `baselines` and `tables`. A scan is tried only by agents that no
patient grown from it has trained. Every row is a case row (`lib.cases`) with two columns before it: `population`, whose
agent it was ("" for a baseline), and `range`, where it started: `near` (+-30 mm, +-15 degrees) or `full` (the paper's).
A method whose rows are there for the same agent, settings and starts is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd

from lib import cases as case_rows
from lib import train
from lib.agent import Agent
from lib.base import folders, provenance
from lib.base.errors import UserError, status
from lib.baselines import run
from lib.network import Stage, device_for
from lib.patients import real
from lib.study import batch, changes, config, populations, unfinished, walk
from lib.tables import real as tables_real

RANGES = ("near", "full")
BASELINES = "baselines"  # their folder beside the populations'
ADAPTIVE = "adaptive"  # the variant with long steps far away: `<agent>_adaptive`
THIRD = "third"  # the same with a third of the actions: `<agent>_third`


def real_cases(cfg, scans, reach: str) -> list[case_rows.Case]:
    """The cases of some scans: `transfer.starts` de-alignments a level (or heart) within a range."""
    t, e = cfg.transfer, cfg.evaluation
    ranges = t.near if reach == "near" else e.ranges(cfg.experiment)
    found = []
    for scan in scans:
        for patient in real.patients(cfg.experiment, only=scan):
            found += case_rows.starts(patient, t.starts, ranges, e.seed, t.min_overlap)
    return found


def path_of(cfg, population: str, reach: str, method: str) -> Path:
    return populations.folder(cfg, population) / f"{reach}_{method}.csv"


def _stamp(cfg, method: str, made_by) -> str:
    t = dataclasses.asdict(cfg.transfer)
    starts = {k: t[k] for k in ("starts", "near", "min_overlap")}
    return provenance.fingerprint([method, starts, dataclasses.asdict(cfg.evaluation), made_by])


def _there(path: Path, stamp: str, cases) -> bool:
    beside = provenance.beside(path)
    if not path.exists() or not beside.exists():
        return False
    same = json.loads(beside.read_text(encoding="utf-8")).get("stamp") == stamp
    return same and len(case_rows.read_rows(path)) == len(cases)


def _save(cfg, path: Path, method: str, cases, results, stamp: str) -> None:
    case_rows.write_rows(path, [case_rows.row(c, method, r, cfg) for c, r in zip(cases, results, strict=True)])
    provenance.record(path, cfg, seeds={"starts": cfg.evaluation.seed}, stamp=stamp)


def try_agent(cfg, population: str, name: str, say=print) -> None:
    """Rows of an agent on the scans it may be tried on: coarse alone, coarse + fine, polished, with adaptive steps, and
    with a third as many of these."""
    paths = populations.networks(cfg, population, name)
    fine = Stage.load(paths["fine"]) if paths["fine"].exists() else None
    agent = Agent(name, Stage.load(paths["coarse"]), fine)
    networks = [provenance.sha256(p) for p in paths.values() if p.exists()]
    for reach in RANGES:
        cases = real_cases(cfg, populations.held_out(cfg.transfer, cfg.experiment, population), reach)
        for method, settings in ways(cfg, name, population).items():
            path = path_of(cfg, population, reach, method)
            stamp = _stamp(cfg, method, [networks, dataclasses.asdict(settings)])
            if _there(path, stamp, cases):
                continue
            walks = walk.walk(cfg, agent, cases, settings)
            ends = [case_rows.Result(w.pose, w.seconds, device=str(device_for())) for w in walks]
            if agent.fine is not None and method == name:
                coarse = [dataclasses.replace(r, pose=w.coarse.poses[-1]) for r, w in zip(ends, walks, strict=True)]
                _save(cfg, path_of(cfg, population, reach, f"{name}_coarse"), f"{name}_coarse", cases, coarse, stamp)
            _save(cfg, path, method, cases, ends, stamp)
            say(f"{population} {reach} {_summary(path)}")
        if changes.parts(population)[1] is None:
            _polish(cfg, population, reach, name, cases, networks, say)


def ways(cfg, name: str, population: str = "") -> dict:
    """Method -> `AgentSettings` in which an agent walks on real scans; that of a population with a change only as usual."""
    usual = dataclasses.replace(cfg.agent, fine_limit=cfg.transfer.fine_limit)
    if changes.parts(population)[1] is not None:
        return {name: usual}
    adaptive = dataclasses.replace(usual, adaptive=True)
    few = {k: round(getattr(usual, k) / 3) for k in ("coarse_steps", "fine_steps")}
    return {name: usual, f"{name}_{ADAPTIVE}": adaptive, f"{name}_{THIRD}": dataclasses.replace(adaptive, **few)}


def _polish(cfg, population, reach, name, cases, networks, say) -> None:
    """`<agent>_polish`: tuned mutual information from where the agent ended."""
    source, method = path_of(cfg, population, reach, name), f"{name}_polish"
    path = path_of(cfg, population, reach, method)
    stamp = _stamp(cfg, method, [networks, dataclasses.asdict(cfg.agent), dataclasses.asdict(cfg.baselines.polish)])
    if _there(path, stamp, cases):
        return
    rows = case_rows.read_rows(source)
    moved = batch.from_rows(cases, rows)
    ((_, results),) = run.run_methods(["dsl_polish"], moved, cfg.baselines)
    results = [
        dataclasses.replace(r, seconds=r.seconds + before) for r, before in zip(results, rows["seconds"], strict=True)
    ]
    _save(cfg, path, method, cases, results, stamp)
    say(f"{population} {reach} {_summary(path)}")


def try_baselines(cfg, methods=None, say=print) -> None:
    """Rows of the methods (`transfer.methods` unless named) and of the initial position on every real scan here."""
    methods = cfg.transfer.methods if methods is None else methods
    run.check(methods)
    scans = [s.name for s in populations.real_scans(cfg.transfer, cfg.experiment)]
    values, folder = dataclasses.asdict(cfg.baselines), populations.folder(cfg, BASELINES)
    for reach in RANGES:
        cases = real_cases(cfg, scans, reach)
        start = path_of(cfg, BASELINES, reach, "initial")
        _save(cfg, start, "initial", cases, [case_rows.Result(c.initial, 0.0) for c in cases], "")
        stamps = {m: _stamp(cfg, m, [values["seed"], {k: values[k] for k in batch.READS.get(m, ())}]) for m in methods}
        paths = {m: path_of(cfg, BASELINES, reach, m) for m in methods}
        missing = {m: stamps[m] for m in methods if not _there(paths[m], stamps[m], cases)}
        for method, results in unfinished.go_on(folder / reach, missing, cases, cfg.baselines):
            _save(cfg, paths[method], method, cases, results, stamps[method])
            unfinished.path_of(folder / reach, method).unlink(missing_ok=True)
            say(f"{reach} {_summary(paths[method])}")


def _summary(path: Path) -> str:
    rows = case_rows.read_rows(path)
    median = rows["final_error_mm"].median()
    return f"{rows['method'].iloc[0]}: success {rows['success'].mean():.0%} of {len(rows)}, median {median:.1f} mm"


def picture(cfg, population: str, name: str, scan: str):
    """Overlays of a scan at the start and after the agent: of the case with the median final error and of the worst.
    Saved as `figures/real_<experiment>_<scan>.png` (and `_worst`) in the profile's results folder."""
    from lib.figures import charts, volumes
    from lib.tables import hard_case

    patients = {p.id: p for p in real.patients(cfg.experiment, only=scan)}
    t, e, parts = cfg.transfer, cfg.evaluation, []
    for reach in RANGES:
        parts.append(case_rows.read_rows(path_of(cfg, population, reach, name)).assign(reach=reach))
    rows = pd.concat(parts).query("dataset == @scan").sort_values("final_error_mm")

    def start_of(row):
        ranges = t.near if row["reach"] == "near" else e.ranges(cfg.experiment)
        return case_rows.starts(patients[row["case"]], t.starts, ranges, e.seed, t.min_overlap)[row["start"]].initial

    def poses(row, words):
        before, after = f"start: {row['initial_error_mm']:.0f} mm", f"{words}: {row['final_error_mm']:.1f} mm"
        return {before: start_of(row), after: hard_case.pose_of(row, patients[row["case"]])}

    usual, worst = rows.iloc[len(rows) // 2], rows.iloc[-1]
    figures = {"": (usual, poses(usual, "usual end"))}
    if worst["case"] == usual["case"]:
        figures[""][1].update(list(poses(worst, f"worst of {len(rows)}").items())[1:])
    else:
        figures["_worst"] = (worst, poses(worst, f"worst of {len(rows)}"))
    folder = config.results_dir(cfg) / "figures"
    for old in folder.glob(
        f"real_{cfg.experiment}_{scan}_worst.png*"
    ):  # another agent's worst may have needed its own picture
        old.unlink()
    kind = "real CBCT" if scan in tables_real.PAIRS else "CBCT simulated from the real CT"
    for suffix, (row, shown) in figures.items():
        who = patients[row["case"]]
        centre = hard_case.object_centre(who)
        figure = volumes.overlay(who.fixed, who.moving, shown, f"{who.id} ({kind}).", centre=centre)
        path = folder / f"real_{cfg.experiment}_{scan}{suffix}.png"
        charts.save(figure, path, lambda p: provenance.record(p, cfg), dpi=80)  # there are many


def gather(profile: str) -> pd.DataFrame:
    """All rows of a profile's populations and baselines: `population`, `range`, then the columns of a case row."""
    parts = []
    for path in sorted((folders.results_root() / "runs" / profile).glob("*/transfer/*/*_*.csv")):
        reach = path.name.split("_")[0]
        if reach in RANGES:
            rows = case_rows.read_rows(path)
            who = "" if path.parent.name == BASELINES else path.parent.name
            rows.insert(0, "range", reach)
            rows.insert(0, "population", who)
            parts.append(rows)
    if not parts:
        raise UserError(f"Profile {profile} has no rows on real scans yet; run `make transfer PROFILE={profile}`.")
    return pd.concat(parts, ignore_index=True)


def beside(new: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    """`new`, and the rows of `old` of whose experiment, population, range and method `new` has none; a baseline, which
    nobody has trained, is replaced scan by scan. Raises UserError if a start that both have is not the same one."""
    case = ["experiment", "range", "case", "start"]
    starts = old.drop_duplicates(case).merge(new.drop_duplicates(case), on=case)
    if ((starts["initial_error_mm_x"] - starts["initial_error_mm_y"]).abs() > 0.01).any():
        raise UserError(
            "real_cases.csv holds rows from other starts than this profile's; move it away, or set its settings back."
        )
    what = ["experiment", "population", "range", "method"]
    new, old = (rows.assign(alone=rows["dataset"].where(rows["population"] == "", "")) for rows in (new, old))
    both = case_rows.instead(new, old, [*what, "alone"]).drop(columns="alone")
    return both.sort_values([*what, "dataset", "case", "start"], kind="stable").reset_index(drop=True)


def write_tables(cfg) -> dict[str, pd.DataFrame]:
    """`real_cases.csv`, and from it alone `table_real.csv` and `transfer.csv`, in the profile's results folder. Rows that
    stand there, committed or made elsewhere, stay, but for those of a population's method and range that ran here."""
    folder, rows = config.results_dir(cfg), gather(cfg.profile)
    if (folder / "real_cases.csv").exists():
        rows = beside(rows, tables_real.read_rows(folder))
    made = {"real_cases.csv": rows, **tables_real.tables(rows, cfg.transfer, cfg.evaluation.n_bootstrap)}
    for name, table in made.items():
        with provenance.atomic(folder / name) as temporary:
            table.to_csv(temporary, index=False)
        inputs = [] if name == "real_cases.csv" else [folder / "real_cases.csv"]
        provenance.record(folder / name, cfg, seeds={"starts": cfg.evaluation.seed}, inputs=inputs)
    return made


def main(words: list[str] | None = None) -> int:
    """One command; one sentence and exit status 2 on bad input."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lib.study.transfer", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("agents", "baselines", "tables"))
    parser.add_argument("population", nargs="?", default="without_0")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    parser.add_argument("--agent", default="dsl_two_channel", choices=sorted(train.AGENTS))
    parser.add_argument("--methods", nargs="+", help="baselines: these instead of the profile's")
    given = parser.parse_args(words)
    torch.set_num_threads(1)

    def work():
        cfg = populations.load_config(given.profile, given.experiment)
        if given.command == "agents":
            try_agent(cfg, given.population, given.agent)
        elif given.command == "baselines":
            try_baselines(cfg, given.methods)
        else:
            write_tables(cfg)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
