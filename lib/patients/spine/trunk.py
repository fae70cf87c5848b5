"""Skin, fat, muscle and the cavities: the trunk's envelope, by level of the spine."""

from __future__ import annotations

import numpy as np

from lib.patients.shapes import Canvas, Shape, blend, column, coverage, curve, ellipsoid, smooth_max, smooth_min, tube
from lib.patients.spine.plan import Plan, rotation

# Knots: level (0 = T1 .. 16 = L5, 19 = S3, 22 = coccyx).
KNOTS = [-3, 0, 2, 4, 6, 8, 10, 12, 14, 16, 19, 22, 25]
CAVITY_SIDE = [40, 52, 92, 112, 122, 126, 126, 125, 121, 116, 112, 104, 95]
CAVITY_FRONT = [40, 46, 70, 92, 108, 119, 122, 114, 102, 94, 104, 110, 100]  # from the spine's axis
CAVITY_BACK = [10, 14, 32, 38, 40, 39, 37, 33, 29, 26, 26, 34, 30]
WALL_SIDE = [70, 70, 50, 30, 22, 18, 15, 14, 16, 26, 48, 60, 68]
WALL_FRONT = [30, 32, 27, 21, 16, 12, 10, 9, 9, 9, 10, 14, 20]
MUSCLE_BACK = [58, 58, 60, 62, 63, 64, 66, 68, 70, 68, 70, 74, 66]


class Trunk:
    """Outlines (columns) of cavity, muscular wall and skin of one plan; `chest(z)` = cavity's section."""

    def __init__(self, plan: Plan, rng: np.random.Generator, low, high):
        k, fat = plan.scale, plan.fat
        levels = np.array([plan.at(max(n, 0)) for n in KNOTS])
        levels[:, 2] += np.where(np.array(KNOTS) < 0, 75, 0)
        levels[-1, 2] -= 60
        z = levels[:, 2]
        # The trunk follows the spine only in part: it lies on a table.
        smooth_x, mean_y = 0.6 * levels[:, 0], levels[3:11, 1].mean()
        spine_y = mean_y + 0.55 * (levels[:, 1] - mean_y)
        belly = np.interp(KNOTS, [6, 11, 14, 18, 22], [0, 0.7, 1, 0.6, 0]) * fat
        own = rng.normal(1, 0.05, 2)
        side = np.array(CAVITY_SIDE) * k * own[0] * (1.0 if plan.male else 0.98) + 26 * belly
        front = np.array(CAVITY_FRONT) * k * own[1] + (60 if plan.male else 45) * belly
        back = np.array(CAVITY_BACK) * k + (levels[:, 1] - spine_y)
        hips = np.interp(KNOTS, [12, 17, 22], [0, 8, 14]) * (0 if plan.male else 1)
        wall_side = np.array(WALL_SIDE) * k * (0.6 + 0.4 * plan.muscle) + hips
        wall_front = np.array(WALL_FRONT) * k * (0.6 + 0.4 * plan.muscle)
        muscle_back = np.array(MUSCLE_BACK) * k * (0.9 + 0.1 * plan.muscle) + 0.9 * (levels[:, 1] - spine_y)
        fat_side = np.interp(KNOTS, [0, 8, 13, 19], [5 + 14 * fat, 4 + 22 * fat, 6 + 38 * fat, 9 + 42 * fat])
        fat_front = np.interp(KNOTS, [0, 8, 13, 19], [4 + 14 * fat, 4 + 20 * fat, 6 + 38 * fat, 9 + 42 * fat])
        fat_front = fat_front * (1 if plan.male else 1.3)
        fat_back = np.interp(KNOTS, [0, 8, 13, 19], [6 + 14 * fat, 4 + 14 * fat, 5 + 24 * fat, 9 + 32 * fat])
        middle = spine_y - 0.33 * front  # where the section is widest
        self.z = z[::-1]

        def outline(side, front, back, power):
            table = [v[::-1] for v in (smooth_x, middle, side, front + middle - spine_y, back + spine_y - middle)]
            return table, column(self.z, *table, power=power, low=low, high=high)

        self.table, self.cavity = outline(side, front, back, 2.35)
        _, self.muscle = outline(side + wall_side, front + wall_front, muscle_back, 2.3)
        self.skin_table, self.skin = outline(
            side + wall_side + fat_side, front + wall_front + fat_front, muscle_back + fat_back, 2.35
        )
        skin_back = spine_y + muscle_back + fat_back
        # The table flattens the back: y of the contact plane for skin and for muscle.
        chest, seat = skin_back[2:7].max(), skin_back[8:12].max()
        bone = max(levels[2:8, 1].max() + 56 * k, levels[9:12, 1].max() + 40 * k) + 5 + 6 * fat
        self.bottom = float(max(min(chest, seat) - 3 - 6 * fat, bone))
        self.muscle_bottom = self.bottom - 3 - 0.6 * float(fat_back.mean())
        self.half_width = float((side + wall_side + fat_side)[2:12].max())
        self.top = float((spine_y - front - wall_front - fat_front)[2:12].min()) - (0 if plan.male else 14)
        self.breast = 0.0 if plan.male else float((38 + 30 * fat) * rng.uniform(0.7, 1.25))

    def chest(self, z: float) -> list[float]:
        """Cavity's section at height z: centre x, centre y, half-width, reach to front, reach to back."""
        return [float(np.interp(z, self.z, t)) for t in self.table]


