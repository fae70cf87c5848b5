"""Between the lungs: fat, gullet, windpipe, and the great vessels to and from the heart."""

from __future__ import annotations

import numpy as np

from lib.patients import shapes
from lib.patients.heart.chest import Chest
from lib.patients.heart.organ import Heart
from lib.patients.shapes import Canvas, Shape


def paint_mediastinum(canvas: Canvas, chest: Chest, heart: Heart, rng: np.random.Generator) -> None:
    """Fat and soft tissue between the lungs, gullet, windpipe and main bronchi."""
    z = np.array([-190, -60, 0, 50, 90, 125, 160.0])
    back = chest.spine(z)[1] + 6
    side = np.array([20, 26, 26, 30, 33, 34, 36]) * rng.uniform(0.9, 1.1)
    middle = back - 34
    front = middle - (chest.front(z) + 4) * np.array([0.2, 0.3, 0.7, 1, 1, 1, 1])
    canvas.paint(shapes.column(z, 4, middle, side, np.maximum(front, 20), back - middle, 1.7), -85.0, wobble=2.5)
    for point, radii in (((-40, -46, -54), (20, 22, 16)), ((66, -46, -44), (24, 18, 18))):
        canvas.paint(
            shapes.ellipsoid(heart.at(point) * (1, 0, 1) + (0, chest.front(-50) + 24, 0), radii),
            -95.0,
            wobble=2,
        )
    canvas.paint(shapes.grown(heart.epicardium(), 3.5), -88.0, wobble=1.5)
    x, y = chest.spine(np.array([150, 90, 40, 0, -40, -80]))
    gullet = np.stack([x + (2, 4, 2, 4, 10, 16), y - (26, 26, 25, 25, 27, 34), [150, 90, 40, 0, -40, -80]], axis=1)
    canvas.paint(shapes.tube(shapes.curve(gullet), 6.5), 40.0)
    if rng.random() < 0.5:
        canvas.paint(shapes.tube(shapes.curve(gullet[:3] + (0, -1, 0)), 2.0), -700.0, only=0)
    y = chest.spine(54.0)[1]
    fork = np.array([2, y - 38, 56])
    ways = [([(0, y - 42, 160), (0, y - 42, 100), fork], 9.0)]
    for s, hilum in ((-1, (-36, 20, 34)), (1, (44, 24, 30))):
        low = np.array(hilum) + (s * 14, 14, -34)
        ways += [
            ([fork, 0.5 * (fork + hilum) + (0, 0, 2), hilum], 6.8),
            ([hilum, low, low + (s * 4, 8, -26)], (4.5, 3.4, 2.4)),
            ([hilum, np.add(hilum, (s * 16, -6, 18)), np.add(hilum, (s * 26, -10, 40))], (4, 3, 2)),
        ]
    for path, radius in ways:
        canvas.paint(shapes.grown(shapes.tube(path, radius, smooth=4), 1.8), 30.0)
    for path, radius in ways:
        canvas.paint(shapes.tube(path, radius, smooth=4), -985.0)


def paint_vessels(canvas: Canvas, chest: Chest, heart: Heart, hu: dict) -> None:
    """Aorta with its branches, pulmonary arteries and veins, caval veins."""
    at = heart.at
    spine_x, spine_y = chest.spine(np.array([60, 0, -60, -120, -190]))
    aorta = np.concatenate(
        [
            at([(0, -4, 12), (-9, -11, 32), (-15, -13, 52)]),
            at([(-12, -8, 74), (2, 6, 86)]),
            np.stack(
                [spine_x + (22, 21, 18, 12, 6), spine_y - (20, 19, 21, 24, 26), [62, 0, -60, -120, -190]],
                axis=1,
            ),
        ]
    )
    aorta = np.insert(aorta, 5, [aorta[4] + (14, 24, -2)], axis=0)
    line = shapes.curve(aorta, 7)
    width = np.interp(np.linspace(0, 1, len(line)), [0, 0.2, 0.4, 1], [16, 15.5, 12.5, 10]) * heart.scale**0.5
    vessel(canvas, shapes.tube(line, width, smooth=3), hu["left"])
    arch = aorta[3:6].mean(axis=0)
    for start, end in (((-10, -8, 4), (-24, -10, 60)), ((0, 0, 6), (10, 4, 62)), ((6, 8, 6), (24, 14, 58))):
        vessel(
            canvas,
            shapes.tube(shapes.curve([arch + start, arch + np.multiply(end, (0.7, 0.7, 0.5)), arch + end]), 5.0),
            hu["left"],
        )
    fork = at((14, 2, 50))
    vessel(
        canvas,
        shapes.tube(shapes.curve([at((16, -22, 30)), at((18, -14, 42)), fork]), 13.5, smooth=3),
        hu["right"],
    )
    for path in (
        [fork, at((-8, 8, 46)), (-34, 22, 34), (-46, 26, 16)],
        [fork, at((26, 14, 50)), (44, 28, 36), (54, 34, 16)],
    ):
        vessel(
            canvas,
            shapes.tube(shapes.curve(path), np.linspace(11, 6.5, len(shapes.curve(path)))),
            hu["right"],
        )
    for y, z in ((28, 24), (32, 2)):
        for s in (-1, 1):
            path = shapes.curve(
                [at((s * 22, y - 3, z)), at((s * 46, y, z)), at((s * 72, y + 6, z + (12 if z > 9 else -14)))]
            )
            vessel(canvas, shapes.tube(path, np.linspace(7.5, 4, len(path))), hu["left"])
    upper = [at((-38, -4, 18)), at((-34, -6, 50)), at((-32, -6, 84)), (-30, -8, 118), (-38, -6, 160)]
    vessel(canvas, shapes.tube(shapes.curve(upper), 9.5), hu["vein"])
    vessel(
        canvas,
        shapes.tube(shapes.curve([at((-31, -8, 86)), at((0, -26, 96)), (40, -24, 116), (70, -10, 130)]), 6.5),
        hu["vein"],
    )
    lower = [at((-36, 6, -28)), at((-36, 12, -46)), (-22, 24, -80), (-18, 26, -190)]
    vessel(canvas, shapes.tube(shapes.curve(lower), 11.5), hu["lower_vein"])


def vessel(canvas: Canvas, shape: Shape, hu: list[float]) -> None:
    canvas.paint(shapes.grown(shape, 1.4), 45.0)
    canvas.paint(shape, hu)
