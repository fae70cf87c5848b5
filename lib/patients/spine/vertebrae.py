"""Vertebrae, discs and what runs in the spinal canal."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import (
    Canvas,
    Shape,
    blend,
    coverage,
    curve,
    ellipsoid,
    placed,
    smooth_max,
    subtract,
    tube,
    union,
)
from lib.patients.spine.plan import LEVELS, Plan, Vertebra


def body(v: Vertebra) -> Shape:
    """Vertebral body in its own frame: kidney-shaped section, waist, sunken and perhaps wedged end plates."""
    a, b, h = v.width / 2, v.depth / 2, v.height / 2
    thoracic = v.name.startswith("T")

    def distance(x, y, z):
        level = np.clip(z / np.float32(h), -1.2, 1.2)
        flare = (
            1 - 0.11 * np.maximum(1 - level * level, 0) + v.osteophyte / v.width * np.maximum(np.abs(level) - 0.75, 0)
        )
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
    return float(np.interp(n, [0, 3, 9, 12, 16], [9.5, 8.3, 8.8, 11, 13])), float(
        np.interp(n, [0, 9, 16], [7.2, 7.6, 8.6])
    )


def canal_centre(v: Vertebra) -> np.ndarray:
    return np.array([0, v.depth / 2 + canal_size(v)[1] - 1.5, 0])


def arch(v: Vertebra) -> tuple[Shape, dict]:
    """Pedicles, laminae and processes in the vertebra's own frame, and their tips (name -> (3,))."""
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
        spine, spine_r, spine_flat = (
            [(0, back + 1, -2), (j[1], back + reach, -2 - drop)],
            [4.6, 3.0],
            (1, 1, 0.5),
        )
        side = np.interp(n, [0, 4, 8, 10, 11], [36, 32, 29, 24, 18]) * grow + j[2]
        wing, wing_r = (
            [(cw + 3, b + 8, 4), (side, b + np.interp(n, [0, 4, 11], [14, 21, 17]), 5 + j[3])],
            [4.4, 4.2],
        )
    else:
        reach = np.interp(n, [12, 14, 16], [29, 31, 22]) * grow + j[0]
        spine, spine_r, spine_flat = [(0, back + 3, -8), (j[1], back + reach, -12)], [3.4, 4.1], (1, 1, 0.38)
        side = np.interp(n, [12, 14, 16], [33, 41, 39]) * grow + 1.5 * j[2]
        wing, wing_r = [(cw + 5, b + 6, 3), (side, b + 10 + 2 * j[4], 5 + j[3])], [4.2, 2.4]
    parts.append(tube(spine, spine_r, flatten=spine_flat))
    tips["spinous"] = np.array(spine[1], float)
    gap = h + np.interp(n, [0, 16], [4, 8])  # facets reach across the disc
    for s, side_name in ((-1, "right"), (1, "left")):
        mirror = np.array([s, 1, 1])
        pedicle = [
            (min(cw + thick * 0.4, v.width / 2 - 4), b - 4, 0.42 * h),
            (cw + thick * 0.6, b + 9, 0.40 * h),
        ]
        fall = 0 if thoracic else 4  # lumbar laminae hang towards the disc below
        lamina = [(cw + 2.5, b + 9, 1 - fall), (cw * 0.6, back - 0.5, -3 - fall), (0, back + 3, -4 - fall)]
        upper = [(cw + 3.5, b + 10, 0.3 * h), (cw + (4.5 if thoracic else 7.5), b + 10, gap - 4)]
        lower = [
            (cw * 0.9, back - 3, -0.3 * h),
            (cw + (0 if thoracic else 2.0), back + (0 if thoracic else 1.5), -gap + 1),
        ]
        r = np.interp(n, [0, 10, 12, 16], [4.2, 4.6, 6.0, 7.2])  # facets are the bulkiest part of the lumbar arch
        parts += [
            tube(np.array(pedicle) * mirror, thick, flatten=(1, 1, tall)),
            tube(np.array(lamina) * mirror, 3.2 if thoracic else 4.3, flatten=(1, 1, 0.40)),
            tube(np.array(upper) * mirror, [r, r - 0.8]),
            tube(np.array(lower) * mirror, r),
            tube(np.array(wing) * mirror, wing_r, flatten=(1, 1, 0.8)),
        ]
        tips[f"transverse {side_name}"] = np.array(wing[1], float) * mirror
    hole = placed(ellipsoid(np.zeros(3), (cw, cd, 60)), np.eye(3), canal_centre(v))
    return subtract(union(*parts, smooth=2.5), hole, smooth=1.0), tips


def paint_vertebra(
    canvas: Canvas, v: Vertebra, bone: float, texture: np.ndarray, labels: np.ndarray, number: int
) -> Shape:
    """Spongy inside, cortical shell, dense end plates; labels = number inside. Returns the outline."""
    trunk, (rear, _) = body(v), arch(v)
    whole = placed(union(trunk, rear, smooth=2.0), v.rotation, v.centre)
    found = canvas.distance(whole, margin=3)
    if found is None:
        return whole
    window, d = found
    local = [
        sum((p - c) * r for p, c, r in zip(canvas.points(window), v.centre, v.rotation[:, n], strict=False))
        for n in range(3)
    ]
    plate = np.abs(local[2]) > 0.40 * v.height  # end plates are denser than the side walls
    b = v.depth / 2
    behind = np.interp(local[1], [b, b + 5, b + 20, b + 28], [0, 1, 1, 0.3])  # the arch is dense, less so its spine
    vein = np.exp(-((local[0] / 5) ** 2) - (local[2] / 2.2) ** 2) * np.clip(local[1] / b, 0, 1) * (1 - behind)
    spongy = (
        (60 + 120 * bone) * (1.25 if v.fractured else 1)
        + 32 * texture[window]
        + behind * (190 + 120 * bone)
        - 70 * vein
    )
    shell = (310 + 230 * bone) + np.where(plate, 90, 0) + behind * 190
    spongy, shell = spongy.astype(np.float32), shell.astype(np.float32)
    # Softer than one voxel: a scanner blurs, and cortex passes into spongy bone by degrees.
    outer = coverage(d, 0.6 * canvas.spacing + 1.2)
    inner = coverage(d + np.float32(1.5), 0.5 * canvas.spacing + 1.8)
    value = shell + inner * (spongy - shell)
    for layer in canvas.layers:
        blend(layer[window], value, outer)
    labels[window][d < 0] = number
    return whole


def paint_discs(canvas: Canvas, plan: Plan) -> None:
    """Discs, as wide as the end plates, from body to body; and a faint annulus."""
    for upper, lower in zip(plan.vertebrae, [*plan.vertebrae[1:], None], strict=False):
        top = upper.world((0, 0, -upper.height / 2 + 2))
        down = lower.world((0, 0, lower.height / 2 - 2)) if lower else plan.sacrum[:3, 3]
        size = (upper.width * 0.5, upper.depth * 0.5)
        centre, half = 0.5 * (top + down), np.linalg.norm(top - down) / 2 + 1.5
        shape = Shape(
            np.array([-size[0], -size[1], -half]),
            np.array([size[0], size[1], half]),
            lambda x, y, z, s=size, h=half: np.maximum(
                (np.sqrt((x / s[0]) ** 2 + (y / s[1]) ** 2) - 1) * s[1], np.abs(z) - h
            ),
        )
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
