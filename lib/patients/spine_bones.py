"""Bones of the trunk: vertebrae, ribs, sternum, shoulder blades, sacrum and pelvis."""
from __future__ import annotations

import numpy as np

from lib.patients.shapes import (
    Canvas, Shape, blend, box, coverage, curve, ellipsoid, grown, placed, smooth_max, smooth_min, subtract, tube, union,
)
from lib.patients.spine_plan import LEVELS, Plan, Vertebra


def body(v: Vertebra) -> Shape:
    """Vertebral body in its own frame: kidney-shaped section, waist, sunken and possibly wedged end plates."""
    a, b, h = v.width / 2, v.depth / 2, v.height / 2
    thoracic = v.name.startswith("T")

    def distance(x, y, z):
        level = np.clip(z / np.float32(h), -1.2, 1.2)
        flare = 1 - 0.11 * np.maximum(1 - level * level, 0) + v.osteophyte / v.width * np.maximum(np.abs(level) - 0.75, 0)
        # Thoracic bodies are heart-shaped: narrower in front.
        half = a * flare * (1 + (0.10 if thoracic else 0.03) * np.clip(y / b, -1, 1))
        k = np.sqrt((x / half) ** 2 + (y / (b * flare)) ** 2)
        side = (k - 1) * (0.5 * (a + b)) * 0.92
        hollow = 11.0 - np.sqrt(x * x * 0.55 + (y - b - 9.0) ** 2)  # the canal's bay in the back wall
        side = smooth_max(side, hollow, 2.0)
        top = h - v.concavity * np.maximum(1 - (k * 1.15) ** 2, 0) - v.wedge * 0.5 * (0.5 - 0.5 * np.clip(y / b, -1, 1))
        return smooth_max(side, np.abs(z) - top, 3.0)
    reach = np.array([a * 1.15 + v.osteophyte, b * 1.15 + v.osteophyte, h + 1])
    return Shape(-reach, reach, distance)


def canal_size(v: Vertebra) -> tuple[float, float]:
    """Half-width and half-depth (mm) of the spinal canal."""
    n = LEVELS.index(v.name)
    return float(np.interp(n, [0, 3, 9, 12, 16], [9.5, 8.3, 8.8, 11, 13])), float(np.interp(n, [0, 9, 16], [7.2, 7.6, 8.6]))


def canal_centre(v: Vertebra) -> np.ndarray:
    return np.array([0, v.depth / 2 + canal_size(v)[1] - 1.5, 0])


def arch(v: Vertebra) -> tuple[Shape, dict]:
    """Pedicles, laminae and processes in the vertebra's own frame, and where their tips are (name -> (3,))."""
    n = LEVELS.index(v.name)
    thoracic, b, h, j = n < 12, v.depth / 2, v.height / 2, v.jitter
    cw, cd = canal_size(v)
    back = b + 2 * cd - 1.5  # back wall of the canal
    grow = v.height / 25
    thick = np.interp(n, [0, 4, 9, 12, 16], [3.4, 2.6, 3.4, 4.0, 6.6])
    tall = np.interp(n, [0, 9, 12, 16], [0.62, 0.5, 0.5, 0.62])
    parts, tips = [], {}
    if thoracic:
        drop = np.interp(n, [0, 2, 5, 7, 9, 11], [6, 14, 30, 30, 20, 8]) * grow + 2 * j[0]
        reach = np.interp(n, [0, 5, 9, 11], [30, 27, 24, 24]) * grow
        spine, spine_r, spine_flat = [(0, back + 1, -2), (j[1], back + reach, -2 - drop)], [4.2, 2.8], (1, 1, 0.55)
        side = np.interp(n, [0, 4, 8, 10, 11], [36, 32, 29, 24, 18]) * grow + j[2]
        wing, wing_r = [(cw + 3, b + 8, 4), (side, b + np.interp(n, [0, 4, 11], [14, 21, 17]), 5 + j[3])], [4.4, 4.2]
    else:
        reach = np.interp(n, [12, 14, 16], [29, 31, 22]) * grow + j[0]
        spine, spine_r, spine_flat = [(0, back + 3, -5), (j[1], back + reach, -9)], [3.0, 3.4], (1, 1, 0.32)
        side = np.interp(n, [12, 14, 16], [37, 46, 44]) * grow + 1.5 * j[2]
        wing, wing_r = [(cw + 5, b + 6, 3), (side, b + 10 + 2 * j[4], 5 + j[3])], [4.2, 3.0]
    parts.append(tube(spine, spine_r, flatten=spine_flat))
    tips["spinous"] = np.array(spine[1], float)
    gap = h + np.interp(n, [0, 16], [4, 8])  # facets reach across the disc
    for s, side_name in ((-1, "right"), (1, "left")):
        mirror = np.array([s, 1, 1])
        pedicle = [(min(cw + thick * 0.4, v.width / 2 - 4), b - 4, 0.42 * h), (cw + thick * 0.6, b + 9, 0.40 * h)]
        lamina = [(cw + 2.5, b + 9, 1), (cw * 0.6, back - 0.5, -3), (0, back + 3, -4)]
        upper = [(cw + 3.5, b + 10, 0.3 * h), (cw + (4.5 if thoracic else 7), b + 10, gap - 3)]
        lower = [(cw * 0.9, back - 3, -0.3 * h), (cw + (0 if thoracic else 2.5), back - 1, -gap - 1)]
        r = 3.6 if thoracic else 4.6
        parts += [tube(np.array(pedicle) * mirror, thick, flatten=(1, 1, tall)),
                  tube(np.array(lamina) * mirror, 2.7, flatten=(1, 1, 0.36 if not thoracic else 0.33)),
                  tube(np.array(upper) * mirror, [r, r - 0.5]), tube(np.array(lower) * mirror, [r - 0.2, r - 0.8]),
                  tube(np.array(wing) * mirror, wing_r, flatten=(1, 1, 0.8))]
        tips[f"transverse {side_name}"] = np.array(wing[1], float) * mirror
    hole = placed(ellipsoid(np.zeros(3), (cw, cd, 60)), np.eye(3), canal_centre(v))
    return subtract(union(*parts, smooth=2.5), hole, smooth=1.0), tips


