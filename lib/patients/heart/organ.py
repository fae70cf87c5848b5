"""The heart: epicardium (an implicit surface and the closed mesh on it), chambers, coronaries.

Drawn in the chest's canonical millimetres. The left ventricle's long axis points left, anterior, inferior.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.patients import shapes
from lib.patients.heart.chest import Chest
from lib.patients.shapes import Canvas, Shape

AXIS = np.array([0.72, -0.52, -0.46])  # towards the apex, before the patient's own turn
# name: centre, half-axes, direction of the first half-axis (None: along x, y, z), mm about the heart's centre
PARTS = {
    "lv": ((27, -1, -13), (48, 34, 34), AXIS),
    "rv": ((6, -23, -15), (45, 27, 34), np.array([0.82, -0.30, -0.48])),
    "outflow": ((13, -22, 20), (19, 18, 28), None),
    "ra": ((-39, -3, -8), (25, 27, 34), None),
    "la": ((-1, 26, 15), (36, 18, 23), None),
    "groove": ((-6, 2, -12), (38, 28, 30), None),
    "root": ((-4, -2, 26), (30, 26, 20), None),
}


@dataclass
class Heart:
    """One patient's heart: where it lies, how large, how turned."""

    centre: np.ndarray
    turn: np.ndarray  # (3, 3)
    scale: float
    fat: float  # epicardial fat between the epicardium and the muscle, mm
    radii: dict = field(default_factory=dict)  # factors of the parts' half-axes, (3,) each
    fillet: float = 22.0

    @classmethod
    def random(cls, rng: np.random.Generator, chest: Chest) -> Heart:
        axis = rng.normal(size=3)
        heart = cls(
            centre=np.array([rng.normal(16, 4), 0.0, rng.normal(0, 5)]),
            turn=turn_about(axis / np.linalg.norm(axis), np.radians(rng.uniform(-17, 17))),
            scale=float(np.clip(rng.normal(1.07, 0.07), 0.92, 1.24)),
            fat=rng.uniform(0.8, 3.5),
            fillet=rng.uniform(14, 22),
            radii={name: 1 + rng.normal(0, 0.06, 3) for name in PARTS},
        )
        return heart.fitted(chest, rng)

    def fitted(self, chest: Chest, rng: np.random.Generator) -> Heart:
        """Moved (and shrunk if need be) so that it lies between the sternum and the spine."""
        vertices, _ = self.mesh()
        low, high = vertices[:, 1].min(), vertices[:, 1].max()
        front = chest.front(0.0) + 7
        back = chest.spine(self.centre[2] + 10)[1] - 27
        self.scale *= min(1.0, (back - front) / (high - low))
        room = (back - front) - min(high - low, back - front)
        vertices, _ = self.mesh()
        self.centre[1] += front + rng.uniform(0.0, 0.6) * room - vertices[:, 1].min()
        return self

    def at(self, points) -> np.ndarray:
        """Heart's own mm -> chest."""
        return self.centre + self.scale * np.asarray(points, float) @ self.turn.T

    def part(self, name: str, shrink: float = 0.0) -> Shape:
        """One ellipsoid of `PARTS`, its half-axes shortened by `shrink` mm."""
        centre, radii, axis = PARTS[name]
        frame = np.eye(3) if axis is None else basis(axis)
        radii = self.scale * np.asarray(radii) * self.radii[name] - shrink
        return shapes.ellipsoid(self.at(centre), radii, self.turn @ frame)

    def epicardium(self) -> Shape:
        """Signed distance whose zero is the epicardium."""
        return shapes.union(*(self.part(name) for name in PARTS), smooth=self.fillet)

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Closed mesh on the epicardium: 2562 vertices, each on a ray from the centre, faces outwards."""
        import trimesh

        sphere = trimesh.creation.icosphere(subdivisions=4)
        rays, shape = np.asarray(sphere.vertices), self.epicardium()

        def value(t):  # (..., n)
            p = (self.centre + t[..., None] * rays).astype(np.float32)
            return shape.distance(p[..., 0], p[..., 1], p[..., 2])

        steps = np.arange(4.0, 124.0, 4.0)
        outer = len(steps) - 1 - np.argmax((value(steps[:, None] + np.zeros(len(rays))) < 0)[::-1], axis=0)
        low, high = steps[outer], steps[outer] + 4
        for _ in range(12):
            middle = 0.5 * (low + high)
            inside = value(middle) < 0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return self.centre + (0.5 * (low + high))[:, None] * rays, np.asarray(sphere.faces)

    @property
    def axis(self) -> np.ndarray:
        """(3,) unit vector from the base to the apex."""
        return self.turn @ (AXIS / np.linalg.norm(AXIS))


def turn_about(axis: np.ndarray, angle: float) -> np.ndarray:
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def basis(axis: np.ndarray) -> np.ndarray:
    """(3, 3) rotation whose first column is `axis`; the third leans to the head."""
    a = axis / np.linalg.norm(axis)
    b = np.cross([0, 0, 1.0], a)
    b /= np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)], axis=1)


def blood(rng: np.random.Generator, contrast: tuple[float, float] = (1.0, 1.0)) -> dict[str, list[float]]:
    """HU in [CT, body at the CBCT]: CT angiography timed for the left heart, a CBCT mostly without. `contrast`: the range of
    what is left of the CBCT's between blood and muscle, as a share."""
    left = rng.uniform(240, 430)
    right = left * rng.uniform(0.35, 1.1)
    now = {name: rng.uniform(30, 55) for name in ("left", "right", "vein")}
    if rng.random() < 0.35:  # rotational angiography of one side, washed out
        now[rng.choice(["left", "right"])] = rng.uniform(90, 240)
    hu = {
        "left": [left, now["left"]],
        "right": [right, now["right"]],
        "vein": [right * rng.uniform(0.8, 1.7), now["vein"]],
        "lower_vein": [rng.uniform(60, 160), now["vein"]],
        "muscle": [rng.uniform(85, 125), rng.uniform(45, 62)],
    }
    if contrast != (1.0, 1.0):
        share, muscle = rng.uniform(*contrast), hu["muscle"][1]
        hu = {name: [ct, muscle + share * (cbct - muscle)] for name, (ct, cbct) in hu.items()}
    return hu


