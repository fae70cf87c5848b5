"""Beyond the training range: what the released agent and its verdict do under conditions that neither was made for.

Real CTs that the released spine agent never saw, their CBCT simulated on another day as in `collections_real`, under
one change at a time, registered as a user would (`lib.register`). `python -m lib.study.degrade` writes
results/degradation.csv case by case, goes on where it stopped, then draws figures/degradation.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

from lib import cases, metrics, rigid
from lib.base import folders, provenance
from lib.base.errors import UserError, status
from lib.baselines import run
from lib.figures import charts
from lib.patients import another_day, real
from lib.patients.scanner.conebeam import ConeBeamSettings
from lib.patients.scans import marks as anatomy
from lib.registration import register
from lib.study import batch, populations
from lib.study.register_check import MIN_OVERLAP, RANGES, kept, stamp, write

COLUMNS = ("condition", "scan", "case", "start", "initial_mm", "alone_mm", "error_mm", "verdict", "seconds", "made_by")
BESIDE = ("condition", "scan", "case", "start", "method", "error_mm", "seconds", "note", "made_by")
OPTIMISERS = ("itk_tuned", "elastix", "greedy_search", "itk_search", "itk_bone", "itk_search_bone")
OPTIMISED = ("usual", "breath")  # the conditions that they are tried under
TITANIUM = 8000.0  # HU


@dataclasses.dataclass(frozen=True)
class Condition:
    """One change. `scanner`: factors on the ranges of `ConeBeamSettings`; `breath`: mm by which the organs, not the spine,
    are higher; `turn`: degrees about x, y, z (LPS) that come first; `tilt`: degrees about a random axis instead of the
    near range's rotations."""

    label: str
    scanner: dict = dataclasses.field(default_factory=dict)
    metal: bool = False
    breath: float = 0.0
    tilt: float = 0.0
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)


CONDITIONS = {
    "usual": Condition("as trained for"),
    "noise": Condition("noise doubled", {"photons": 0.25}),
    "breath": Condition("organs 15 mm lower", breath=-15.0),
    "metal": Condition("two titanium rods", metal=True),
    "half_height": Condition("half the height of view", {"height": 0.5}),
    "half_width": Condition("half the width of view", {"diameter": 0.5}),
    "tilted": Condition("turned by 45°", tilt=45.0),
    "prone": Condition("CT prone, not told", turn=(0.0, 0.0, 180.0)),
    "feet_first": Condition("CT feet first, not told", turn=(0.0, 180.0, 0.0)),
}


def rods(target):
    """A function that puts two titanium rods into a body (Volume, HU): 6 mm thick, 100 mm long, 20 mm to the left and
    right of the spine at `target` (3,), 30 mm behind it."""

    def implant(body):
        x, y, z = (body.points() - torch.as_tensor(target, dtype=torch.float32)).unbind(-1)
        inside = ((x.abs() - 20) ** 2 + (y - 30) ** 2 < 9) & (z.abs() < 50)
        return body.with_array(torch.where(inside, torch.tensor(TITANIUM), body.array))

    return implant


def breathing(target, vertebrae, along: float):
    """A function that moves a body's organs by `along` mm upwards, most at `target` (3,); `vertebrae` (n, 3) stay."""
    return lambda body: another_day.breathe(body, vertebrae, along, 0.0, float(target[2]), 200.0)


def scanner(condition: Condition) -> ConeBeamSettings:
    """The scanner of the real scans' CBCTs, changed as the condition says."""
    usual = real.SCANNER
    ranges = {k: tuple(factor * value for value in getattr(usual, k)) for k, factor in condition.scanner.items()}
    return dataclasses.replace(usual, **ranges)


def patient(usual, target, labels, condition: Condition):
    """The test Patient `usual` with its CBCT, centred at `target` (3,), made again under the condition: same day and same
    pose of the body in each. labels: the CT's, as `Scan.load` gives them."""
    if not condition.scanner and not condition.metal and not condition.breath:
        return usual
    rng = np.random.default_rng(zlib.crc32(usual.id.encode()))
    implant = rods(target) if condition.metal else None
    implant = breathing(target, usual.vertebrae, condition.breath) if condition.breath else implant
    fixed, truth, _, _ = real.scan_again(usual.moving, labels, None, target, rng, scanner(condition), implant)
    marks = rigid.apply(truth, usual.landmarks_moving)
    return dataclasses.replace(usual, fixed=fixed, truth=truth, landmarks_fixed=marks)


