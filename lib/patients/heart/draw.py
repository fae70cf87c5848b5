"""E2's virtual patient: a contrast-enhanced chest CT and the same chest at a cardiac intervention.

The paper's E2 pairs a cardiac CT with an interventional C-arm CT of the same patient, whose heart is in another state.
Here the chest is drawn once with two sets of HU; the second is moved by a smooth field (`motion.py`) that also
moves the epicardium's vertices, so the meshes correspond.
"""

from __future__ import annotations

import numpy as np
import torch

from lib.images.volume import Volume
from lib.patients import shapes
from lib.patients.anatomy import Anatomy
from lib.patients.heart.chest import Chest, paint_body, paint_bones
from lib.patients.heart.devices import CBCT, CT, paint_catheters, paint_implants, paint_outside
from lib.patients.heart.hardness import DRAWN, Hardness
from lib.patients.heart.lungs import paint_abdomen, paint_lungs
from lib.patients.heart.motion import Motion, best_pose, individual
from lib.patients.heart.organ import Heart, blood, paint_heart
from lib.patients.heart.vessels import paint_mediastinum, paint_vessels
from lib.patients.shapes import Canvas


def draw(rng: np.random.Generator, spacing: float = 2.0, phases: int = 4, hardness: Hardness = DRAWN) -> Anatomy:
    """One virtual chest; everything random comes from `rng`.

    spacing: mm. phases: how many bodies `meta["body_phases"]` holds (0: None): the beating, breathing chest
    on the grid of `body_at_cbct`, for cone-beam simulation with motion; their mean state is `body_at_cbct`.

    meta["heart_pose"] (4, 4): the rigid pose CT -> body_at_cbct (LPS mm) that best aligns the epicardium (Kabsch on its
    vertices). The heart also shifts as a whole, so a true pose is (rigid pose) @ heart_pose. meta["residual_mm"]: about
    the mean surface distance it leaves, the MME of the truth.
    """
    scale = float(np.clip(rng.normal(1.0, 0.055), 0.88, 1.12))  # the patient's size; all else is canonical
    chest = Chest.random(rng)
    heart = Heart.random(rng, chest)
    canvas = empty_chest(chest, spacing / scale, rng)
    mesh = heart.mesh()
    paint_anatomy(canvas, chest, heart, mesh, rng, hardness)
    own = individual(canvas, rng, rng.uniform(1.0, 3.5))
    canvas.layers = [own.warp(layer) for layer in canvas.layers]
    mesh = (own.move(mesh[0]), mesh[1])
    names = paint_implants(canvas, chest, heart, rng, own.move)
    names += paint_catheters(canvas, chest, heart, rng, own.move) + paint_outside(canvas, chest, rng)
    motion = Motion(canvas, chest, heart, rng)
    strength, field = motion.tuned(mesh, hardness.asked(rng), hardness.fold)
    moved = field.move(mesh[0])
    pose, residual = best_pose(mesh, moved)
    bodies = phase_bodies(canvas, motion, strength, phases, rng, hardness)
    body = field.warp(canvas.layers[CBCT])
    ct = canvas.layers[CT]
    ct += rng.standard_normal(ct.shape, dtype=np.float32) * np.float32(rng.uniform(6, 18))

    def volume(array: np.ndarray) -> Volume:
        return Volume(
            torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)),
            np.full(3, canvas.spacing * scale),
            canvas.origin * scale,
        )

    offset = rng.normal(size=3)
    target = moved.mean(axis=0) + offset / np.linalg.norm(offset) * rng.uniform(0, hardness.off_centre)
    pose[:3, 3] *= scale
    np.maximum(ct, -1000, out=ct)
    return Anatomy(
        ct=volume(ct),
        body_at_cbct=volume(body),
        target=target * scale,
        mesh_ct=(mesh[0] * scale, mesh[1]),
        mesh_cbct=(moved * scale, mesh[1].copy()),
        meta={
            "kind": "heart",
            "scale": scale,
            "fat_mm": chest.fat * scale,
            "female": chest.female,
            "heart_axis": heart.axis.tolist(),
            "heart_pose": pose.tolist(),
            "devices": names,
            "table": "table" in names,
            "residual_mm": scale * residual,
            "body_phases": [torch.from_numpy(b) for b in bodies] or None,
        },
    )


def empty_chest(chest: Chest, spacing: float, rng: np.random.Generator) -> Canvas:
    """The canvas: as wide as the body (340-400 mm), from the upper abdomen to the base of the neck."""
    half = 150 * chest.side + 1.25 * chest.fat + 22
    front = min(-110.0, -96 * chest.depth - 1.0 * chest.fat - 0.9 * chest.breast)
    low = np.array([-half, front - 4, -rng.uniform(118, 158)])
    canvas = Canvas(low, (half, 164 + 0.6 * chest.fat, rng.uniform(128, 160)), spacing, layers=2)
    canvas.wobble = shapes.noise(rng, canvas.shape, 22 / spacing) * np.float32(0.7)
    canvas.wobble += np.float32(0.5) * shapes.noise(rng, canvas.shape, 9 / spacing)
    return canvas


def paint_anatomy(
    canvas: Canvas, chest: Chest, heart: Heart, mesh, rng: np.random.Generator, hardness: Hardness
) -> None:
    """The whole patient into both layers, from outside inwards."""
    hu = blood(rng, hardness.contrast)
    lowest = mesh[0][:, 2] < np.quantile(mesh[0][:, 2], 0.15)
    bed = mesh[0][lowest].mean(axis=0)
    paint_body(canvas, chest)
    paint_lungs(canvas, chest, rng)
    paint_mediastinum(canvas, chest, heart, rng)
    paint_abdomen(canvas, chest, rng, (bed[:2], float(mesh[0][:, 2].min() + 5)))
    paint_vessels(canvas, chest, heart, hu)
    paint_heart(canvas, heart, hu, rng)
    paint_bones(canvas, chest, rng)
    texture = shapes.noise(rng, canvas.shape, 7 / canvas.spacing) * np.float32(6)
    for layer in canvas.layers:
        layer += texture * (layer > -300)


def phase_bodies(
    canvas: Canvas, motion: Motion, strength: float, phases: int, rng: np.random.Generator, hardness: Hardness
) -> list[np.ndarray]:
    """The body at `phases` moments of the gantry's turn, beating and perhaps breathing about a mean state."""
    if phases < 1:
        return []
    beat, breath = rng.uniform(*hardness.beat), rng.choice([0.0, 1.0]) * rng.uniform(*hardness.breath)
    first = rng.uniform(0.25, 0.75) * np.pi  # near an extreme, so that two phases differ as well
    turn = first + 2 * np.pi * np.arange(phases) / phases
    other = turn + rng.uniform(0, 2 * np.pi)
    return [
        motion.field(strength, beat * np.sin(a), breath * np.sin(b)).warp(canvas.layers[CBCT])
        for a, b in zip(turn, other, strict=True)
    ]