def paint_heart(canvas: Canvas, heart: Heart, hu: dict, rng: np.random.Generator) -> None:
    """Epicardial fat inside the epicardium, muscle, chambers, valve plane, coronaries."""
    window, d = canvas.distance(heart.epicardium(), margin=4)
    for layer in canvas.layers:
        shapes.blend(layer[window], np.float32(-75), shapes.coverage(d, canvas.spacing))
        pericardium = 0.4 * np.clip(1.2 - np.abs(d) / canvas.spacing, 0, 1)
        shapes.blend(layer[window], np.float32(10), pericardium)
    fat, k = heart.fat, heart.scale
    wall = rng.uniform(8, 12) * k
    lv, ra, la = (heart.part(n, fat) for n in ("lv", "ra", "la"))
    rv = shapes.union(heart.part("rv", fat), heart.part("outflow", fat), smooth=10)
    auricles = [
        shapes.tube(shapes.curve([heart.at(p) for p in path], 4), radius * k, smooth=4)
        for path, radius in (
            (((-34, -14, 14), (-24, -26, 26), (-12, -28, 32)), 8.0),
            (((32, 22, 20), (44, 8, 24), (40, -6, 26)), 7.5),
        )
    ]
    for shape in (ra, la, *(shapes.grown(shape, 1.5) for shape in auricles), rv, lv):
        canvas.paint(shape, hu["muscle"])
    lump = shapes.noise(rng, canvas.shape, 12 / canvas.spacing)
    cavity(canvas, lump, ra, 2.0, hu["right"], 0.8, shapes.grown(la, 1.5), shapes.grown(lv, 2.0))
    cavity(canvas, lump, la, 2.0, hu["left"], 0.5, shapes.grown(lv, 1.0))
    cavity(canvas, lump, rv, 3.0, hu["right"], 1.6, shapes.grown(lv, 0.5))
    paint_left_ventricle(canvas, heart, hu, wall, lump)
    for a, b, r, name in (
        ((-22, -4, -8), (-2, -16, -12), 15, "right"),
        ((8, 18, 6), (14, 12, -2), 13, "left"),
        ((6, 6, 2), (-2, -5, 16), 11, "left"),
    ):  # open valves join the chambers
        canvas.paint(shapes.tube([heart.at(a), heart.at(b)], r * k), hu[name])
    for shape, name in zip(auricles, ("right", "left"), strict=True):
        canvas.paint(shapes.grown(shape, -0.5), hu[name])
    coronaries(canvas, heart, hu, rng)