def starts(who, condition: Condition, n: int) -> list[cases.Case]:
    """`n` starts within the near range, turned as the condition says about the fixed window's centre."""
    found = cases.starts(who, n, RANGES["near"], 0, MIN_OVERLAP)
    rng = np.random.default_rng([45, zlib.crc32(who.id.encode())])
    for case in found:
        first = rigid.params_to_matrix(np.array([0.0, 0, 0, *condition.turn]))
        if condition.tilt:
            shift = rigid.apply(case.initial @ rigid.invert(who.truth), case.centre) - case.centre
            axis = rng.standard_normal(3)
            turned = rigid.translation(shift)
            turned[:3, :3] = Rotation.from_rotvec(
                condition.tilt * axis / np.linalg.norm(axis), degrees=True
            ).as_matrix()
            case.initial = rigid.about(turned, case.centre) @ who.truth
        case.initial = rigid.about(first, case.centre) @ case.initial
    return found


def cases_of(names, n: int):
    """For the real scans that the released agent has not seen and the conditions `names`: (condition, scan, the patient's
    id, a function that makes its `n` Cases). Raises UserError where there is no such scan."""
    cfg = populations.load_config("cpu", "spine")
    unseen = populations.held_out(cfg.transfer, "spine", cfg.transfer.released_spine)
    scans = [s for s in populations.real_scans(cfg.transfer, "spine") if s.name in unseen and not s.is_pair]
    if not scans:
        raise UserError("No scan that the released agent has not seen is on this machine; see data_manifests/.")
    for scan in scans:
        _, labels, _ = scan.load()
        centres = {f"{scan.name}_{b.name}": b.centre for b in anatomy.bodies(scan.manifest, labels)}
        for name, usual in itertools.product(names, real.of_scan(scan, "spine")):
            condition = CONDITIONS[name]

            def make(usual=usual, condition=condition, labels=labels, centres=centres):
                return starts(patient(usual, centres[usual.id], labels, condition), condition, n)

            yield name, scan.name, usual.id, make


def measure(folder: Path, path: Path, names=tuple(CONDITIONS), n: int = 2, say=print) -> pd.DataFrame:
    """Rows of `COLUMNS` for every condition, scan and level. `alone_mm` is the agent from this start alone."""
    settings = register.RegisterSettings()
    made_by = stamp(folder, settings, *map(dataclasses.asdict, CONDITIONS.values()))
    rows = kept(path, made_by, COLUMNS)
    agent = register.load_agent(folder, "spine", settings.agent)
    for name, scan, id, make in cases_of(names, n):
        done = {r["start"] for r in rows if (r["condition"], r["case"]) == (name, id)}
        for case in [] if len(done) == n else make():
            if case.start in done:
                continue
            who = case.patient
            one = register.register(who.fixed, who.moving, "spine", case.initial, agent, settings=settings)
            errors = (cases.error(case, pose) for pose in (case.initial, one.ends[0], one.pose))
            rows.append(
                dict(
                    zip(
                        COLUMNS,
                        (
                            name,
                            scan,
                            id,
                            case.start,
                            *(round(e, 3) for e in errors),
                            one.trust.verdict,
                            one.seconds["total"],
                            made_by,
                        ),
                        strict=True,
                    )
                )
            )
            write(path, rows, COLUMNS)
        mine = [r for r in rows if (r["condition"], r["case"]) == (name, id)]
        say(f"{name} {id}: {', '.join(str(r['error_mm']) + ' mm ' + r['verdict'] for r in mine)}")
    cfg = populations.load_config("cpu", "spine")
    provenance.record(path, cfg, seeds={"starts": 0}, agent=[p.name for p in sorted(folder.glob("*_coarse.*"))])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def beside(path: Path, n: int = 2, say=print) -> pd.DataFrame:
    """Rows of `BESIDE`: optimisers from the same starts, usually and with the organs moved."""
    cfg = populations.load_config("cpu", "spine")
    settings = cfg.baselines
    values = dataclasses.asdict(settings)
    reads = {m: [m, values["seed"], {k: values[k] for k in batch.READS[m]}] for m in OPTIMISERS}
    made_by = {m: provenance.fingerprint([reads[m], CONDITIONS["breath"].breath])[:12] for m in OPTIMISERS}
    rows = kept(path, made_by, BESIDE)
    missing = [method for method in OPTIMISERS if not any(r["method"] == method for r in rows)]
    tried = [(name, scan, case) for name, scan, _, make in cases_of(OPTIMISED, n) for case in make()] if missing else []
    # In processes of their own: elastix in this one would share threads with torch, and take forty times as long.
    for method, results in run.run_methods(missing, [case for *_, case in tried], settings):
        for (name, scan, case), r in zip(tried, results, strict=True):
            error, seconds = round(cases.error(case, r.pose), 3), round(r.seconds, 2)
            values = (name, scan, case.id, case.start, method, error, seconds, r.note, made_by[method])
            rows.append(dict(zip(BESIDE, values, strict=True)))
        write(path, rows, BESIDE)
        say(f"{method}: {len(tried)} registrations")
    provenance.record(path, cfg, seeds={"starts": 0, "methods": settings.seed})
    return pd.DataFrame(rows, columns=list(BESIDE))