def paint_vertebra(canvas: Canvas, v: Vertebra, bone: float, texture: np.ndarray, labels: np.ndarray, number: int) -> Shape:
    """Spongy inside, cortical shell, dense end plates; labels[...] = number inside. Returns the whole outline."""
    trunk, (rear, _) = body(v), arch(v)
    whole = placed(union(trunk, rear, smooth=2.0), v.rotation, v.centre)
    found = canvas.distance(whole, margin=3)
    if found is None:
        return whole
    window, d = found
    local = [sum((p - c) * r for p, c, r in zip(canvas.points(window), v.centre, v.rotation[:, n])) for n in range(3)]
    plate = np.abs(local[2]) > 0.40 * v.height  # end plates are denser than the side walls
    behind = np.clip((local[1] - v.depth / 2) * 0.25, 0, 1)
    spongy = (60 + 120 * bone) * (1.25 if v.fractured else 1) + 45 * texture[window] + behind * (110 + 60 * bone)
    shell = (350 + 260 * bone) + np.where(plate, 90, 0) + behind * 130
    spongy, shell = spongy.astype(np.float32), shell.astype(np.float32)
    outer = coverage(d, canvas.spacing)
    inner = coverage(d + np.float32(1.3), canvas.spacing)
    value = shell + inner * (spongy - shell)
    for layer in canvas.layers:
        blend(layer[window], value, outer)
    labels[window][d < 0] = number
    return whole


def paint_discs(canvas: Canvas, plan: Plan) -> None:
    """Discs, as wide as the end plates, from body to body; and a faint annulus."""
    for upper, lower in zip(plan.vertebrae, [*plan.vertebrae[1:], None]):
        top = upper.world((0, 0, -upper.height / 2 + 2))
        down = lower.world((0, 0, lower.height / 2 - 2)) if lower else plan.sacrum[:3, 3]
        size = (upper.width * 0.5, upper.depth * 0.5)
        centre, half = 0.5 * (top + down), np.linalg.norm(top - down) / 2 + 1.5
        shape = Shape(np.array([-size[0], -size[1], -half]), np.array([size[0], size[1], half]),
                      lambda x, y, z, s=size, h=half: np.maximum(
                          (np.sqrt((x / s[0]) ** 2 + (y / s[1]) ** 2) - 1) * s[1], np.abs(z) - h))
        canvas.paint(placed(shape, upper.rotation, centre), 85.0)


def paint_canal(canvas: Canvas, plan: Plan) -> None:
    """Epidural fat, thecal sac and cord (to L1)."""
    centres = np.array([v.world(canal_centre(v)) for v in plan.vertebrae])
    end = plan.sacrum[:3, 3] + np.array([[0, 21, -8.0], [0, 19, -40]]) @ plan.sacrum[:3, :3].T
    centres = np.vstack([centres, end])
    width = [canal_size(v)[0] for v in plan.vertebrae] + [9.0, 6.0]
    path = curve(centres, 8)
    r = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(width)), width)
    canvas.paint(tube(path, r, flatten=(1, 1.25, 1)), -60.0)
    canvas.paint(tube(path, r - 2.0, flatten=(1, 1.15, 1)), 18.0)
    cord = curve(centres[:13], 8)
    canvas.paint(tube(cord, 4.2), 38.0)


