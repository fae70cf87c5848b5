"""A virtual patient for E1: the trunk from the upper chest to the sacrum, in HU, drawn from numbers alone.

Everything is drawn twice, as the diagnostic CT sees it and as the body is at the intervention (other table, gas,
contrast, breath, devices), on one grid and in one rigid frame, so the truth between both is exact.
"""

from __future__ import annotations

import numpy as np
import torch

from lib.images.volume import Volume
from lib.patients.anatomy import Anatomy
from lib.patients.shapes import Canvas, Shape, noise
from lib.patients.spine import plan as spine_plan
from lib.patients.spine.bones import paint_pelvis, paint_ribs, paint_shoulders, paint_sternum, sternum
from lib.patients.spine.bowel import paint_bowel
from lib.patients.spine.devices import paint_devices, paint_tables
from lib.patients.spine.organs import paint_belly, paint_chest, paint_vessels
from lib.patients.spine.trunk import Trunk, paint_back_muscles, paint_trunk
from lib.patients.spine.vertebrae import arch, paint_canal, paint_discs, paint_vertebra

USUAL, SACRUM = (8.0, 14.0), 17.5  # where the CBCT looks, as `Plan.at` counts: T9 to L3; within S1


def draw(
    rng: np.random.Generator, spacing: float = 2.0, objects: dict[str, bool] | None = None, every_level: bool = False
) -> Anatomy:
    """One virtual patient on a grid of `spacing` mm (about 400 x 300 x 520 mm). Deterministic in `rng`.

    objects: whether a `stent` and a `table` are there at the CBCT, whatever chance says; nothing else of the
    patient changes. every_level: the CBCT looks anywhere from the highest vertebra in the scan to S1.
    """
    rng, grain, aim = rng.spawn(3)  # what depends on the grid has its own stream: spacing does not change the patient
    plan = spine_plan.make(rng)
    low_z, high_z = extent(plan, rng)
    trunk = Trunk(plan, rng, [-1000, -1000, low_z - 9], [1000, 1000, high_z + 9])
    side, shift = trunk.half_width + rng.uniform(8, 25), rng.normal(0, 6)
    low = [shift - side, trunk.top - rng.uniform(12, 30), low_z]
    high = [shift + side, trunk.bottom + rng.uniform(30, 55), high_z]
    canvas = Canvas(low, high, spacing, layers=2)
    canvas.wobble = 0.7 * noise(grain, canvas.shape, 22 / spacing) + 0.5 * noise(grain, canvas.shape, 9 / spacing)
    canvas.texture = noise(grain, canvas.shape, 7 / spacing)
    states = [state(rng, at_cbct) for at_cbct in (False, True)]
    devices, aorta = paint_soft(canvas, plan, trunk, states, rng, objects)
    labels, outlines = paint_bones(canvas, plan, trunk, grain)
    flags = paint_devices(canvas, plan, trunk, aorta, rng, objects) | devices
    dose = np.float32(rng.uniform(5, 14))  # quantum noise of the diagnostic CT; the CBCT gets its own when simulated
    canvas.layers[0] += dose * grain.standard_normal(canvas.shape, dtype=np.float32)
    return collect(canvas, plan, labels, outlines, aim, plan.meta | flags | {"states": states}, every_level)


def extent(plan, rng) -> tuple[float, float]:
    """Lowest and highest z of the scan: pelvis to about T2..T5, 480-560 mm if the patient is that long."""
    length, hips, neck = (
        rng.uniform(480, 560),
        plan.sacrum[2, 3] - 115 * plan.scale,
        plan.at(rng.uniform(1, 4))[2],
    )
    low = min(rng.uniform(hips, plan.sacrum[2, 3] - 35 * plan.scale), max(hips, neck - length))
    return float(low), float(min(low + length, max(neck, plan.at(1)[2])))


def state(rng: np.random.Generator, at_cbct: bool) -> dict:
    """HU of what varies between two examinations of one patient."""
    contrast = bool(rng.random() < (0.35 if at_cbct else 0.55))
    arterial = contrast and rng.random() < (0.7 if at_cbct else 0.4)
    blood = rng.uniform(220, 380) if arterial else rng.uniform(130, 180) if contrast else rng.uniform(35, 48)
    vein = rng.uniform(110, 160) if contrast else rng.uniform(35, 46)
    return {
        "contrast": contrast,
        "blood": float(blood),
        "vein": float(vein),
        "liver": float(rng.uniform(85, 120) if contrast else rng.uniform(35, 65)),
        "kidney": float(rng.uniform(150, 210) if contrast else rng.uniform(28, 38)),
        "urine": float(rng.uniform(200, 600) if contrast and rng.random() < 0.3 else 8),
        "oral": float(rng.choice([15, 25, 220])) if not at_cbct else float(rng.uniform(10, 30)),
        "gas": float(rng.uniform(0.1, 0.75)),
        "lung": float(rng.uniform(-880, -780)),
        "breath": float(rng.normal(0, 4) - (10 if at_cbct else 0)),
    }


