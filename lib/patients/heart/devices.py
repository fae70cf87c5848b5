"""What lies in and under the patient besides anatomy: catheters, leads, a probe, wires, tables, arms."""

from __future__ import annotations

import numpy as np

from lib.patients import shapes
from lib.patients.heart.chest import Chest
from lib.patients.heart.organ import Heart
from lib.patients.shapes import Canvas

METAL = 6000.0
CT, CBCT = 0, 1  # layers


def paint_implants(canvas: Canvas, chest: Chest, heart: Heart, rng: np.random.Generator, place) -> list[str]:
    """Metal that both scans see: sternal wires, a valve, a pacemaker's leads. `place`: drawing -> body, for points (n,
    3). Returns what was put in."""
    found = []
    if rng.random() < 0.15:
        found.append("sternal wires")
        for z in np.arange(-5, 100, 20):
            y = chest.front(z) - 9
            ring = [(12 * np.cos(t), y + 9 * np.sin(t), z + rng.normal(0, 1)) for t in np.linspace(0, 6.3, 9)]
            canvas.paint(shapes.tube(place(np.array(ring)), 0.9), METAL)
    if rng.random() < 0.08:
        found.append("valve prosthesis")
        ring = heart.at(
            np.array([(2 + 11 * np.cos(t), -5 + 9 * np.sin(t), 14 + 3 * np.sin(t)) for t in np.linspace(0, 6.3, 11)])
        )
        canvas.paint(shapes.tube(place(ring), 1.4), 4000.0)
    if rng.random() < 0.15:
        found.append("pacemaker leads")
        for end in ([(-18, -18, -26), (20, -24, -26), (40, -30, -34)], [(-30, -12, 4), (-26, -22, 18)]):
            path = [
                (62, -44, 128),
                (40, -22, 118),
                *heart.at([(0, -24, 96), (-32, -8, 84), (-38, -6, 20), *end]),
            ]
            canvas.paint(shapes.tube(place(shapes.curve(path)), 1.0), METAL)
    return found


def paint_catheters(canvas: Canvas, chest: Chest, heart: Heart, rng: np.random.Generator, place) -> list[str]:
    """Devices of the intervention (CBCT layer only). Returns what was put in."""
    from_below = [(-19, 26, -200), (-22, 24, -80), *heart.at([(-36, 10, -42)])]
    paths = {
        "ablation catheter": [
            *from_below,
            *heart.at([(-30, 6, -6), (-8, 20, 8), (rng.uniform(0, 24), 26, rng.uniform(4, 24))]),
        ],
        "mapping catheter": [
            *from_below,
            *heart.at([(-34, 2, -4), (-6, 22, 12), (16, 30, 18), (26, 24, 10)]),
        ],
        "coronary sinus catheter": [
            *from_below,
            *heart.at([(-26, 14, -16), (2, 26, -14), (30, 24, -4), (44, 10, 6)]),
        ],
        "ventricular lead": [*from_below, *heart.at([(-26, -12, -16), (14, -24, -28), (38, -30, -34)])],
        "arterial catheter": [
            (6, 46, -200),
            *np.stack([*chest.spine(np.array([-60, 0, 50])), [-60, 0, 50]], 1) + (19, -20, 0),
            *heart.at([(4, 10, 84), (-14, -10, 66), (-4, -8, 22)]),
        ],
    }
    odds = {
        "ablation catheter": 0.6,
        "mapping catheter": 0.4,
        "coronary sinus catheter": 0.5,
        "ventricular lead": 0.35,
        "arterial catheter": 0.25,
    }
    found = []
    electrode = rng.uniform(9000, 28000)  # platinum, averaged over the catheter's width
    for name, path in paths.items():
        if rng.random() > odds[name]:
            continue
        found.append(name)
        line = place(shapes.curve(path, 4))
        canvas.paint(shapes.tube(line, 1.15), rng.uniform(1500, 4000), only=CBCT)
        for n in range(1, 8, 2):  # electrodes and the tip
            canvas.paint(
                shapes.tube(line[-n - 1 : len(line) - n + 1] if n > 1 else line[-2:], 1.5),
                electrode,
                only=CBCT,
            )
    if rng.random() < 0.35:
        found.append("oesophageal probe")
        z = np.array([160, 90, 40, rng.uniform(-10, 20)])
        x, y = chest.spine(z)
        line = place(shapes.curve(np.stack([x + (2, 4, 2, 4), y - 26, z], axis=1), 5))
        canvas.paint(shapes.tube(line, 4.5), 900.0, only=CBCT)
        canvas.paint(shapes.tube(line, 1.6), METAL, only=CBCT)
        canvas.paint(shapes.tube(line[-5:], 5.5), 5000.0, only=CBCT)
    return found


def paint_outside(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> list[str]:
    """Tables (another one for each scan), electrodes on the skin, sometimes arms at the sides in the CBCT."""
    found = []
    back = 132 + 0.55 * chest.fat
    z = (canvas.axes[2][0], canvas.axes[2][-1])
    cradle = shapes.Shape(
        np.array([-260, 60, z[0] - 9]),
        np.array([260, 190, z[1] + 9]),
        lambda x, y, z: np.abs(y - (back + 17 - 0.0006 * x * x)) - np.float32(1.5),
    )
    if rng.random() < 0.95:
        outside(canvas, cradle, 150.0, CT)
    if rng.random() < 0.9:
        found.append("table")
        half, drop = rng.uniform(210, 260), rng.uniform(3, 12)
        for offset, value in ((0, 60.0), (rng.uniform(14, 30), 60.0)):
            plate = shapes.box((0, back + drop + offset, np.mean(z)), (half, 1.5, (z[1] - z[0])), 0.5)
            outside(canvas, plate, value, CBCT)
        pad = shapes.box((0, back + drop - 4, np.mean(z)), (half, 3, (z[1] - z[0])), 1)
        outside(canvas, pad, -900.0, CBCT)
    for layer, name in ((CT, "ct electrodes"), (CBCT, "electrodes")):
        if rng.random() < 0.5:
            found.append(name)
            skin_shape = chest.wall(chest.fat)
            for _ in range(rng.integers(2, 5)):
                p = np.array([rng.uniform(-110, 110), -140.0, rng.uniform(-60, 110)])
                for _ in range(90):
                    if skin_shape.distance(*np.float32(p)[:, None]) < 2:
                        break
                    p[1] += 1.0
                canvas.paint(shapes.ellipsoid(p, (5, 2.2, 5)), 1500.0, only=layer)
    if rng.random() < 0.3:
        found.append("arms")
        for s in (-1, 1):
            outer = 150 * chest.side + chest.fat + 34
            arm = [(s * (outer + 6), 50, z[1] + 20), (s * outer, 60, 0), (s * outer, 50, z[0] - 20)]
            outside(canvas, shapes.tube(arm, 36 + 0.5 * chest.fat), -95.0, CBCT)
            canvas.paint(shapes.tube(arm, 33.0), 50.0, only=CBCT)
            canvas.paint(shapes.tube(arm, 11.0), 900.0, only=CBCT)
            canvas.paint(shapes.tube(arm, 7.0), 120.0, only=CBCT)
    return found


def outside(canvas: Canvas, shape: shapes.Shape, value: float, layer: int) -> None:
    """Paint where there is air only."""
    found = canvas.distance(shape, margin=canvas.spacing)
    if found is None:
        return
    window, d = found
    target = canvas.layers[layer][window]
    shapes.blend(target, np.float32(value), shapes.coverage(d, canvas.spacing) * (target < -700))