def markdown(rows: pd.DataFrame, others: pd.DataFrame) -> str:
    """The README's table: success and median of the agent, the command `register` and the optimisers, from the same starts."""
    own = {"alone_mm": "agent, this start alone", "error_mm": "agent, as the command `register` does"}
    parts = [rows[["condition", "scan"]].assign(method=text, error_mm=rows[column]) for column, text in own.items()]
    parts.append(others.assign(method=others["method"].map(charts.label))[parts[0].columns])
    table = pd.concat(parts)
    head = ["method", *(CONDITIONS[c].label for c in OPTIMISED)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method, mine in table.groupby("method", sort=False):
        cells = [method]
        for condition in OPTIMISED:
            some = mine[mine["condition"] == condition]
            low, high = metrics.success_interval(some["error_mm"] <= 10, some["scan"])
            share = f"{(some['error_mm'] <= 10).mean():.0%} [{100 * low:.0f}, {100 * high:.0f}]"
            cells.append(f"{share} of {len(some)}, {some['error_mm'].median():.1f} mm")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(rows: pd.DataFrame):
    """Final errors of each condition, coloured by the verdict, with the share within 10 mm and of wrong ones called good."""
    import matplotlib.pyplot as plt

    colours = {"good": "#0072b2", "do not trust": "#d55e00"}
    shown = [c for c in CONDITIONS if c in set(rows["condition"])]
    fig, axis = plt.subplots(figsize=(9.5, 0.55 * len(shown) + 1.6))
    rng = np.random.default_rng(0)
    for place, name in enumerate(shown):
        mine = rows[rows["condition"] == name]
        for verdict, some in mine.groupby("verdict"):
            spread = place + rng.uniform(-0.25, 0.25, len(some))
            axis.scatter(some["error_mm"].clip(lower=0.3), spread, s=18, color=colours[verdict])
        right = mine["error_mm"] <= 10
        low, high = metrics.success_interval(right, mine["scan"])
        wrong = int((~right & (mine["verdict"] == "good")).sum())
        text = f"{right.mean():.0%} [{low:.0%}, {high:.0%}] of {len(mine)} within 10 mm; wrong but called good: {wrong}"
        axis.text(1.01, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(range(len(shown)), [CONDITIONS[c].label for c in shown])
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="final TRE (mm)", title="Released spine agent, real CTs it never saw, simulated CBCT")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(10, color="#666666", linewidth=0.8)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=c, label=v) for v, c in colours.items()]
    axis.legend(handles=handles, title="verdict", loc="lower left", fontsize=8, title_fontsize=8)
    return fig


def main(words: list[str] | None = None) -> int:
    """Measures, then draws; one sentence and exit status 2 on bad input."""
    argparse.ArgumentParser(prog="python -m lib.study.degrade", description=__doc__.splitlines()[0]).parse_args(words)
    torch.set_num_threads(1)

    def work():

        results = folders.results_root()
        rows = measure(register.AGENTS / "spine", results / "degradation.csv")
        beside(results / "degradation_optimisers.csv")
        path = results / "figures" / "degradation.png"
        charts.save(figure(rows), path, {"cfg": None, "inputs": [results / "degradation.csv"]})
        print(path.name, "and degradation.csv are in", results.name)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
