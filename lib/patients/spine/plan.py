"""One patient on paper: sex, habitus, age, vertebral sizes, the curve of the spine. Nothing is drawn here.

Sizes follow the morphometry of adult thoraco-lumbar vertebrae: bodies grow from about 26 x 19 x 18 mm at T3 to 50 x 35
x 28 mm at L4 (width, depth, height), neighbours differing by a few percent: look-alikes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LEVELS = [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 6)]
#         T1    T2  T3  T4  T5    T6  T7  T8    T9  T10 T11   T12   L1    L2    L3  L4    L5  (adult man, mm)
WIDTH = [29.0, 28, 27, 26.5, 27, 28, 29, 30.5, 32, 34, 37.0, 40.5, 43.0, 45.0, 48, 50.0, 52.0]
DEPTH = [17.0, 18, 19, 21.0, 23, 25, 27, 28.5, 30, 31, 31.5, 32.0, 33.0, 34.0, 35, 35.5, 35.5]
HEIGHT = [17.0, 18, 18, 19.0, 19.5, 20, 20.5, 21, 22, 23, 24.0, 25.5, 26.5, 27.5, 28, 28.0, 27.5]
DISC = [4.5, 4, 3.5, 3.5, 3.5, 4, 4.5, 4.5, 5, 5.5, 6, 7, 8, 9.5, 10.5, 11, 10.5]  # below the body
# Tangent of the column in the sagittal plane: going up, positive = towards the back (degrees; supine adult).
TILT_LEVELS = [0, 3, 5, 7, 9, 11, 12, 13, 14, 15, 16, 17]
TILT = [-27, -15, -7, 1, 9, 13, 13, 10, 5, -3, -14, -31]


@dataclass
class Vertebra:
    """Local frame: origin = centre of the body, columns of `rotation` = its left, back, up in the world."""

    name: str
    centre: np.ndarray
    rotation: np.ndarray
    width: float
    depth: float
    height: float
    wedge: float  # mm by which the front is lower than the back
    concavity: float  # mm, end plates sink by this much
    fractured: bool = False
    osteophyte: float = 0.0  # mm
    jitter: np.ndarray = field(default_factory=lambda: np.zeros(8))  # unit normals: the individual's processes

    def world(self, points) -> np.ndarray:
        """Own coordinates (..., 3) -> world."""
        return np.asarray(points, float) @ self.rotation.T + self.centre


@dataclass
class Plan:
    """All about one patient that the drawing needs. Lengths in mm, LPS; the spine is near x = y = 0."""

    male: bool
    scale: float
    fat: float  # 0 = thin .. 1 = obese
    muscle: float
    age: float  # years
    bone: float  # 1 = normal density, less = osteopenia
    vertebrae: list[Vertebra]
    sacrum: np.ndarray  # (4, 4) frame of S1's upper end plate
    meta: dict

    def at(self, level: float) -> np.ndarray:
        """Point of the spine's axis at a level: 0 = T1 .. 16 = L5, 17 = S1, 20 = S4; fractions between."""
        return np.array([np.interp(level, np.arange(len(self.axis)), self.axis[:, n]) for n in range(3)])

    def on(self, z) -> np.ndarray:
        """Points (..., 3) of the spine's axis at heights z."""
        order = self.axis[::-1]
        return np.stack([np.interp(z, order[:, 2], order[:, n]) for n in range(3)], axis=-1)

    @property
    def axis(self) -> np.ndarray:
        """(23, 3): centres of T1..L5, then points down the sacrum."""
        s = self.sacrum[:3]
        down = [
            s[:, 3] + s[:, :3] @ p
            for p in ((0, 0, -14), (0, 2, -34), (0, 2, -53), (0, -5, -72), (0, -18, -90), (0, -40, -108))
        ]
        return np.array([v.centre for v in self.vertebrae] + down)


