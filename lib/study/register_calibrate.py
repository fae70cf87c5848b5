"""The limits of the verdict, found on patients that are not tested, and what the verdict is worth there.

New patients are drawn, and grown from the real scans that the agent's training patients grew from: the agent has not
seen them, and no scan that it is tried on has a say. Each is registered as a user would, from starts in two ranges. The
limits are those that keep 95 % of the "good" cases right and call most of the right ones good; their worth is told by
leaving each patient out in turn. `python -m lib.study.register_check calibrate` runs it.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import cases, metrics
from lib.base import provenance
from lib.base.errors import UserError
from lib.images.normalise import field_of_view
from lib.images.volume import Volume
from lib.patients.scans import manifest
from lib.registration import trust
from lib.study import config, populations
from lib.study.register_check import MIN_OVERLAP, RANGES, kept, stamp, write

COLUMNS = ("patient", "group", "view", "range", "start", "error_mm", "right", *trust.NUMBERS, "made_by")
WANTED = 0.95  # of the cases called good, so many should be right
FEW = 5  # wrong registrations below which no limit is moved
FIRST_DRAWN, FIRST_GROWN = 900, 40  # numbers of patients that no training uses
VIEWS = {"whole": (1.0, 1.0), "half the height": (1.0, 0.5), "half the width": (0.5, 1.0)}  # shares of width and height
GRID = {
    "min_likeness": np.round(np.arange(0.0, 0.61, 0.02), 2),
    "max_shift": np.array([2.0, 6.0, 10.0, 14.0, 60.0]),  # shifts come in steps of 4 mm
    "min_lead": np.round(np.arange(-0.2, 0.31, 0.02), 2),
    "min_agreement": np.array([0.0, 0.4, 0.6, 0.8, 1.0]),
}


def patients(cfg, n: int, say=print) -> list[Path]:
    """Folders of `n` new drawn patients and up to `n` newly grown ones, made where they are missing."""
    from lib.patients import population

    name = cfg.transfer.released_spine if cfg.experiment == "spine" else cfg.transfer.released_heart
    drawn = [population.Task(cfg.experiment, FIRST_DRAWN + k) for k in range(n)]
    try:
        sources = populations.scans(cfg.transfer, cfg.experiment, name)
    except UserError as error:  # no mirror of real scans: drawn patients alone
        say(f"{error} Only drawn patients take part.")
        sources = []
    grown = [
        population.Task(cfg.experiment, manifest.names().index(scan) * populations.PER_SCAN + FIRST_GROWN + k, scan)
        for k in range(-(-n // max(len(sources), 1)))
        for scan in sources
    ]
    return population.build_tasks(drawn + grown[:n], cfg.patients, cfg.profile, progress=say)


def narrowed(fixed: Volume, width: float, height: float) -> Volume:
    """The middle of a CBCT's field of view: shares of its width and height; the rest becomes padding, the lowest value."""
    seen = field_of_view(fixed)
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in seen.shape), indexing="ij")

    def place(index):  # -1 to 1 within the field of view
        inside = index[seen]
        low, high = inside.min(), inside.max()
        return (2 * index - low - high) / (high - low)

    keep = torch.hypot(place(i), place(j)) <= width if width < 1 else seen
    keep = keep & (place(k).abs() <= height)
    return fixed.with_array(torch.where(keep, fixed.array, fixed.array.min()))