def paint_trunk(canvas: Canvas, plan: Plan, trunk: Trunk) -> tuple[np.ndarray, np.ndarray]:
    """Skin, fat, muscular wall, fat-filled cavity. Returns distances to cavity and muscle (nz, ny, nx)."""
    lumps, streaks = canvas.wobble, canvas.texture
    heights = [plan.at(n)[2] for n in (17, 13, 5)]

    def furrow(x, y, z):
        """The lumbar back carries a furrow over the spinous processes."""
        axis = plan.on(z.ravel()).astype(np.float32)
        depth = np.interp(z, heights, [9, 9, 2]).astype(np.float32)
        return (
            depth
            * np.exp(-(((x - axis[:, 0, None, None]) / 13) ** 2))
            * np.clip((y - axis[:, 1, None, None] - 30) / 20, 0, 1)
        ).astype(np.float32)

    def skin_at(x, y, z):
        skin = smooth_max(trunk.skin.distance(x, y, z) + 0.6 * furrow(x, y, z), y - np.float32(trunk.bottom), 14)
        for breast in breasts(plan, trunk):
            skin = smooth_min(skin, breast.distance(x, y, z), 15)
        return skin

    def muscle_at(x, y, z):
        return smooth_max(trunk.muscle.distance(x, y, z) + furrow(x, y, z), y - np.float32(trunk.muscle_bottom), 14)

    cavity, muscle, skin = (canvas.field(f) for f in (trunk.cavity.distance, muscle_at, skin_at))
    muscle = muscle + np.float32(1.5) * lumps
    marbling = np.float32(0.75 + 0.9 * plan.muscle)
    tissue = np.where(streaks > marbling, np.float32(-35), np.float32(52)) + 5 * lumps
    image = np.full(canvas.shape, -1000, np.float32)
    blend(image, np.float32(5), coverage(skin, canvas.spacing))
    blend(image, -104 + 5 * lumps, coverage(skin + np.float32(2.2), canvas.spacing))
    blend(image, tissue, coverage(muscle, canvas.spacing))
    strands = np.where(np.abs(streaks) > 1.9, np.float32(35), np.float32(0)) + 7 * lumps - 98
    blend(image, strands, coverage(cavity, canvas.spacing))
    for layer in canvas.layers:
        np.copyto(layer, image)
    return cavity, muscle


def breasts(plan: Plan, trunk: Trunk) -> list[Shape]:
    """They fall to the sides of a woman lying on her back; none for a man."""
    z = float(plan.at(6.8)[2])
    cx, cy, side, front, _ = (np.interp(z, trunk.z, t) for t in trunk.skin_table)
    size = np.array([1.15, 0.55, 1.2]) * trunk.breast
    return [
        ellipsoid([cx + s * 0.55 * side, cy - 0.80 * front, z], size, rotation(0, 0, s * 25))
        for s in (-1, 1)
        if trunk.breast
    ]


