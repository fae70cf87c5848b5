"""Bones of the trunk around the spine: ribs, sternum, shoulder blades, sacrum and pelvis."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import (
    Canvas,
    Shape,
    blend,
    box,
    coverage,
    curve,
    ellipsoid,
    grown,
    placed,
    subtract,
    tube,
    union,
)
from lib.patients.spine.plan import Plan
from lib.patients.spine.vertebrae import arch


def shell_tube(
    canvas: Canvas,
    path,
    radius,
    cortical: float,
    spongy: float,
    wall: float = 1.5,
    flatten=(1, 1, 1),
    smooth=0.0,
):
    """A bone along a path: cortical wall around spongy bone."""
    shape = tube(path, radius, smooth, flatten)
    canvas.paint(shape, cortical)
    canvas.paint(grown(shape, -wall), spongy, edge=0.5 * canvas.spacing + 1.4)


def rib_path(plan: Plan, n: int, s: int, chest) -> tuple[np.ndarray, float] | None:
    """Centre line of rib n (0 = first) on side s, from its head; and the share of it that is bone."""
    v = plan.vertebrae[n]
    b = v.depth / 2
    _, tips = arch(v)
    tip = tips["transverse left" if s > 0 else "transverse right"] * [1, 1, 1]
    head = v.world((s * (v.width / 2 + 1), b - 3, v.height / 2 - 3 if n < 10 else 2))
    joint = v.world(tip + [0, -5, 3])
    drop = np.interp(n, [0, 2, 5, 8, 10, 11], [35, 62, 88, 100, 70, 55]) * plan.scale
    end = np.interp(n, [0, 5, 6, 8, 9, 10, 11], [2.75, 2.72, 2.6, 2.3, 2.0, 1.45, 0.95])  # angle, 0 = back, pi = front
    angles = np.linspace(0.45, end, 12)
    points = [head, joint]
    for angle in angles:
        share = (angle - 0.45) / (2.7 - 0.45)
        z = joint[2] - 4 - drop * share**0.9
        cx, cy, side, front, back = chest(z)
        reach = front if np.cos(angle) < 0 else back
        points.append(
            [
                cx + s * (side + 4) * np.sin(angle) ** 0.83,
                cy + (reach + 4) * np.sign(np.cos(angle)) * abs(np.cos(angle)) ** 0.83,
                z,
            ]
        )
    return curve(points, 7)


def paint_ribs(canvas: Canvas, plan: Plan, chest, breastbone: np.ndarray) -> None:
    """Twelve pairs, falling forwards from the spine; cartilage on to the sternum or the rib above."""
    cortical, spongy = 380 + 240 * plan.bone, 90 + 110 * plan.bone
    calcified = 90 + 110 * np.clip((plan.age - 55) / 30, 0, 1)
    for s in (-1, 1):
        margin = None
        for n in range(12):
            path = rib_path(plan, n, s, chest)
            end = path[-1]
            if 0 < n < 10:
                target = breastbone[min(n, 6)] + [s * 16, 2, 0] if n < 7 or margin is None else margin
                middle = 0.5 * (end + target) + [s * 4, -4, -8 if n > 4 else 0]
                gristle = curve([end, middle, target], 6)
                canvas.paint(tube(gristle, 4.6 * plan.scale, flatten=(1, 1, 0.75)), calcified)
                margin = middle
            r = np.full(len(path), 3.9 * plan.scale)
            r[0] = 4.6
            shell_tube(canvas, path, r, cortical, spongy, 1.3, flatten=(1, 1, 0.62))


def sternum(plan: Plan, chest) -> np.ndarray:
    """(7, 3) centre line of the sternum, manubrium to xiphoid."""
    top, bottom = plan.at(2.2)[2], plan.at(8.6)[2]
    points = []
    for z in np.linspace(top, bottom, 7):
        cx, cy, _, front, _ = chest(z)
        points.append([cx, cy - front - 3, z])
    return np.array(points)


def paint_sternum(canvas: Canvas, plan: Plan, line: np.ndarray) -> None:
    width = np.array([24, 20, 14, 15, 16, 15, 6.0]) * plan.scale * 0.36
    path = curve(line, 8)
    r = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, 7), width)
    shell_tube(canvas, path, r, 330 + 200 * plan.bone, 60 + 90 * plan.bone, 1.4, flatten=(0.4, 1.1, 1))


def paint_shoulders(canvas: Canvas, plan: Plan, chest) -> None:
    """Shoulder blades, behind the upper ribs (arms are raised above the field)."""
    for s in (-1, 1):
        paths = []
        for m, z in enumerate(np.linspace(plan.at(0)[2] + 10, plan.at(6.6)[2], 14)):
            cx, cy, side, front, back = chest(z)
            wide = np.interp(m, [0, 7, 13], [1.0, 0.75, 0.12])
            angles = np.linspace(0.75, 0.75 + 0.75 * wide, 5)
            paths.append([[cx + s * (side + 20) * np.sin(a), cy + (back + 19) * np.cos(a), z] for a in angles])
        shape = union(*[tube(p, 4.6, flatten=(1, 1, 0.7)) for p in paths], smooth=1.0)
        canvas.paint(shape, 380 + 220 * plan.bone)
        canvas.paint(grown(shape, -1.7), 120.0)


def paint_pelvis(canvas: Canvas, plan: Plan, texture: np.ndarray) -> None:
    """Sacrum (five fused vertebrae with wings) and iliac wings down to the sockets."""
    hard, soft = 330 + 220 * plan.bone, 40 + 110 * plan.bone
    found = canvas.distance(sacrum(plan), margin=2)
    if found:
        window, d = found
        inner = coverage(d + np.float32(1.5), canvas.spacing)
        value = (hard + inner * (soft + 40 * texture[window] - hard)).astype(np.float32)
        for layer in canvas.layers:
            blend(layer[window], value, coverage(d, canvas.spacing))
    k, origin = plan.scale, plan.sacrum[:3, 3]
    wide = (1.0 if plan.male else 1.06) * k
    for s in (-1, 1):
        wing = iliac_wing(s, origin, k, wide)
        canvas.paint(wing, hard + 60)
        canvas.paint(grown(wing, -1.8), soft + 30 + 30 * texture, edge=0.5 * canvas.spacing + 1.6)
        hip = np.array([s * 90 * wide, origin[1] - 12 * k, origin[2] - 112 * k])
        for radius, value in ((31.0, hard + 40), (27.0, 30.0), (24.5, hard + 40), (22.5, soft + 130)):
            canvas.paint(ellipsoid(hip, np.full(3, radius) * k), value)


def sacrum(plan: Plan) -> Shape:
    """Five blocks with wings and spines, without their canal and holes, in the world."""
    k, blocks = plan.scale, []
    for m, (w, d, y, z) in enumerate(
        [(27, 16, 0, -13), (20, 12, 2, -36), (15, 9, 2, -56), (12, 7, -5, -73), (9, 5, -16, -88)]
    ):
        blocks.append(box((0, y * k, z * k), (w * k, d * k, (14 - m) * k), 5.0))
        if m < 4:
            radii = ((22 - 3 * m) * k, (13 - 1.5 * m) * k, (16 - m) * k)
            blocks += [ellipsoid((s * (36 - 7 * m) * k, (y + 10) * k, (z - 1) * k), radii) for s in (-1, 1)]
        blocks.append(tube([(0, (y + d + 17) * k, (z + 4) * k), (0, (y + d + 20) * k, (z - 6) * k)], [5, 4]))
        lamina = [(side * k, (y + d + 12) * k, z * k) for side in (-14, 14)]
        blocks.append(tube(lamina, 3.5, flatten=(1, 1, 0.5)))
    holes = [
        ellipsoid((s * (18 - 1.5 * m) * k, (7 + 1 * m) * k, (-25 - 20 * m) * k), (4.5, 16, 4.5))
        for m in range(3)
        for s in (-1, 1)
    ]
    canal = tube([(0, 20 * k, 8), (0, 20 * k, -20 * k), (0, 16 * k, -60 * k)], [10, 9, 5], flatten=(0.8, 1.3, 1))
    solid = subtract(union(*blocks, smooth=4.0), canal, *holes, smooth=2.0)
    return placed(solid, plan.sacrum[:3, :3], plan.sacrum[:3, 3])


def iliac_wing(s: int, origin: np.ndarray, k: float, wide: float) -> Shape:
    """One wing of the pelvis, s = 1 left, -1 right; `origin` (3,): S1; k, wide: scale, and across."""
    rows = []  # each runs from the joint with the sacrum (behind) to the front
    for t in np.linspace(0, 1, 17):  # 0 = socket, 1 = crest
        z = origin[2] + np.interp(t, [0, 1], [-92, 34]) * k
        x = s * np.interp(t, [0, 0.35, 0.7, 1], [62, 50, 46, 62]) * wide
        back = np.array([x, origin[1] + np.interp(t, [0, 0.3, 0.6, 0.85, 1], [18, 38, 52, 50, 26]) * k])
        x = s * np.interp(t, [0, 0.4, 0.8, 1], [92, 104, 122, 116]) * wide
        front = np.array([x, origin[1] + np.interp(t, [0, 0.35, 0.8, 1], [-22, -36, -34, -8]) * k])
        middle = 0.5 * (back + front) + np.array([s * np.interp(t, [0, 1], [2, 14]), 6.0]) * k
        sag = 34 * k * t * t * np.array([-0.95, 0.25, -1.15])  # the crest is a bow
        row = curve([[*back, z + sag[0]], [*middle, z + sag[1]], [*front, z + sag[2]]], 9)
        sizes = [9, 8, 3.6 + 9 * (1 - t) ** 2, 5.5, 6.5]
        thick = np.interp(np.linspace(0, 1, len(row)), [0, 0.12, 0.5, 0.9, 1], sizes)
        rows.append(tube(row, thick * (1 if t < 0.97 else 1.2) * k))
    return union(*rows, smooth=2.5)
