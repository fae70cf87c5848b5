"""Inside the rib cage: lungs with their vessels, diaphragm, and what lies right below it."""

from __future__ import annotations

import numpy as np

from lib.patients import shapes
from lib.patients.heart.chest import Chest
from lib.patients.shapes import Canvas

LIVER_VEINS = (
    [(-18, 36, -60), (-50, 20, -70), (-90, 18, -86)],
    [(-18, 36, -60), (-40, -10, -72), (-60, -44, -96)],
    [(-14, 32, -62), (10, -10, -76), (28, -40, -84)],
    [(-20, 10, -120), (-60, 20, -110), (-95, 40, -125)],
)


def paint_lungs(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    """Both lungs filling the cavity (the mediastinum is painted over them), vessels and small airways."""
    window, alpha = canvas.paint(chest.cavity(), -850.0, wobble=1.0)
    texture = 22 * canvas.wobble[window] + 0.45 * (canvas.points(window)[1] - 20)
    for layer in canvas.layers:
        layer[window] += np.float32(rng.uniform(0.5, 1.0)) * texture * (alpha > 0.99)
    for s, hilum in ((-1, (-34, 22, 26)), (1, (42, 24, 32))):
        for leaves, radius in ((260, 1.0), (150, 1.0)):
            start = np.array(hilum, float) + rng.normal(0, 4, 3)
            tree(canvas, leaf_points(chest, rng, s, leaves), start, radius, rng)


def leaf_points(chest: Chest, rng: np.random.Generator, s: int, n: int) -> np.ndarray:
    """Random ends of lung vessels, a little inside the cavity of side s."""
    angle, z = np.arccos(rng.uniform(-0.95, 0.95, n)), rng.uniform(-110, 138, n)
    points = chest.on_cage(angle, z, -4.0)
    inner = np.array([30.0, 22, 0])
    share = rng.uniform(0.25, 0.97, (n, 1)) ** 0.5
    points[:, :2] = inner[:2] + (points[:, :2] - inner[:2]) * share
    return points * (s, 1, 1)


def tree(canvas: Canvas, leaves: np.ndarray, start: np.ndarray, radius: float, rng, depth: int = 0) -> None:
    """A vessel that runs from `start` towards its leaves and splits in two along their longest spread."""
    thick = radius * len(leaves) ** 0.36
    if len(leaves) == 1:
        canvas.paint(
            shapes.tube(
                [start, 0.5 * (start + leaves[0]) + rng.normal(0, 2, 3), leaves[0]],
                (thick, 0.95 * thick, 0.9),
            ),
            40.0,
        )
        return
    middle = leaves.mean(axis=0)
    fork = start + (middle - start) * (0.22 if depth == 0 else 0.42) + rng.normal(0, 2, 3)
    canvas.paint(shapes.tube([start, fork], (thick, 0.92 * thick)), 40.0)
    axis = np.linalg.svd(leaves - middle, full_matrices=False)[2][0]
    order = np.argsort((leaves - middle) @ axis)
    cut = int(np.clip(round(len(leaves) * rng.uniform(0.35, 0.65)), 1, len(leaves) - 1))
    for part in (order[:cut], order[cut:]):
        tree(canvas, leaves[part], fork, radius, rng, depth + 1)


def paint_abdomen(canvas: Canvas, chest: Chest, rng: np.random.Generator, bed) -> None:
    """Diaphragm with liver (right), stomach and spleen (left), gut, kidneys below it."""
    dome, cavity = chest.diaphragm(bed), chest.cavity()

    def under(x, y, z):
        return (z - dome(x, y)) * np.float32(0.75)

    below = shapes.intersect(cavity, under)
    below.high = np.array([*cavity.high[:2], max(*chest.domes, bed[1]) + 6])
    canvas.paint(below, 45.0, wobble=0.8)
    inside = shapes.grown(below, -3)
    canvas.paint(inside, -98.0)
    gas = rng.uniform(0, 1, 2)
    for s in (-1, 1):
        kidney = shapes.ellipsoid((s * 58, 56, -158), (24, 22, 46))
        canvas.paint(kidney, [180.0, 40.0])
    edge, tilt = rng.uniform(18, 52), rng.uniform(0.3, 0.7)

    def lobe(x, y, z):
        return shapes.smooth_max(x - edge + tilt * np.maximum(y + 30, 0), -z - 175 + 0.35 * (x + 60), 25) * 0.85

    liver = shapes.intersect(shapes.grown(below, -1.5), lobe, smooth=14)
    hu = rng.uniform(55, 115)
    window, alpha = canvas.paint(liver, [hu, rng.uniform(45, 65)], wobble=1.0)
    for path in LIVER_VEINS:
        canvas.paint(shapes.tube(shapes.curve(path), 4.5), [hu + 25, 50.0])
    top = chest.domes[1]
    stomach = shapes.intersect(
        shapes.union(
            shapes.ellipsoid((62, 4, top - 46), (34, 42, 40)),
            shapes.ellipsoid((40, -24, top - 82), (44, 28, 34)),
            smooth=20,
        ),
        inside,
        smooth=4,
    )
    canvas.paint(stomach, 45.0)
    canvas.paint(shapes.grown(stomach, -4), [rng.uniform(5, 60), rng.uniform(5, 60)])
    for layer, level in enumerate(gas):  # the bubble lies in front, above a level of fluid
        flat = shapes.intersect(shapes.grown(stomach, -4), lambda x, y, z, h=level: y - (-34 + 42 * h))
        canvas.paint(flat, -960.0, only=layer)
    spleen = shapes.intersect(shapes.ellipsoid((88 * chest.side, 62, top - 44), (28, 38, 46)), inside, smooth=6)
    canvas.paint(spleen, [hu + 10, 52.0], wobble=1.0)
    for layer in range(len(canvas.layers)):
        for _ in range(rng.integers(1, 4)):
            centre = (rng.uniform(30, 100), rng.uniform(-60, 0), top - rng.uniform(80, 130))
            loop = shapes.intersect(shapes.ellipsoid(centre, rng.uniform(10, 22, 3)), inside)
            canvas.paint(loop, 35.0, only=layer)
            canvas.paint(shapes.grown(loop, -2.5), float(rng.choice([-930, -300, 20])), only=layer)