def cavity(canvas: Canvas, lump: np.ndarray, shape: Shape, depth: float, value, rough: float, *keep_out: Shape) -> None:
    """Blood (`value`, HU a layer) `depth` mm inside a chamber and outside `keep_out`, its wall `rough` mm by `lump`."""
    inner = shapes.grown(shape, -depth)
    if keep_out:
        inner = shapes.subtract(inner, *keep_out, smooth=4)
    window, d = canvas.distance(inner, margin=4)
    alpha = shapes.coverage(d + np.float32(rough) * lump[window], canvas.spacing)
    for layer, v in zip(canvas.layers, value, strict=True):
        shapes.blend(layer[window], np.float32(v), alpha)


def paint_left_ventricle(canvas: Canvas, heart: Heart, hu: dict, wall: float, lump: np.ndarray) -> None:
    """Its cavity, inside a wall of `wall` mm, and the two papillary muscles."""
    centre, radii, axis = PARTS["lv"]
    centre, own = np.asarray(centre), basis(axis)
    inner = shapes.ellipsoid(
        heart.at(centre - 0.12 * 48 * axis),
        heart.scale * np.asarray(radii) * heart.radii["lv"] - heart.fat - wall,
        heart.turn @ own,
    )
    cavity(canvas, lump, inner, 0.0, hu["left"], 1.6)
    for s in (0.5, -0.5):
        ends = [heart.at(centre + 20 * axis + 12 * s * own[:, 2]), heart.at(centre + 2 * axis + 20 * s * own[:, 2])]
        canvas.paint(shapes.tube(ends, 3.2 * heart.scale), hu["muscle"])


def coronaries(canvas: Canvas, heart: Heart, hu: dict, rng: np.random.Generator) -> None:
    """Three arteries in the fat of their grooves, calcified in some patients."""
    shape = heart.epicardium()
    for path in (
        [(10, -8, 18), (30, -22, 16), (42, -40, -6), (56, -44, -34)],
        [(8, 0, 16), (40, 12, 10), (40, 30, -10)],
        [(-8, -18, 14), (-28, -26, 0), (-24, -24, -30), (-6, 0, -44)],
    ):
        line = shapes.curve(heart.at(path), 3)
        for _ in range(3):  # settle just under the epicardium
            d = shape.distance(*line.T.astype(np.float32))
            away = line - heart.centre
            line = line - (d + 3.0)[:, None] * away / np.linalg.norm(away, axis=1, keepdims=True)
        canvas.paint(shapes.tube(line, 3.4), -70.0)
        canvas.paint(shapes.tube(line, np.linspace(2.2, 1.2, len(line))), [0.85 * hu["left"][0], 45.0])
        for n in np.flatnonzero(rng.random(len(line)) < rng.choice([0.0, 0.06, 0.2])):
            canvas.paint(shapes.ellipsoid(line[n], rng.uniform(1.5, 3, 3)), 800.0)