def shell_tube(canvas: Canvas, path, radius, cortical: float, spongy: float, wall: float = 1.5, flatten=(1, 1, 1), smooth=0.0):
    """A bone along a path: cortical wall around spongy bone."""
    shape = tube(path, radius, smooth, flatten)
    canvas.paint(shape, cortical)
    canvas.paint(grown(shape, -wall), spongy)


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
        z = joint[2] - 4 - drop * share ** 0.9
        cx, cy, side, front, back = chest(z)
        reach = front if np.cos(angle) < 0 else back
        points.append([cx + s * (side + 4) * np.sin(angle) ** 0.83, cy + (reach + 4) * np.sign(np.cos(angle)) * abs(np.cos(angle)) ** 0.83, z])
    return curve(points, 7)


def paint_ribs(canvas: Canvas, plan: Plan, chest, breastbone: np.ndarray) -> None:
    """Twelve pairs, falling forwards from the spine; cartilage from the bone's end to the sternum or the rib above."""
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
    frame, k, bone = plan.sacrum, plan.scale, plan.bone
    rot, origin = frame[:3, :3], frame[:3, 3]
    blocks = []
    for m, (w, d, y, z) in enumerate([(27, 16, 0, -13), (20, 12, 2, -36), (15, 9, 2, -56), (12, 7, -5, -73), (9, 5, -16, -88)]):
        blocks.append(box((0, y * k, z * k), (w * k, d * k, (14 - m) * k), 5.0))
        if m < 4:
            blocks += [ellipsoid((s * (36 - 7 * m) * k, (y + 10) * k, (z - 1) * k), ((22 - 3 * m) * k, (13 - 1.5 * m) * k, (16 - m) * k))
                       for s in (-1, 1)]
        blocks.append(tube([(0, (y + d + 17) * k, (z + 4) * k), (0, (y + d + 20) * k, (z - 6) * k)], [5, 4]))
        blocks.append(tube([(-14 * k, (y + d + 12) * k, z * k), (14 * k, (y + d + 12) * k, z * k)], 3.5, flatten=(1, 1, 0.5)))
    holes = [ellipsoid((s * (18 - 1.5 * m) * k, (7 + 1 * m) * k, (-25 - 20 * m) * k), (4.5, 16, 4.5)) for m in range(3) for s in (-1, 1)]
    canal = tube([(0, 20 * k, 8), (0, 20 * k, -20 * k), (0, 16 * k, -60 * k)], [10, 9, 5], flatten=(0.8, 1.3, 1))
    sacrum = placed(subtract(union(*blocks, smooth=4.0), canal, *holes, smooth=2.0), rot, origin)
    hard, soft = 330 + 220 * bone, 40 + 110 * bone
    found = canvas.distance(sacrum, margin=2)
    if found:
        window, d = found
        inner = coverage(d + np.float32(1.5), canvas.spacing)
        value = (hard + inner * (soft + 40 * texture[window] - hard)).astype(np.float32)
        for layer in canvas.layers:
            blend(layer[window], value, coverage(d, canvas.spacing))
    wide = (1.0 if plan.male else 1.06) * k
    for s in (-1, 1):
        # Each row of the wing is a line from the joint with the sacrum (behind) to the front; the crest is longest.
        rows = []
        for t in np.linspace(0, 1, 17):  # 0 = socket, 1 = crest
            z = origin[2] + np.interp(t, [0, 1], [-92, 34]) * k
            back = np.array([s * np.interp(t, [0, .35, .7, 1], [62, 50, 46, 62]) * wide, origin[1] + np.interp(t, [0, .3, .6, .85, 1], [18, 38, 52, 50, 26]) * k])
            front = np.array([s * np.interp(t, [0, .4, .8, 1], [92, 104, 122, 116]) * wide, origin[1] + np.interp(t, [0, .35, .8, 1], [-22, -36, -34, -8]) * k])
            middle = 0.5 * (back + front) + np.array([s * np.interp(t, [0, 1], [2, 14]), 6.0]) * k
            sag = 34 * k * t * t * np.array([-0.95, 0.25, -1.15])  # the crest is a bow
            row = curve([[*back, z + sag[0]], [*middle, z + sag[1]], [*front, z + sag[2]]], 9)
            thick = np.interp(np.linspace(0, 1, len(row)), [0, 0.12, 0.5, 0.9, 1], [9, 8, 3.6 + 9 * (1 - t) ** 2, 5.5, 6.5])
            rows.append(tube(row, thick * (1 if t < 0.97 else 1.2) * k))
        wing = union(*rows, smooth=2.5)
        canvas.paint(wing, hard + 60)
        canvas.paint(grown(wing, -1.8), soft + 30)
        hip = np.array([s * 90 * wide, origin[1] - 12 * k, origin[2] - 112 * k])
        canvas.paint(ellipsoid(hip, np.full(3, 31.0) * k), hard + 40)
        canvas.paint(ellipsoid(hip, np.full(3, 27.0) * k), 30.0)
        canvas.paint(ellipsoid(hip, np.full(3, 24.5) * k), hard + 40)
        canvas.paint(ellipsoid(hip, np.full(3, 22.5) * k), soft + 130)