def measure(folders, experiment: str, agent_folder: Path, n: int, path: Path, say=print, settings=None) -> pd.DataFrame:
    """Full registrations of the patients from `n` starts in each range: rows of `COLUMNS`, written one by one."""
    from lib.patients import store
    from lib.registration import register

    settings = settings or register.RegisterSettings()
    made_by = stamp(agent_folder, settings, experiment, VIEWS)
    rows = kept(path, made_by, COLUMNS)
    for folder in folders:
        record = store.load_record(folder)
        done = {(r["patient"], r["view"], r["range"], r["start"]) for r in rows}
        wanted = itertools.product(VIEWS, RANGES, range(n))
        if all((record["id"], *key) in done for key in wanted):
            continue
        whole = store.load(folder)
        for view, reach in itertools.product(VIEWS, RANGES):
            patient = dataclasses.replace(whole, fixed=narrowed(whole.fixed, *VIEWS[view]))
            for case in cases.starts(patient, n, RANGES[reach], 0, MIN_OVERLAP):
                if (patient.id, view, reach, case.start) in done:
                    continue
                one = register.register(
                    patient.fixed, patient.moving, experiment, case.initial, agent_folder, settings=settings
                )
                error = cases.error(case, one.pose)
                numbers = {k: round(v, 4) for k, v in one.trust.numbers().items()}
                rows.append(
                    {
                        "patient": patient.id,
                        "group": record["meta"].get("group", patient.id),
                        "view": view,
                        "range": reach,
                        "start": case.start,
                        "error_mm": round(error, 3),
                        "right": bool(metrics.success(error, experiment)),
                        **numbers,
                        "made_by": made_by,
                    }
                )
                write(path, rows, COLUMNS)
        say(f"{patient.id}: {sum(r['right'] for r in rows)} of {len(rows)} right so far")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def called_good(rows: pd.DataFrame, limits: trust.TrustLimits) -> np.ndarray:
    """What these limits say of the rows: bool (n,)."""
    numbers = {name: rows[name].to_numpy(float) for name in trust.NUMBERS}
    return ~np.any(list(trust.failed(numbers, limits).values()), axis=0)


def fit(rows: pd.DataFrame) -> trust.TrustLimits:
    """The limits that call most right cases good while `WANTED` of those called good are right; the likeness' first."""
    right, best = rows["right"].to_numpy(bool), trust.TrustLimits()
    if (~right).sum() < FEW:  # nothing tells right from wrong where nothing is wrong: the limits set by hand stand
        return best
    for _ in range(2):
        for name, grid in GRID.items():
            options = [dataclasses.replace(best, **{name: float(value)}) for value in grid]
            best = max(options, key=lambda limits: _score(called_good(rows, limits), right))
    return best


def _score(good: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Few good cases prove little: at least five, or a tenth, must be called good."""
    if good.sum() < max(5, 0.1 * len(good)):
        return 0.0, float(good.sum())
    worth = right[good].mean()
    return min(worth, WANTED), float(good[right].mean()) if right.any() else 0.0


def left_out(rows: pd.DataFrame) -> np.ndarray:
    """What is called good if the limits are found without the patient (or scan) judged: bool (n,)."""
    good = np.zeros(len(rows), dtype=bool)
    for group in rows["group"].unique():
        mine = (rows["group"] == group).to_numpy()
        if (~mine).any():
            good[mine] = called_good(rows[mine], fit(rows[~mine]))
    return good


def calibrate(rows: pd.DataFrame, network: Path) -> trust.Calibration:
    """Limits from all rows, their worth from `left_out`."""
    good, right = left_out(rows), rows["right"].to_numpy(bool)

    def share(part) -> float:
        return float(right[part].mean()) if part.any() else float("nan")

    return trust.Calibration(
        fit(rows), len(rows), float(good.mean()), share(good), share(~good), provenance.sha256(network)
    )


def run(profile: str, experiment: str, agent_folder=None, n_patients: int = 12, n: int = 2, say=print) -> None:
    """Patients, registrations, limits, figure, docs/trust.md."""
    from lib.registration import register
    from lib.tables import calibration

    cfg = populations.load_config(profile, experiment)
    folder = Path(agent_folder or register.AGENTS / experiment)
    network = folder / f"{register.RegisterSettings().agent}_coarse.safetensors"
    if not network.exists():
        raise UserError(f"{folder}: no agent {network.name} here; give its folder with --agent.")
    results = config.results_dir(cfg)
    path = results / ("trust_calibration.csv" if experiment == "spine" else f"trust_calibration_{experiment}.csv")
    rows = measure(patients(cfg, n_patients, say), experiment, folder, n, path, say)
    provenance.record(path, cfg, seeds={"starts": 0, "patients": cfg.patients.seed})
    found = calibrate(rows, network)
    trust.save(found, folder)
    calibration.write(rows, found, experiment, results)
    say(f"{found.called_good:.0%} of {found.n} called good, {found.right_when_good:.0%} of these right; {found.limits}")
