"""Stomach and bowel: what they hold (gas, stool, contrast) differs between the CT and the CBCT."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import Canvas, curve, ellipsoid, intersect, tube
from lib.patients.spine.organs import Inside, around
from lib.patients.spine.plan import Plan
from lib.patients.spine.trunk import Trunk, half_space


def paint_bowel(canvas: Canvas, plan: Plan, trunk: Trunk, cavity, roofs, states: list[dict], rng) -> None:
    """Small bowel first, then colon, then the stomach, the nearest to the front last."""
    inside = Inside(canvas, cavity, roofs)
    paint_small_bowel(canvas, plan, inside, states, rng)
    paint_colon(canvas, plan, trunk, inside, states, rng)
    paint_stomach(canvas, plan, inside, states, rng)


def paint_small_bowel(canvas: Canvas, plan: Plan, inside: Inside, states, rng) -> None:
    """Short coils in belly and pelvis, some with gas or oral contrast, each state its own."""
    k = plan.scale
    for _ in range(34):
        centre = around(plan, rng.uniform(13.2, 19.6), rng.normal(4, 38), rng.uniform(-92, -48) - 22 * plan.fat)
        way = rng.normal(0, 1, (4, 3)) * [17, 9, 15] * k
        path = curve(centre + np.cumsum(way, axis=0) - way.sum(axis=0) / 2, 6)
        r = rng.uniform(8.5, 12.5) * k * (1 + 0.12 * np.sin(np.arange(len(path)) * 2.4))
        inside.paint(tube(path, r), 42.0, wobble=1.2, gap=4)
        lumen = [float(rng.choice([18, 28, s["oral"]], p=[0.3, 0.4, 0.3])) for s in states]
        inside.paint(tube(path, r - 2.8), lumen, wobble=1.0, gap=6)
        for n, state in enumerate(states):
            if rng.random() < 0.22 * state["gas"]:
                spot = path[rng.integers(len(path))] + [0, -3, 0]
                inside.paint(ellipsoid(spot, rng.uniform(3, 9, 3) * [1.2, 0.7, 1.2]), -930.0, only=n, gap=5)


def paint_colon(canvas: Canvas, plan: Plan, trunk: Trunk, inside: Inside, states, rng) -> None:
    """The frame of the colon, with haustra; stool is mottled with gas, and gas rises to the front."""
    k = plan.scale
    _, _, side, front, _ = trunk.chest(plan.at(14)[2])
    sag, wide = rng.uniform(0, 50), side - 24 * k
    fore = -(front * 0.62 + 12)
    knots = [
        around(plan, 17.6, 0, -40) + [-wide * 0.75, 0, 0],
        around(plan, 16, 0, -36) + [-wide, 0, 0],
        around(plan, 13.6, 0, -38) + [-wide, 0, 0],
        around(plan, 13.2, -66, fore),
        around(plan, 13.5, 0, fore - 12, -sag),
        around(plan, 12.8, 62, fore),
        around(plan, 11.6, 0, -28) + [wide - 4, 0, 0],
        around(plan, 13.6, 0, -14) + [wide + 6, 0, 0],
        around(plan, 16, 0, -18) + [wide, 0, 0],
        around(plan, 17.8, 70, -42),
        around(plan, 18.8, 34, -72),
        around(plan, 18.4, 2, -50),
        around(plan, 20.5, 0, -12),
    ]
    path = curve(knots, 7)
    share = np.linspace(0, 1, len(path))
    r = (
        np.interp(share, [0, 0.12, 0.4, 0.6, 0.8, 1], [27, 24, 20, 16, 14, 15])
        * k
        * (1 + 0.13 * np.sin(np.arange(len(path)) * 1.9))
    )
    r = r * rng.uniform(0.8, 1.15)
    inside.paint(tube(path, r + 1.8), 40.0, wobble=1.0)
    for n, state in enumerate(states):
        mottle = canvas.texture if n == 0 else canvas.texture[::-1, :, ::-1]  # another filling
        stool = np.where(mottle > 1.5, np.float32(-600), 35 + 28 * mottle)
        start = 0
        while start < len(path) - 2:
            stop = min(start + int(rng.integers(6, 16)), len(path) - 1)
            piece = tube(path[start : stop + 1], r[start : stop + 1])
            inside.paint(piece, stool, only=n, gap=4, wobble=0.8)
            if rng.random() < state["gas"]:
                depth = path[start : stop + 1, 1].mean() + rng.uniform(-8, 12)
                inside.paint(intersect(piece, half_space(1, depth, 1), smooth=2), -960.0, only=n, gap=4)
            start = stop


def paint_stomach(canvas: Canvas, plan: Plan, inside: Inside, states, rng) -> None:
    """Fundus under the left dome, body to the front, antrum across the spine; fluid level, gas in front."""
    k, full = plan.scale, rng.uniform(0.65, 1.15)
    path = curve(
        [
            around(plan, 9.6, 60, -34),
            around(plan, 10.8, 66, -62),
            around(plan, 12.2, 46, -88),
            around(plan, 13.2, 8, -92),
            around(plan, 12.9, -30, -76),
        ],
        8,
    )
    r = np.interp(np.linspace(0, 1, len(path)), [0, 0.3, 0.6, 1], [36, 34, 26, 13]) * k * full
    shape = tube(path, r, smooth=6)
    inside.paint(shape, 45.0, wobble=1.5, gap=3)
    for n, state in enumerate(states):
        lumen = tube(path, r - 5, smooth=6)
        inside.paint(lumen, state["oral"] + 8 * canvas.wobble, only=n, gap=6, wobble=1.0)
        if rng.random() < 0.35 + 0.6 * state["gas"]:
            level = path[:, 1].mean() + rng.uniform(-30, 5) * k
            inside.paint(intersect(lumen, half_space(1, level, 1)), -970.0, only=n, gap=6)
    gut = curve(
        [
            around(plan, 12.9, -30, -74),
            around(plan, 13.6, -40, -50),
            around(plan, 15.2, -38, -42),
            around(plan, 15.5, 0, -48),
            around(plan, 13.4, 26, -48),
        ],
        7,
    )
    inside.paint(tube(gut, 12 * k), 42.0, wobble=1)
    inside.paint(tube(gut, 8.5 * k), [s["oral"] for s in states], wobble=1)
