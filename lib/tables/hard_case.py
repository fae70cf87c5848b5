"""From the runs' case rows to the summary: what notebook 06 calls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from lib import cases, rigid
from lib.base import folders, provenance
from lib.baselines.methods import OURS, competes, order
from lib.figures import charts, volumes
from lib.figures.scans import object_centre
from lib.metrics import PAPER
from lib.patients.scans.manifest import real_cbct
from lib.study import config
from lib.tables.rows import collect, main_methods


def gather(cfg) -> pd.DataFrame:
    """All case rows of the profile, written to `cases.csv` of its results folder; returned without those of
    variants. A profile that has run nothing yet gets the rows of the initial position of its first split, so
    that there is something to show."""
    runs = folders.results_root() / "runs" / cfg.profile
    rows = collect(runs, cfg.profile)
    if rows.empty:
        print("No method has been run yet: the initial positions alone. `make reproduce` runs the methods.")
        for experiment in PAPER:
            initial_rows(dataclasses.replace(cfg, experiment=experiment, split=0))
        rows = collect(runs, cfg.profile)
    folder = config.results_dir(cfg)
    cases.write_rows(folder / "cases.csv", rows)
    provenance.record(folder / "cases.csv", cfg, seeds={"starts": cfg.evaluation.seed})
    return main_methods(rows)


def initial_rows(cfg) -> None:
    """`cases_initial.csv` of one experiment and split; its patients are made if they are missing."""
    from lib.patients import population, store
    from lib.study import pairs

    population.build(cfg.patients, cfg.experiment, cfg.profile)
    e, rows = cfg.evaluation, []
    ranges = e.ranges(cfg.experiment)
    for folder in pairs.split_folders(cfg)["test"]:
        patient = store.load(folder)
        for case in cases.starts(patient, e.n_starts, ranges, e.seed, e.min_overlap):
            rows.append(cases.row(case, "initial", cases.Result(case.initial, 0.0), cfg))
    cases.write_rows(config.run_dir(cfg) / "cases_initial.csv", rows)


def hard_case(rows: pd.DataFrame, experiment: str, dataset: str = "virtual_"):
    """Rows (method -> row) of the case to show: of the starts from which one of our agents succeeded, the
    one with the largest initial error; where none did, the largest initial error that any method solved,
    else of all."""
    some = rows[(rows["experiment"] == experiment) & rows["dataset"].str.startswith(dataset)]
    if some.empty:
        return {}
    solved = some[some["success"] & (some["method"] != "initial")]
    pool = solved[solved["method"].isin(OURS)]
    pool = next(p for p in (pool, solved, some) if len(p))
    chosen = pool.loc[pool["initial_error_mm"].idxmax()]
    same = some[(some[cases.KEY] == chosen[cases.KEY]).all(axis=1)]
    return {row["method"]: row for row in same.to_dict("records")}


def figure5(cfg, rows: pd.DataFrame, experiment: str):
    """Difference images of one hard case, before and after each method, meshes for E2; None where the
    patient is not on this machine. Poses come from the case rows."""
    chosen = hard_case(rows, experiment)
    patient = patient_of(cfg, chosen)
    if patient is None:
        return None
    one = next(iter(chosen.values()))
    poses = {f"before: {one['initial_error_mm']:.1f} mm": initial_pose(chosen, patient, cfg)}
    for method in [m for m in order(chosen) if competes(m)]:
        name = f"{charts.label(method)}:\n{chosen[method]['final_error_mm']:.1f} mm"
        poses[name] = cases.pose_of(chosen[method], patient)
    poses["truth"] = patient.truth
    meshes = (patient.mesh_moving, patient.mesh_fixed) if patient.mesh_fixed is not None else None
    title = f"{words_of(one)}, start {one['start']}."
    return volumes.difference(patient.fixed, patient.moving, poses, title, centre=object_centre(patient), meshes=meshes)


def words_of(row: dict) -> str:
    """What the images of a case row are, in words: nothing simulated is called real."""
    if row["dataset"].startswith("virtual_"):
        return f"Simulated patient {row['case']}"
    return f"Real CT {row['case']}" + (" and its CBCT" if real_cbct(row["dataset"]) else ", simulated CBCT")


def patient_of(cfg, chosen: dict):
    """The patient of a `hard_case`, None where it is not on this machine."""
    from lib.patients import store
    from lib.patients.scans.manifest import data_folder

    one = next(iter(chosen.values()), None)
    if one is None:
        return None
    own = config.data_dir(cfg) / one["dataset"] / one["case"]
    folder = own if own.exists() else data_folder(one["dataset"]) / "patients" / one["case"]
    return store.load(folder) if (folder / "patient.json").exists() else None


def figure1_datasets(rows: pd.DataFrame) -> list[str]:
    """Data sets of which Figure 1 is drawn: simulated patients, and pairs whose CBCT is real."""
    there = set(rows.loc[rows["experiment"] == "spine", "dataset"])
    return sorted(d for d in there if d.startswith("virtual_") or real_cbct(d))


def figure1(cfg, rows: pd.DataFrame, dataset: str = "virtual_spine"):
    """Overlay before and after the agent (else the best method), and with the CT one vertebra too low:
    hard to tell from the right place. None without the rows or the patient."""
    chosen = hard_case(rows, "spine", dataset)
    patient = patient_of(cfg, chosen)
    if patient is None:
        return None
    one = next(iter(chosen.values()))
    done = {m: row for m, row in chosen.items() if competes(m)}
    poses = {f"before: {one['initial_error_mm']:.1f} mm": initial_pose(chosen, patient, cfg)}
    if done:
        ours = [m for m in OURS if m in done and done[m]["success"]]
        method = ours[-1] if ours else min(done, key=lambda m: done[m]["final_error_mm"])
        poses[f"{charts.label(method)}: {done[method]['final_error_mm']:.1f} mm"] = cases.pose_of(done[method], patient)
    if not done or not done[method]["success"]:
        poses["truth" if not real_cbct(dataset) else "truth (an estimate)"] = patient.truth
    if patient.vertebrae is not None and len(patient.vertebrae) > 2:
        bodies = rigid.apply(patient.truth, np.asarray(patient.vertebrae, dtype=np.float64))
        n = min(int(np.argmin(np.linalg.norm(bodies - object_centre(patient), axis=1))), len(bodies) - 2)
        poses["one vertebra off"] = rigid.translation(bodies[n + 1] - bodies[n]) @ patient.truth
    return volumes.overlay(patient.fixed, patient.moving, poses, f"{words_of(one)}.", centre=object_centre(patient))


def initial_pose(chosen: dict, patient, cfg) -> np.ndarray:
    """The start: its row where there is one, else drawn again from the seed."""
    if "initial" in chosen:
        return cases.pose_of(chosen["initial"], patient)
    start = next(iter(chosen.values()))["start"]
    e = cfg.evaluation
    drawn = cases.starts(patient, start + 1, e.ranges(patient.experiment), e.seed, e.min_overlap)
    return drawn[start].initial


def coarse_to_fine(rows: pd.DataFrame) -> pd.DataFrame:
    """Median error after the coarse and after the fine network, of all cases and of those that succeed."""
    lines = []
    for experiment in PAPER:
        for agent in OURS:
            mine = rows[rows["experiment"] == experiment]
            both = f"{agent}_coarse" in set(mine["method"])
            for stage, method in (
                ("coarse", f"{agent}_coarse"),
                ("coarse + fine" if both else "its only network", agent),
            ):
                some = mine[mine["method"] == method]
                some = some[some["dataset"].str.startswith("virtual_")]
                if len(some):
                    good = some.loc[some["success"], "final_error_mm"].median()
                    p50 = some["final_error_mm"].median()
                    lines.append((experiment, agent, stage, len(some), some["success"].mean(), p50, good))
    names = ["experiment", "agent", "after", "n", "success", "median_mm", "median_mm_of_successes"]
    return pd.DataFrame(lines, columns=names).round(2)


def save_figures(cfg, figures: dict) -> list:
    """Figures by name (or None) into `figures/` of the results folder, provenance beside; the paths."""
    folder = config.results_dir(cfg)
    made = {"cfg": cfg, "inputs": [folder / "cases.csv"]}
    return [charts.save(f, folder / "figures" / f"{name}.png", made) for name, f in figures.items() if f is not None]
