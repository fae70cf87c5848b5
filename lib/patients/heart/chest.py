"""The chest round the heart: its measures, body wall and bones.

Everything is drawn in canonical millimetres (x left, y posterior, z superior): x = 0 is the midline, the heart's centre
lies near (16, 0, 0), the vertebral bodies near y = 70. `draw.draw` scales the result to the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.patients import shapes
from lib.patients.shapes import Canvas, Shape

CAVITY_Z = np.array([-190, -130, -90, -45, 0, 45, 80, 105, 125, 142, 152.0])
CAVITY_SIDE = np.array([108, 118, 122, 123, 120, 113, 100, 82, 62, 38, 12.0])
CAVITY_FRONT = np.array([-58, -72, -76, -72, -64, -57, -48, -38, -22, -2, 12.0])
CAVITY_BACK = np.array([76, 88, 94, 98, 100, 99, 94, 87, 77, 62, 46.0])
CAVITY_MIDDLE = np.array([8, 14, 18, 20, 22, 22, 22, 22, 24, 26, 28.0])
WALL_Z = np.array([-190, -60, 0, 60, 100, 130, 190.0])
WALL_SIDE = np.array([124, 132, 132, 139, 154, 166, 174.0])
WALL_FRONT = np.array([-80, -88, -82, -74, -66, -56, -46.0])
WALL_BACK = np.array([112, 122, 126, 128, 126, 120, 112.0])


@dataclass
class Chest:
    """The numbers that make one chest differ from the next (canonical mm unless said otherwise)."""

    side: float  # factor on the width
    depth: float  # factor on the reach to the front
    fat: float  # thickness under the skin
    female: bool
    breast: float
    kyphosis: float
    scoliosis: float
    domes: tuple[float, float]  # tops of the right and left diaphragm
    spine_hu: float
    slope: float  # how steeply the ribs fall to the front

    @classmethod
    def random(cls, rng: np.random.Generator) -> Chest:
        fat = float(rng.gamma(4.0, 4.3) + 4)
        female = bool(rng.random() < 0.45)
        right = rng.normal(-36, 8)
        return cls(
            side=rng.normal(1.0, 0.05),
            depth=rng.normal(1.02, 0.06),
            fat=fat,
            female=female,
            breast=rng.uniform(8, min(14 + fat, 42)) if female else rng.uniform(0, 6),
            kyphosis=rng.uniform(0.0003, 0.0009),
            scoliosis=rng.normal(0, 3),
            domes=(right, right - rng.uniform(4, 20)),
            spine_hu=rng.uniform(130, 260),
            slope=rng.uniform(0.85, 1.2),
        )

    def spine(self, z):
        """Centres (x, y) of the vertebral bodies at heights z."""
        z = np.asarray(z, float)
        return self.scoliosis * np.sin(z / 60), 70 - self.kyphosis * (z - 40) ** 2

    def cavity(self, grow: float = 0.0) -> Shape:
        """What the ribs enclose."""
        return shapes.column(
            CAVITY_Z,
            0,
            CAVITY_MIDDLE,
            CAVITY_SIDE * self.side + grow,
            CAVITY_MIDDLE - CAVITY_FRONT * self.depth + grow,
            CAVITY_BACK - CAVITY_MIDDLE + grow,
        )

    def wall(self, grow: float) -> Shape:
        """Outline of the muscles (grow = 0) or of the skin (grow = fat)."""
        lower = np.interp(WALL_Z, [-190, 0, 130], [1.25, 1.0, 0.7])
        return shapes.column(
            WALL_Z,
            0,
            22,
            WALL_SIDE * self.side + grow * lower,
            22 - WALL_FRONT * self.depth + 0.75 * grow * lower,
            WALL_BACK - 22 + 0.55 * grow,
            2.6,
        )

    def front(self, z):
        """y of the inner face of the front chest wall."""
        return np.interp(z, CAVITY_Z, CAVITY_FRONT * self.depth)

    def on_cage(self, angle, z, out: float) -> np.ndarray:
        """Points (n, 3) of the left half of the rib cage; angle 0 = at the spine, pi = at the sternum."""
        mid, side = (
            np.interp(z, CAVITY_Z, CAVITY_MIDDLE),
            np.interp(z, CAVITY_Z, CAVITY_SIDE) * self.side + out,
        )
        s, c = np.sin(angle), np.cos(angle)
        reach = np.where(c > 0, np.interp(z, CAVITY_Z, CAVITY_BACK) - mid, mid - self.front(z)) + out
        power = lambda v: np.sign(v) * np.abs(v) ** (2 / 2.4)  # noqa: E731
        return np.stack([side * power(s), mid + reach * power(c), np.broadcast_to(z, s.shape)], axis=-1)

    def diaphragm(self, bed: tuple[np.ndarray, float]):
        """Height of the diaphragm as a function of (x, y); `bed`: (x, y) and height where the heart rests."""
        (bx, by), height = bed

        def dome(x, y, cx, cy, rx, front, back, top, fall):
            v = np.where(y < cy, (cy - y) / front, (y - cy) / back)
            return top - fall * (((x - cx) / rx) ** 2 + v * v) ** 1.3

        def surface(x, y):
            right = dome(x, y, -60 * self.side, 4, 70 * self.side, 90, 88, self.domes[0], 62)
            left = dome(x, y, 68 * self.side, 8, 64 * self.side, 88, 86, self.domes[1], 58)
            rest = dome(x, y, bx, by, 62, 60, 60, height, 22)
            return shapes.smooth_max(shapes.smooth_max(right, left, 18), rest, 12)

        return surface


def paint_body(canvas: Canvas, chest: Chest) -> None:
    """Skin, subcutaneous fat, breasts, muscles of the trunk."""
    skin = chest.wall(chest.fat)
    breasts = []
    for s in (-1, 1):
        centre = (s * 78 * chest.side, -78 * chest.depth - 0.6 * chest.fat - 0.25 * chest.breast, 12)
        breasts.append(shapes.ellipsoid(centre, (62, 14 + chest.breast, 60)))
    if chest.breast > 8:
        outline = shapes.union(skin, *breasts, smooth=26)
        outline.coarse = 2
        canvas.paint(outline, 10.0, wobble=1.0)
        canvas.paint(shapes.grown(outline, -3), -102.0, wobble=1.0)
        for b in breasts:  # strands of gland
            window, d = canvas.distance(b)
            gland = np.clip(canvas.wobble[window] - 0.6, 0, 1) * (d < -9) * np.float32(90)
            for layer in canvas.layers:
                layer[window] += gland
    else:
        canvas.paint(skin, 10.0, wobble=1.0)
        canvas.paint(shapes.grown(skin, -2.5), -102.0, wobble=1.0)
    canvas.paint(chest.wall(0), 52.0, wobble=2.0)
    window, d = canvas.distance(chest.wall(0))  # a sheet of fat between two layers of muscle, with gaps
    sheet = np.clip(1.3 - np.abs(d + 9 + 2.5 * canvas.wobble[window]) / 1.6, 0, 1)
    sheet *= np.clip(0.7 + canvas.wobble[window][::-1], 0, 1)
    for layer in canvas.layers:
        layer[window] -= np.float32(115) * sheet
    for s in (-1, 1):  # fat in the armpits and between the layers of muscle
        canvas.paint(shapes.ellipsoid((s * 118, 4, 118), (26, 30, 46)), -90.0, wobble=4)
        canvas.paint(
            shapes.tube([(s * 50, 128, -100), (s * 70, 124, 0), (s * 70, 118, 90)], 3.5, flatten=(0.25, 1, 1)),
            -80.0,
            wobble=2,
        )
        canvas.paint(
            shapes.tube([(s * 132 * chest.side, -20, -30), (s * 128 * chest.side, -30, 70)], 3.0, flatten=(1, 0.2, 1)),
            -80.0,
            wobble=2,
        )
        canvas.paint(
            shapes.tube([(s * 60, -64 * chest.depth, 100), (s * 85, -68 * chest.depth, 30)], 3.0, flatten=(0.2, 1, 1)),
            -75.0,
            wobble=2,
        )


def paint_bones(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    """Spine T1..L2, twelve pairs of ribs with their cartilages, sternum, clavicles, shoulder blades."""
    heights = 148 - np.concatenate([[0], np.cumsum(np.linspace(19.5, 27, 14))]) + rng.uniform(-8, 8)
    inside = float(canvas.axes[2][0]) - 30
    for z, gap in zip(heights, np.linspace(19.5, 27, 15), strict=True):
        if z > inside:
            vertebra(canvas, chest, z, gap)
    for n in range(12):
        for s in (-1, 1):
            rib(canvas, chest, n, s, heights[n] + 6)
    top, low = chest.front(108) - 9, chest.front(-20) - 8
    sternum = shapes.curve([(0, top, 110), (0, chest.front(70) - 10, 70), (0, low, -20), (0, low + 4, -48)], 10)
    width = np.interp(sternum[:, 2], [-48, -35, 60, 85, 110], [3.2, 5, 4.6, 6.5, 8.5])
    bone(canvas, shapes.tube(sternum, width, flatten=(0.38, 1, 1)), 430.0, 150.0)
    for s in (-1, 1):
        clavicle = shapes.curve(
            [
                (s * 24, top - 1, 112),
                (s * 70, top - 10, 126),
                (s * 110, top + 14, 140),
                (s * 150, top + 34, 148),
            ]
        )
        bone(canvas, shapes.tube(clavicle, 6.0), 650.0, 300.0)
        turn = rotation(-0.62 * s)
        blade = shapes.placed(shapes.ellipsoid((0, 0, 0), (44, 5, 64)), turn, (s * 93 * chest.side, 88, 80))
        canvas.paint(shapes.intersect(shapes.grown(blade, 9), chest.wall(0.7 * chest.fat)), 52.0, wobble=2)
        bone(canvas, shapes.grown(blade, -1.5), 420.0, 380.0)
        bone(
            canvas,
            shapes.tube([(s * 72, 114, 92), (s * 112, 94, 112), (s * 150, 54, 136)], (4, 6, 7)),
            520.0,
            260.0,
        )
        bone(canvas, shapes.ellipsoid((s * 168, 36, 150), (22, 22, 24)), 520.0, 220.0)


def vertebra(canvas: Canvas, chest: Chest, z: float, gap: float) -> None:
    x, y = (float(v) for v in chest.spine(z))
    half = np.array([gap * 0.66, gap * 0.58, gap * 0.42])
    canvas.paint(drum((x, y, z - gap / 2), half * (1, 1, 0.45)), 85.0)
    arch = []
    for s in (-1, 1):
        arch.append(
            shapes.tube(
                [
                    (x + s * 11, y + half[1] - 2, z + 3),
                    (x + s * 14, y + half[1] + 12, z + 2),
                    (x + s * 32, y + half[1] + 19, z + 6),
                ],
                (5, 6, 4.2),
            )
        )
        arch.append(shapes.tube([(x + s * 13, y + half[1] + 13, z), (x, y + half[1] + 22, z - 5)], 4.2))
    arch.append(shapes.tube([(x, y + half[1] + 22, z - 4), (x, y + half[1] + 42, z - 24)], (4.5, 4)))
    for part in arch:
        bone(canvas, part, 480.0, 260.0)
    bone(canvas, drum((x, y, z), half), 400.0, chest.spine_hu)
    canvas.paint(shapes.tube([(x, y + half[1] + 8.5, z - gap / 2), (x, y + half[1] + 8.5, z + gap / 2)], 7.5), 28.0)


def drum(centre, half) -> Shape:
    """A vertebral body: a rounded section, waisted, flat at the top and the bottom."""
    c, h = np.asarray(centre, np.float32), np.asarray(half, np.float32)

    def distance(x, y, z):
        x, y, z = x - c[0], y - c[1], z - c[2]
        waist = 0.92 + 0.08 * (z / h[2]) ** 2
        k = (np.abs(x / h[0]) ** 2.4 + np.abs(y / h[1]) ** 2.4) ** np.float32(1 / 2.4)
        return shapes.smooth_max((k / waist - 1) * h[1], np.abs(z) - h[2], 3)

    return Shape(c - h - 1, c + h + 1, distance)


def rib(canvas: Canvas, chest: Chest, n: int, s: int, z: float) -> None:
    """Rib n (0 = first) of side s (-1, 1): bone round the flank, then cartilage to the sternum."""
    end = (2.55, 2.5, 2.45, 2.4, 2.35, 2.3, 2.2, 2.1, 2.0, 1.85, 1.4, 1.1)[n]
    drop = np.interp(n, [0, 2, 6, 9, 11], [38, 62, 92, 90, 60]) * chest.slope
    angle = np.linspace(0.2, end, 26)
    heights = z - drop * (0.5 - 0.5 * np.cos(angle * np.pi / 2.9))
    path = chest.on_cage(angle, np.minimum(heights, 140 - 3 * n), 4.0)
    x, y = chest.spine(z)
    path = np.concatenate([[(x + 17, y + 10, z)], path]) * (s, 1, 1)
    bone(
        canvas,
        shapes.tube(path, np.interp(np.arange(27), [0, 3, 20, 26], [3, 3.4, 3.6, 4.2]), flatten=(1, 1, 0.6)),
        640.0,
        190.0,
    )
    if n < 10:
        start = path[-1]
        meet = np.array([s * 17, 0, np.interp(n, [0, 1, 6, 9], [104, 84, -28, -44])])
        meet[1] = chest.front(meet[2]) - 6
        middle = 0.5 * (start + meet) + (s * 5, -3, -10 if n > 5 else -2)
        canvas.paint(shapes.tube(shapes.curve([start, middle, meet], 9), 4.6, flatten=(1, 1, 0.75)), 105.0)


def bone(canvas: Canvas, shape: Shape, shell: float, marrow: float, wall: float = 1.7) -> None:
    canvas.paint(shape, shell)
    canvas.paint(shapes.grown(shape, -wall), marrow)


def rotation(about_z: float) -> np.ndarray:
    c, s = np.cos(about_z), np.sin(about_z)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