def rotation(tilt: float, side: float, axial: float) -> np.ndarray:
    """Frame of a vertebra (degrees): tilt leans its top back, side to the left, axial turns it left."""
    t, s, a = np.radians([tilt, side, axial])
    lean = np.array([[1, 0, 0], [0, np.cos(t), np.sin(t)], [0, -np.sin(t), np.cos(t)]])
    bend = np.array([[np.cos(s), 0, np.sin(s)], [0, 1, 0], [-np.sin(s), 0, np.cos(s)]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return bend @ lean @ turn


@dataclass(frozen=True)
class Wear:
    """What age has done to the column."""

    old: float  # 0 at 50 years .. 1 at 85
    height: float  # discs have this share of their height
    breaks: frozenset[int]  # numbers of the fractured vertebrae
    degenerate: float  # 0 .. 1


def make(rng: np.random.Generator) -> Plan:
    """Draw one patient from the population."""
    male, age = bool(rng.random() < 0.55), float(rng.uniform(35, 88))
    scale = (1.0 if male else 0.91) * rng.normal(1, 0.045)
    fat = float(np.clip(rng.beta(1.7, 2.3), 0.03, 1))
    old = np.clip((age - 50) / 35, 0, 1)
    kyphosis, lordosis = rng.uniform(0.5, 1.3) + 0.6 * old * rng.random(), rng.uniform(0.45, 1.15)
    tilt = tilts(rng, kyphosis, lordosis)
    cobb = rng.uniform(12, 28) if rng.random() < 0.15 else abs(rng.normal(0, 4))
    wave = np.sin((np.arange(18) - rng.uniform(3, 14)) / rng.uniform(4, 8) * np.pi)
    side = rng.choice([-1, 1]) * cobb / 2 * wave
    height = 1 - 0.3 * old * rng.random()
    breaks = frozenset({int(rng.integers(5, 15))} if rng.random() < 0.08 + 0.2 * old else ())
    wear = Wear(old, height, breaks, 0.8 * old * rng.random() + 0.2 * rng.random())
    vertebrae = column(rng, tilt, side, scale, wear)
    middle = np.mean([v.centre for v in vertebrae], axis=0)
    middle[2] = vertebrae[11].centre[2]
    for v in vertebrae:
        v.centre = v.centre - middle
    sacrum = np.eye(4)
    sacrum[:3, :3], sacrum[:3, 3] = rotation(tilt[17], 0, 0), -middle
    meta = {
        "sex": "male" if male else "female",
        "age": round(age),
        "fat": round(fat, 2),
        "scale": round(scale, 3),
        "kyphosis": round(float(kyphosis), 2),
        "lordosis": round(float(lordosis), 2),
        "cobb": round(float(cobb), 1),
        "fractures": sorted(LEVELS[n] for n in breaks),
        "degeneration": round(float(wear.degenerate), 2),
    }
    bone = float(np.clip(1.15 - 0.5 * old + rng.normal(0, 0.12), 0.45, 1.35))
    muscle = float(np.clip(rng.normal(1 - 0.25 * old, 0.15), 0.5, 1.3))
    return Plan(male, float(scale), fat, muscle, age, bone, vertebrae, sacrum, meta)


def tilts(rng: np.random.Generator, kyphosis: float, lordosis: float) -> np.ndarray:
    """(18,) degrees by which the tops of T1..L5 and S1 lean back: `TILT`, more or less curved."""
    tilt = np.interp(np.arange(18), TILT_LEVELS, TILT)
    tilt = np.where(np.arange(18) < 10, tilt * kyphosis, tilt * lordosis) + rng.normal(0, 1.0, 18)
    lengths = np.array([h + d for h, d in zip(HEIGHT, DISC, strict=True)] + [50.0])
    return tilt + (rng.normal(0, 1.5) - np.average(tilt[4:], weights=lengths[4:]))  # on a table T6 lies level with S2


def column(rng: np.random.Generator, tilt, side, scale: float, wear: Wear) -> list[Vertebra]:
    """T1..L5 on top of a sacrum at the origin. tilt, side (18,): degrees, back and to the left, T1..S1."""
    size = rng.normal(1, 0.025, 3) * scale
    vertebrae, frames, position = [], [], np.zeros(3)
    for n in range(16, -1, -1):
        own = 1 + rng.normal(0, 0.02, 3)
        w, d, h = np.array([WIDTH[n], DEPTH[n], HEIGHT[n]]) * size * own
        gap = DISC[n] * scale * wear.height * float(np.clip(rng.normal(1, 0.1), 0.6, 1.2))
        if n >= 12 and rng.random() < 0.35 * wear.degenerate:
            gap *= rng.uniform(0.3, 0.6)
        broken = n in wear.breaks
        loss = rng.uniform(0.2, 0.45) if broken else 0
        wedge = loss * h + {16: -3.5, 15: -1.5, 14: -0.7, 11: 1.2, 10: 1.2}.get(n, 0.8)
        r = rotation(tilt[n], side[n], 0.6 * side[n])
        # Half below with the lower neighbour's tilt, half with its own: the column bends in the discs.
        below = frames[-1] if frames else rotation(tilt[17], 0, 0)
        up = 0.5 * (below[:, 2] + r[:, 2])
        h_mid = h - wedge / 2
        position = position + up * gap + r[:, 2] * h_mid / 2
        concavity = rng.uniform(0.6, 1.4) * (1 + 0.8 * wear.old)
        spur, jitter = wear.degenerate * rng.uniform(0, 6), rng.standard_normal(8)
        vertebrae.append(Vertebra(LEVELS[n], position, r, w, d, h, wedge, concavity, broken, spur, jitter))
        position = position + r[:, 2] * h_mid / 2
        frames.append(r)
    return vertebrae[::-1]
