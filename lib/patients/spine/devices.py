"""What lies on, under and in the patient: tables, stent graft, guide wire, leads, clips, feeding tube."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import Canvas, Shape, box, curve, ellipsoid, grown, intersect, subtract, tube
from lib.patients.spine.organs import around
from lib.patients.spine.plan import Plan
from lib.patients.spine.trunk import Trunk, half_space


def paint_tables(canvas: Canvas, trunk: Trunk, rng, objects: dict[str, bool] | None = None) -> dict:
    """CT: a curved couch with a mattress. CBCT: a thin flat carbon plate, or none in the field."""
    y0, long = trunk.bottom, 2000.0
    half = float(rng.uniform(195, 225))
    gap, radius = float(rng.uniform(3, 12)), float(rng.uniform(420, 700))
    cylinder = lambda r: Shape(  # noqa: E731
        np.array([-half, y0 - 20, -long]),
        np.array([half, y0 + 80, long]),
        lambda x, y, z: np.sqrt(x * x + (y - (y0 + gap - radius)) ** 2) - np.float32(r) + 0 * z,
    )
    couch = subtract(intersect(cylinder(radius + 34), half_space(1, y0 - 12, -1)), cylinder(radius + 6))
    under_air(canvas, subtract(cylinder(radius + 6), cylinder(radius)), -930.0, 0)
    under_air(canvas, couch, float(rng.uniform(-350, -100)), 0)
    under_air(canvas, grown(couch, -2.0), -935.0, 0)
    kind = str(rng.choice(["carbon", "carbon", "none"]))
    there, own = asked("table", kind == "carbon", rng, objects)
    if own is not None:
        thick, wide, drop = own.uniform(10, 24), own.uniform(200, 240), own.uniform(2, 25)
        plate = box((own.normal(0, 8), y0 + drop + thick, 0), (wide, thick, long), 4.0)
        hu = float(own.uniform(-300, 50))
        if there:
            under_air(canvas, box((0, y0 + drop / 2 - 2, 0), (wide * 0.95, drop / 2 + 4, long), 2), -920.0, 1)
            under_air(canvas, plate, hu, 1)
            under_air(canvas, grown(plate, -2.2), -900.0, 1)
    return {"ct_table": "curved", "cbct_table": "carbon" if there else "none"}


def asked(name: str, chance: bool, rng, objects: dict[str, bool] | None) -> tuple[bool, np.random.Generator | None]:
    """Whether an object is painted, and what draws its looks: `rng` where chance put it there, since what follows depends
    on it; where it was only asked for, a stream of its own; None where nothing is drawn."""
    there = chance if objects is None else objects.get(name, chance)
    return there, rng if chance else rng.spawn(1)[0] if there else None


def under_air(canvas: Canvas, shape: Shape, value: float, layer: int) -> None:
    """Paint only where there is still air (the body displaces the mattress)."""
    found = canvas.distance(shape, margin=2)
    if found is None:
        return
    window, d = found
    target = canvas.layers[layer][window]
    alpha = np.clip(0.5 - d / canvas.spacing, 0, 1) * np.clip((-550 - target) / 100, 0, 1)
    target += (alpha * (value - target)).astype(np.float32)


def paint_devices(
    canvas: Canvas, plan: Plan, trunk: Trunk, aorta: np.ndarray, rng, objects: dict[str, bool] | None = None
) -> dict:
    """Devices at the intervention (layer 1); surgical clips stay in both layers. Returns the flags."""
    flags = {
        name: bool(rng.random() < p)
        for name, p in (
            ("stent", 0.3),
            ("guide_wire", 0.4),
            ("ecg_leads", 0.6),
            ("clips", 0.2),
            ("feeding_tube", 0.2),
        )
    }
    k = plan.scale
    belly = aorta[aorta[:, 2] < plan.at(10.5)[2]]
    flags["stent"], own = asked("stent", flags["stent"], rng, objects)
    if own is not None:
        path, radius = belly[: int(len(belly) * own.uniform(0.75, 1))], own.uniform(9, 12.5) * k
        if flags["stent"]:
            paint_stent(canvas, path, radius)
    if flags["guide_wire"]:
        way = np.vstack(
            [
                aorta[len(aorta) // 4 :] + rng.normal(0, 2, 3),
                around(plan, 18, 42, -22),
                around(plan, 20.5, 62, -66),
            ]
        )
        wire = curve(way[::3] if len(way) % 3 == 1 else np.vstack([way[::3], way[-1]]), 6)
        canvas.paint(tube(wire, rng.uniform(0.5, 1.1)), 2600.0, only=1)
    if flags["ecg_leads"]:
        for _ in range(int(rng.integers(2, 6))):
            paint_lead(canvas, plan, trunk, rng)
    if flags["clips"]:
        for _ in range(int(rng.integers(2, 7))):
            spot = around(plan, 12.2, *(rng.normal(0, 9, 3) + [-44, -72, 0]))
            canvas.paint(tube([spot, spot + rng.normal(0, 3, 3)], 0.8), 2200.0)
    if flags["feeding_tube"]:
        hose = curve(
            [
                around(plan, 0, 2, -22),
                around(plan, 4, 3, -24),
                around(plan, 8, 6, -28),
                around(plan, 9.8, 22, -40),
                around(plan, 11, 60, -60),
            ],
            8,
        )
        canvas.paint(tube(hose, 1.8), 350.0, only=1)
    return flags


def paint_lead(canvas: Canvas, plan: Plan, trunk: Trunk, rng) -> None:
    """An electrode on the skin's front, and its wire."""
    z, angle = rng.uniform(plan.at(15)[2], plan.at(3)[2]), rng.uniform(-1.1, 1.1)
    spot = skin_point(trunk, z, angle)
    canvas.paint(ellipsoid(spot, (7, 2.5, 7)), 300.0, only=1)
    canvas.paint(ellipsoid(spot, (2.5, 2, 2.5)), 2500.0, only=1)
    aside = spot + [rng.normal(0, 25), -4, 40]
    wire = curve([spot, aside, skin_point(trunk, z + 110, angle + rng.normal(0, 0.4))], 8)
    canvas.paint(tube(wire, 0.7), 1500.0, only=1)


def paint_stent(canvas: Canvas, path: np.ndarray, radius: float) -> None:
    """Rings of zigzag wire around the vessel's path."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    angle = np.linspace(0, 2 * np.pi, 25)
    for start in np.arange(4, length[-1] - 14, 16.0):
        s = start + 5.5 + 5.5 * np.where(np.arange(25) % 2, 1, -1)
        centre = np.stack([np.interp(s, length, path[:, n]) for n in range(3)], axis=-1)
        ring = centre + radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
        canvas.paint(tube(ring, 0.55), 2400.0, only=1)


def skin_point(trunk: Trunk, z: float, angle: float) -> np.ndarray:
    """A point on the skin's front at height z; angle from the midline (radians, + = left)."""
    cx, cy, side, front, _ = (np.interp(z, trunk.z, t) for t in trunk.skin_table)
    return np.array([cx + side * np.sin(angle), cy - front * max(np.cos(angle), 0.0) ** 0.85 - 1.5, z])
