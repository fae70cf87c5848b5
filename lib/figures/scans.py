"""Overlays of a real scan at the start and after an agent: of the case with the median error, and of the worst."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lib import cases, rigid
from lib.figures import charts, planes, volumes
from lib.patients.scans.manifest import real_cbct


def object_centre(patient) -> np.ndarray:
    """Where planes are cut: the heart's middle, or among the vertebral bodies the point nearest the
    CBCT's middle."""
    if patient.mesh_fixed is not None:
        return np.asarray(patient.mesh_fixed[0]).mean(axis=0)
    middle = np.asarray(volumes.frame(patient.fixed)[0])
    if patient.vertebrae is None:
        return middle
    bodies = rigid.apply(patient.truth, np.asarray(patient.vertebrae, dtype=np.float64))
    nearest = bodies[np.argmin(np.abs(bodies[:, 2] - middle[2]))]
    return np.array([nearest[0], nearest[1], middle[2]])


def overlays(rows, starts, patients: dict) -> dict[str, tuple]:
    """ "" and, where it is another patient, "_worst" -> (patient, {words: pose}): the median case of an agent's `rows`
    (DataFrame) and the worst. starts: the rows of `initial`; patients: id -> Patient."""
    key = ["range", "case", "start"]
    begun = starts.set_index(key)
    rows = rows.sort_values("final_error_mm")

    def poses(row, words):
        who = patients[row["case"]]
        before = begun.loc[tuple(row[name] for name in key)]
        first = f"start: {row['initial_error_mm']:.0f} mm"
        return {first: cases.pose_of(before, who), f"{words}: {row['final_error_mm']:.1f} mm": cases.pose_of(row, who)}

    usual, worst = rows.iloc[len(rows) // 2], rows.iloc[-1]
    shown, last = poses(usual, "usual end"), poses(worst, f"worst of {len(rows)}")
    if worst["case"] != usual["case"]:
        return {"": (patients[usual["case"]], shown), "_worst": (patients[worst["case"]], last)}
    return {"": (patients[usual["case"]], shown | dict(list(last.items())[1:]))}


def failures(found: Iterable[tuple], n: int, title: str, columns: int = 6):
    """A sheet with a picture each of `n` failures: a plane through the object in the CBCT, orange, over the CT, blue, where
    the method left it. found: (words, Patient, pose (4, 4), moving -> fixed), taken one by one."""
    columns, extent = min(columns, n), (200.0, 200.0)
    figure, axes = charts.new_figure(-(-n // columns), columns, widths=[1.0] * columns, height=2.3)
    flat = [ax for row in axes for ax in row]
    for ax in flat:
        ax.set_axis_off()
    for ax, (words, who, pose) in zip(flat, found, strict=False):
        plane = {"spine": "sagittal", "heart": "axial"}[who.experiment]
        centre = object_centre(who)
        pair = planes.both(who.fixed, who.moving, pose, plane, centre, extent)
        image = planes.blend(*pair, planes.matched(who.fixed, who.moving, who.truth, centre))
        planes.draw(ax, image, plane, extent, words, letters=ax is flat[0])
        ax.title.set_fontsize(6)
    figure.suptitle(f"{title}. CBCT orange, CT blue where it was left, grey where they agree", fontsize=9)
    return figure


def save(folder: Path, scan: str, rows, starts, patients: dict, provenance) -> list:
    """`figures/real_<experiment>_<scan>.png` (and `_worst`) below the folder; returns the figures."""
    experiment, drawn = rows["experiment"].iloc[0], []
    for old in folder.glob(f"figures/real_{experiment}_{scan}_worst.png*"):  # another agent's worst may have needed one
        old.unlink()
    kind = "real CBCT" if real_cbct(scan) else "CBCT simulated from the real CT"
    for suffix, (who, shown) in overlays(rows, starts, patients).items():
        figure = volumes.overlay(who.fixed, who.moving, shown, f"{who.id} ({kind}).", centre=object_centre(who))
        path = folder / "figures" / f"real_{experiment}_{scan}{suffix}.png"
        drawn.append(charts.save(figure, path, provenance, dpi=80))  # there are many
    return drawn