def paint_back_muscles(canvas: Canvas, plan: Plan, wall: np.ndarray) -> None:
    """Erector spinae, psoas, quadratus lumborum and buttocks, with fat planes between them."""
    k, m = plan.scale, plan.muscle
    fatty = -25.0

    def along(levels, offsets, side):
        pairs = zip(levels, offsets, strict=True)
        return curve([plan.at(n) + np.array([side * o[0], o[1], 0]) * k for n, o in pairs], 10)

    for s in (-1, 1):
        path = along(
            [-0, 4, 8, 11, 13, 15, 17, 19],
            [(20, 40), (22, 40), (26, 42), (34, 43), (37, 45), (36, 47), (28, 42), (20, 38)],
            s,
        )
        r = (
            np.interp(np.linspace(0, 1, len(path)), [0, 0.3, 0.55, 0.75, 0.9, 1], [11, 13, 18, 22.5, 19, 11])
            * k
            * (0.8 + 0.2 * m)
        )
        canvas.paint(tube(path, r + 1.2, flatten=(0.64, 1, 1)), fatty)
        canvas.paint(tube(path, r, flatten=(0.64, 1, 1)), 50.0, wobble=1.0)
        cleft = along([8, 11, 13, 15, 17], [(24, 45), (38, 46), (44, 47), (42, 48), (30, 44)], s)
        canvas.paint(tube(cleft, 4.5 * k, flatten=(2.4, 0.5, 1)), float(40 - 70 * (1.3 - m)), edge=3, wobble=2.5)
        deep = along([11, 13, 15, 17], [(12, 34), (13, 36), (14, 38), (13, 36)], s)
        canvas.paint(tube(deep, 9 * k), 46.0, wobble=0.8)
        loin = along([11.5, 13.2, 15.2], [(48, 16), (62, 20), (76, 16)], s)
        canvas.paint(tube(loin, [7, 10, 9][:1] * len(loin), flatten=(0.6, 1.2, 1)), 52.0, wobble=0.6)
        psoas = along([11.4, 13, 14.5, 16, 18, 20.5], [(23, 4), (31, 0), (38, -4), (46, -14), (56, -34), (66, -56)], s)
        r = (
            np.interp(np.linspace(0, 1, len(psoas)), [0, 0.3, 0.55, 0.8, 1], [5, 13, 19, 19, 14])
            * k
            * (0.75 + 0.25 * m)
        )
        canvas.paint(tube(psoas, r + 2.0), -90.0)
        canvas.paint(tube(psoas, r), 54.0, wobble=0.8)
        for level, offset, size in (
            (18.5, (80, 52), (50, 26, 55)),
            (20.5, (75, 45), (58, 32, 50)),
            (18, (112, 5), (16, 42, 48)),
        ):
            centre = plan.at(level) + np.array([s * offset[0], offset[1], 0]) * k
            found = canvas.distance(ellipsoid(centre, np.array(size) * k), margin=6)
            if found:
                window, d = found
                d = np.maximum(d + 2 * canvas.wobble[window], wall[window] + 1)
                for layer in canvas.layers:
                    blend(layer[window], np.float32(48), coverage(d, canvas.spacing))
        hollow = plan.at(17.6) + np.array([s * 82, -8, 0]) * k  # iliacus
        canvas.paint(ellipsoid(hollow, np.array([14, 34, 42]) * k), 50.0, wobble=1.0)


def dome(plan: Plan, trunk: Trunk, breath: float):
    """Height (mm) of the diaphragm as a function z(x, y); `breath` mm lowers it."""
    k = plan.scale
    right, left = plan.at(8.2)[2] - breath, plan.at(8.9)[2] - breath
    cx, cy, side, front, back = trunk.chest(right)

    def height(x, y):
        out = None
        for s, top in ((-1, right), (1, left)):
            mid_y = cy - 0.05 * front
            u, v = (
                (x - cx - s * 0.5 * side) / (0.66 * side),
                np.where(y < mid_y, (y - mid_y) / (front * 1.15), (y - mid_y) / (back * 1.12)),
            )
            fall = np.minimum(u * u + v * v, 1.6)
            # A flat crown, then a steep fall into the recesses, deeper behind.
            z = top - k * (
                20 * fall + 75 * np.clip(fall, 0, 1.3) ** 3 * np.where(v > 0, 1.0, 0.35 + 0.65 * np.abs(u).clip(0, 1))
            )
            out = z if out is None else np.maximum(out, z)
        # The recesses end at the costal margin: high in front, low behind.
        floor = np.interp(y, [cy - front, cy, cy + back], [plan.at(n)[2] - 0.5 * breath for n in (9.4, 10.6, 12.6)])
        return np.maximum(out, floor).astype(np.float32)

    return height


def half_space(axis: int, at: float, sign: int):
    """Distance function of a half-space: sign * (coordinate - at) < 0 is inside."""

    def distance(x, y, z):
        return np.float32(sign) * ((x, y, z)[axis] - np.float32(at)) + 0 * x + 0 * y + 0 * z

    return distance