def paint_soft(canvas: Canvas, plan, trunk: Trunk, states: list[dict], rng, objects=None) -> tuple[dict, np.ndarray]:
    """Everything but bone. Returns the table's flags and the aorta's path."""
    cavity, wall = paint_trunk(canvas, plan, trunk)
    table = paint_tables(canvas, trunk, rng, objects)
    roofs = paint_chest(canvas, plan, trunk, cavity, states, rng)
    paint_back_muscles(canvas, plan, wall)
    paint_belly(canvas, plan, cavity, roofs, states, rng)
    paint_bowel(canvas, plan, trunk, cavity, roofs, states, rng)
    aorta = paint_vessels(canvas, plan, states, rng)
    return table, aorta


def paint_bones(canvas: Canvas, plan, trunk: Trunk, rng) -> tuple[np.ndarray, list[Shape]]:
    """All bones. Returns labels (nz, ny, nx) uint8, 1 = T1 .. 17 = L5, and the vertebrae's outlines."""
    texture = 0.7 * noise(rng, canvas.shape, 3.2 / canvas.spacing) + 0.4 * canvas.wobble
    labels = np.zeros(canvas.shape, np.uint8)
    breastbone = sternum(plan, trunk.chest)
    paint_canal(canvas, plan)
    paint_discs(canvas, plan)
    paint_shoulders(canvas, plan, trunk.chest)
    paint_ribs(canvas, plan, trunk.chest, breastbone)
    paint_sternum(canvas, plan, breastbone)
    paint_pelvis(canvas, plan, texture)
    outlines = [
        paint_vertebra(canvas, v, plan.bone, texture, labels, n + 1)
        for n, v in reversed(list(enumerate(plan.vertebrae)))
    ]
    return labels, outlines[::-1]


def landmarks(plan, outlines: list[Shape], numbers) -> tuple[np.ndarray, list[str]]:
    """Eight points a vertebra, pulled onto the drawn bone's surface: (8 m, 3) world mm and their names."""
    points, names = [], []
    for n in numbers:
        v = plan.vertebrae[n]
        a, b, h = v.width / 2, v.depth / 2, v.height / 2
        _, tips = arch(v)
        own = {
            "front upper": (0, -b, h - v.wedge / 2),
            "front lower": (0, -b, v.wedge / 2 - h),
            "left upper": (a, 0, h - v.wedge / 4),
            "right upper": (-a, 0, h - v.wedge / 4),
            "left lower": (a, 0, v.wedge / 4 - h),
            "right lower": (-a, 0, v.wedge / 4 - h),
            "spinous": tips["spinous"],
            "transverse left": tips["transverse left"],
        }
        points.append(to_surface(outlines[n], v.world(list(own.values()))))
        names += [f"{v.name} {part}" for part in own]
    return np.concatenate(points), names


def to_surface(shape: Shape, points: np.ndarray, steps: int = 12) -> np.ndarray:
    """Walk points (n, 3) down the distance field to its zero level."""
    p = np.array(points, np.float64)

    def value(q):
        return np.asarray(shape.distance(*(q[:, c].astype(np.float32)[:, None, None] for c in range(3)))).reshape(
            len(q)
        )

    for _ in range(steps):
        d = value(p)
        slope = np.stack([(value(p + e) - value(p - e)) / 0.5 for e in 0.25 * np.eye(3)], axis=-1)
        p -= np.clip(d[:, None] * slope / np.maximum((slope**2).sum(-1, keepdims=True), 0.25), -2, 2)
    return p


def collect(canvas: Canvas, plan, labels, outlines, rng, meta: dict, every_level: bool) -> Anatomy:
    """Choose where the CBCT looks, and put everything together."""
    centres = np.array([v.centre for v in plan.vertebrae])
    low, high = (np.array([axis[n] for axis in canvas.axes], float) for n in (0, -1))
    whole = [n for n, v in enumerate(plan.vertebrae) if low[2] + v.height / 2 < v.centre[2] < high[2] - v.height / 2]
    level = rng.uniform(*((min(whole), SACRUM) if every_level else USUAL))
    target = plan.at(level) + [rng.normal(0, 12), -rng.uniform(15, 50), rng.normal(0, 5)]
    near = sorted(whole, key=lambda n: abs(centres[n, 2] - target[2]))[:4]
    points, names = landmarks(plan, outlines, sorted(near))
    numbers = np.zeros(len(plan.vertebrae) + 1, np.float32)
    numbers[np.array(whole) + 1] = np.arange(len(whole)) + 1
    place = {"spacing": np.full(3, canvas.spacing), "origin": canvas.origin}
    volumes = [Volume(torch.from_numpy(np.clip(a, -1024, 3071)), **place) for a in (*canvas.layers,)]
    meta = meta | {
        "kind": "virtual_spine",
        "levels": [plan.vertebrae[n].name for n in whole],
        "target_level": [*spine_plan.LEVELS, "S1"][int(min(round(level), 17))],
        "landmarks": names,
        "gas": meta["states"][1]["gas"] > 0.4,
        "table": meta["cbct_table"] != "none",
    }
    return Anatomy(
        volumes[0],
        volumes[1],
        target,
        points,
        centres[whole],
        Volume(torch.from_numpy(numbers[labels]), **place),
        meta=meta,
    )
