"""Organs of chest and belly. Values are pairs (at the CT, at the CBCT): contrast, gas and breath differ."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import Canvas, Shape, blend, coverage, curve, ellipsoid, tube, union
from lib.patients.spine.plan import Plan, rotation
from lib.patients.spine.trunk import Trunk, dome


class Inside:
    """Painting that stops at the cavity's wall and, for the belly, at each layer's own diaphragm."""

    def __init__(self, canvas: Canvas, cavity: np.ndarray, roofs: list[np.ndarray]):
        self.canvas, self.cavity, self.roofs = canvas, cavity, roofs

    def paint(self, shape: Shape, value, wobble=0.0, below=True, only: int | None = None, gap=2.0):
        """Like Canvas.paint, cut off `gap` mm within the cavity and (if `below`) under the diaphragm."""
        found = self.canvas.distance(shape, margin=2 + 2.5 * wobble)
        if found is None:
            return
        window, d = found
        if wobble:
            d = d + np.float32(wobble) * self.canvas.wobble[window]
        d = np.maximum(d, self.cavity[window] + np.float32(gap))
        values = value if isinstance(value, (list, tuple)) else [value] * len(self.canvas.layers)
        for n, (layer, v, roof) in enumerate(zip(self.canvas.layers, values, self.roofs, strict=True)):
            if v is not None and only in (None, n):
                alpha = coverage(np.maximum(d, roof[window]) if below else d.copy(), self.canvas.spacing)
                blend(layer[window], v[window] if isinstance(v, np.ndarray) else np.float32(v), alpha)


def around(plan: Plan, level: float, *offset: float) -> np.ndarray:
    """The spine's axis at a level plus an offset (left, back, up) in the patient's own millimetres."""
    return plan.at(level) + np.array(offset if len(offset) == 3 else (*offset, 0)) * plan.scale


def paint_chest(
    canvas: Canvas, plan: Plan, trunk: Trunk, cavity: np.ndarray, states: list[dict], rng
) -> list[np.ndarray]:
    """Lungs above the diaphragm (its height differs between the layers), mediastinum, heart, airways.

    Returns each layer's distance to the diaphragm, negative below it (nz, ny, nx).
    """
    k = plan.scale
    levels = [plan.at(n)[2] for n in (17, 11, 9, 7, 5, 3, 0)]

    def mediastinum(x, y, z):
        """Wide in front of the spine, a thin septum behind the sternum; gutters run beside the vertebrae."""
        spine = plan.on(z.ravel()).astype(np.float32)[:, :, None, None]
        left = np.interp(z, levels, np.array([30, 40, 56, 48, 34, 30, 28]) * k)
        right = np.interp(z, levels, np.array([26, 28, 34, 32, 28, 27, 26]) * k)
        ahead, across = (spine[:, 1] - y) / k, x - spine[:, 0]
        profile = np.interp(ahead, [-60, -18, 5, 45, 85, 120, 200], [0.65, 0.62, 0.75, 1.0, 0.85, 0.55, 0.55])
        return np.maximum(across - left * profile, -across - right * profile).astype(np.float32)

    middle = canvas.field(mediastinum) + np.float32(2.0) * canvas.wobble
    chest = np.maximum(cavity + np.float32(3.0), -middle)
    roofs = []
    for layer, state in zip(canvas.layers, states, strict=False):
        height = dome(plan, trunk, state["breath"])
        roof = canvas.field(lambda x, y, z, h=height: (z - h(x, y)) * np.float32(0.7))
        blend(
            layer,
            np.float32(state["lung"]) + 30 * canvas.texture,
            coverage(np.maximum(chest, -roof), canvas.spacing),
        )
        blend(
            layer,
            np.float32(45),
            coverage(np.maximum(np.abs(roof) - np.float32(1.2), cavity), canvas.spacing),
        )
        roofs.append(roof)
    blood = [s["blood"] for s in states]
    muscle = [50.0 if not s["contrast"] else 95.0 for s in states]
    tilt = rotation(0, -35, 25)
    heart = around(plan, 7.7, 22, -72, 0)
    chest_only = Inside(canvas, cavity, roofs)
    chest_only.paint(ellipsoid(heart, np.array([61, 46, 52]) * k, tilt), -85.0, 2, below=False)
    chest_only.paint(ellipsoid(heart, np.array([57, 43, 48]) * k, tilt), muscle, 1, below=False)
    for offset, size in (
        ((18, -3, -8), (30, 21, 23)),
        ((-26, -14, 2), (20, 19, 32)),
        ((-8, 24, 20), (30, 13, 18)),
        ((4, -24, 0), (36, 12, 26)),
    ):
        canvas.paint(ellipsoid(heart + np.array(offset) * k, np.array(size) * k, tilt), blood, edge=5, wobble=1.0)
    paint_great_vessels(canvas, plan, heart, blood)
    paint_airways(canvas, plan, cavity, blood, rng)
    return roofs


def paint_great_vessels(canvas: Canvas, plan: Plan, heart, blood) -> None:
    """Ascending aorta and arch, pulmonary trunk, caval veins above the diaphragm, oesophagus."""
    k = plan.scale
    arch = curve(
        [
            heart + np.array([0, -6, 20]) * k,
            around(plan, 4.8, -14, -72),
            around(plan, 3.3, -12, -62),
            around(plan, 2.7, 4, -44),
            around(plan, 3.2, 20, -22),
            around(plan, 4.2, 22, -12),
            around(plan, 6, 20, -14),
        ]
    )
    canvas.paint(tube(arch, np.linspace(16, 12.5, len(arch)) * k), blood, wobble=0.6)
    trunk = curve([heart + np.array([14, -20, 25]) * k, around(plan, 5.0, 20, -62), around(plan, 4.9, 30, -38)])
    canvas.paint(tube(trunk, 13.5 * k), blood, wobble=0.6)
    cross = curve([around(plan, 4.9, 16, -52), around(plan, 5.1, -12, -40), around(plan, 5.4, -36, -34)])
    canvas.paint(tube(cross, 10.0 * k), blood, wobble=0.6)
    cava = curve([around(plan, 0, -20, -42), around(plan, 4, -26, -58), heart + np.array([-34, 8, 25]) * k])
    canvas.paint(tube(cava, 8.5 * k), blood, wobble=0.6)
    gullet = curve(
        [
            around(plan, 0, 2, -22),
            around(plan, 4, 3, -24),
            around(plan, 8, 6, -28),
            around(plan, 9.8, 20, -38),
        ]
    )
    canvas.paint(tube(gullet, 7.0 * k, flatten=(0.8, 1.2, 1)), 38.0)
    canvas.paint(tube(gullet[len(gullet) // 4 : len(gullet) // 2], 2.2), -500.0)
    azygos = curve([around(plan, n, -7, -18 - 0.4 * n) for n in (4, 7, 10)])
    canvas.paint(tube(azygos, 4.0), blood)


def paint_airways(canvas: Canvas, plan: Plan, cavity, blood, rng) -> None:
    """Trachea, main bronchi, and lung vessels fanning out from both roots."""
    k = plan.scale
    split = around(plan, 4.4, 0, -36)
    pipe = curve([around(plan, 0, 0, -40), around(plan, 2, 0, -36), split])
    canvas.paint(tube(pipe, 9.5 * k), 20.0)
    canvas.paint(tube(pipe, 8.2 * k), -990.0)
    vessels = [40.0 if b < 60 else 0.75 * b for b in blood]
    for s in (-1, 1):
        root = around(plan, 5.2, s * 34, -32)
        canvas.paint(ellipsoid(root + np.array([s * 4, 0, -6]) * k, np.array([14, 15, 24]) * k), vessels, wobble=2)
        for _ in range(26):
            aim = rng.normal(0, 1, 3) * [0.55, 1.0, 1.1] + [s * 0.75, 0.05, -0.25]
            aim /= np.linalg.norm(aim)
            length = rng.uniform(60, 110) * k
            bend = rng.normal(0, 0.12, 3) * length
            path = curve([root, root + aim * length * 0.45 + bend, root + aim * length], 9)
            r = np.linspace(rng.uniform(2.6, 4.6), 0.7, len(path)) * k
            found = canvas.distance(tube(path, r), margin=2)
            if found is None:
                continue
            window, d = found
            d = np.maximum(d, cavity[window] + np.float32(6))
            alpha = coverage(d, canvas.spacing) * (canvas.layers[0][window] < -300)
            for layer, v in zip(canvas.layers, vessels, strict=False):
                blend(layer[window], np.float32(v), alpha)
        bronchus = curve([split, root + [0, 0, 6], root + np.array([s * 22, 2, -22]) * k])
        canvas.paint(tube(bronchus, np.linspace(6.5, 3, len(bronchus)) * k), -950.0)


def paint_belly(
    canvas: Canvas, plan: Plan, cavity: np.ndarray, roofs: list[np.ndarray], states: list[dict], rng
) -> None:
    """Liver, gall bladder, spleen, kidneys, pancreas, adrenal fat, bladder."""
    k, inside = plan.scale, Inside(canvas, cavity, roofs)
    at = lambda *a: around(plan, *a)  # noqa: E731
    vein = [s["vein"] for s in states]
    liver_hu = [s["liver"] for s in states]
    big = rng.normal(1, 0.08)
    liver = union(
        ellipsoid(at(10.1, -72, -40, 0), np.array([70, 82, 82]) * k * big),
        ellipsoid(at(9.7, -5, -88, 0), np.array([74, 40, 40]) * k * big),
        ellipsoid(at(11.6, -88, -25, 0), np.array([42, 52, 66]) * k * big),
        smooth=22,
    )
    inside.paint(liver, [h + 4 * canvas.texture for h in liver_hu], wobble=3.5)
    for _ in range(9):  # liver vessels meet near the caval vein
        end = at(10.3, *(rng.normal(0, 1, 3) * [26, 36, 26] + [-72, -48, 0]))
        path = curve([at(9.0, -26, -34), 0.5 * (at(9.4, -40, -42) + end), end])
        canvas.paint(
            tube(path, np.linspace(4, 1.2, len(path))),
            [0.5 * (v + h) + (18 if v > 60 else -16) for v, h in zip(vein, liver_hu, strict=False)],
        )
    canvas.paint(ellipsoid(at(12.4, -50, -98, 0), np.array([14, 18, 28]) * k), 9.0, wobble=1.5)
    spleen = ellipsoid(at(10.4, 104, 2, 0), np.array([25, 44, 50]) * k * rng.normal(1, 0.08), rotation(-20, -15, 30))
    inside.paint(spleen, [52 if s["liver"] < 80 else 125 for s in states], wobble=2)
    pancreas = curve([at(13.2, -34, -52), at(12.6, -14, -56), at(12.0, 12, -58), at(11.4, 46, -44), at(11.0, 78, -30)])
    canvas.paint(
        tube(pancreas, np.linspace(13, 8, len(pancreas)) * k),
        [42 if s["liver"] < 80 else 90 for s in states],
        wobble=3,
    )
    for s, level in ((-1, 12.9), (1, 12.3)):
        centre = at(level + rng.normal(0, 0.25), s * (62 + 8 * plan.fat), -3)
        turn = rotation(12, -s * 14, s * 30)
        size = np.array([27, 27, 54]) * k * rng.normal(1, 0.06)
        inside.paint(ellipsoid(centre, size + 12, turn), -106.0, wobble=2)
        inside.paint(ellipsoid(centre, size, turn), [s_["kidney"] for s_ in states], wobble=1.2, below=False)
        canvas.paint(ellipsoid(centre, size * 0.68, turn), [0.8 * s_["kidney"] for s_ in states], edge=6, wobble=2.5)
        hilum = centre - turn @ np.array([s * 14, 4, 0]) * k
        canvas.paint(ellipsoid(hilum, np.array([15, 9, 25]) * k, turn), -70.0, wobble=3)
        canvas.paint(ellipsoid(hilum, np.array([8, 5, 11]) * k, turn), [s_["urine"] for s_ in states], wobble=1)
    canvas.paint(
        ellipsoid(at(20.6, 0, -62, 0), np.array([40, 34, 30]) * k * rng.uniform(0.6, 1.15)),
        [8.0, 8.0],
        wobble=2,
    )


def paint_vessels(canvas: Canvas, plan: Plan, states: list[dict], rng) -> np.ndarray:
    """Descending aorta with its fork (calcified in the old), lower caval vein. Returns the aorta's path."""
    k = plan.scale
    sway = rng.normal(0, 2 + 4 * np.clip((plan.age - 60) / 25, 0, 1), 6)
    levels = [5, 7, 9, 11, 13, 15]
    offset = [(20, -14), (19, -20), (17, -26), (12, -31), (11, -35), (8, -37)]
    aorta = curve([around(plan, n, o[0] + w, o[1]) for n, o, w in zip(levels, offset, sway, strict=False)], 7)
    r = np.linspace(13, 9, len(aorta)) * k * rng.normal(1.03, 0.07)
    blood, vein = [s["blood"] for s in states], [s["vein"] for s in states]
    fork = aorta[-1]
    limbs = [
        curve(
            [
                fork,
                fork + np.array([s * 16, 4, -28]) * k,
                around(plan, 18, s * 42, -22),
                around(plan, 20.5, s * 62, -66),
            ],
            8,
        )
        for s in (-1, 1)
    ]
    cava = curve(
        [
            around(plan, 9, -24, -42),
            around(plan, 11, -20, -32),
            around(plan, 13, -18, -33),
            around(plan, 16, -14, -32),
        ],
        8,
    )
    canvas.paint(tube(cava, 11.5 * k, flatten=(0.85, 1.15, 1)), vein, wobble=1)
    for s in (-1, 1):
        limb = curve([cava[-1], around(plan, 17, s * 24, -20), around(plan, 18.6, s * 48, -14)], 8)
        canvas.paint(tube(limb, 8 * k), vein)
    canvas.paint(tube(aorta, r), 42.0)
    canvas.paint(tube(aorta, r - 1.2), blood)
    for limb in limbs:
        canvas.paint(tube(limb, 6.5 * k), blood)
    branches = [(11.3, (4, -62), 4), (12.0, (4, -66), 4), (12.6, (46, -6), 3), (12.8, (-46, -8), 3)]
    for level, end, radius in branches:
        start = aorta[np.argmin(np.abs(aorta[:, 2] - plan.at(level)[2]))]
        drop = 2.2 if end[0] == 4 and level > 11.5 else 0.1
        canvas.paint(
            tube(
                curve([start, 0.5 * (start + around(plan, level, *end)), around(plan, level + drop, *end)]),
                radius,
            ),
            blood,
        )
    for _ in range(int(rng.poisson(max(0, plan.age - 55) * 0.8))):
        n, angle = rng.integers(len(aorta) // 3, len(aorta)), rng.uniform(0, 2 * np.pi)
        spot = aorta[n] + r[n] * np.array([np.cos(angle), np.sin(angle), 0])
        canvas.paint(ellipsoid(spot, rng.uniform(1.0, 3.0, 3) + [0, 0, 1.5]), float(rng.uniform(300, 900)))
    return aorta
