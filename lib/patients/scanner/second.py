"""The second scanner: another cone-beam simulation, for tests only.

It shares no constant and no code with `conebeam`, and no patient of it may train anything: what an agent does on its scans
tells whether the agent knows patients or only the first simulator. Ranges are those that published simulators and scanners
have. *Tuning* and *test* scans draw from the same ranges, but from quarters of them that do not meet, and from their own
seeds, so that whatever is chosen on tuning scans has seen no test scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import AIR, Volume
from lib.patients.scanner import breathing, spectrum
from lib.patients.scanner.detector import Panel
from lib.patients.scanner.orbit import Orbit
from lib.patients.scanner.scatter import Scatter
from lib.patients.scanner.spectrum import Beam

VERSION = 1  # raised when the same settings make other scans
MARK = "second"  # `meta["scanner"]` of its patients
Range = tuple[float, float]


@dataclass(frozen=True)
class SecondScanner:
    """Ranges (drawn once a scan) and shares of scans. Lengths in mm, angles in degrees."""

    purpose: Literal["tuning", "test"] = "test"
    fans: tuple[float, float, float] = (0.45, 0.25, 0.30)  # shares of half-fan, full-fan and short scans
    views: int = 230  # in a full turn
    pixel: float = 3.6  # of the panel
    near: Range = (960.0, 1045.0)  # source to isocentre
    far: Range = (1515.0, 1560.0)  # source to panel
    panel: Range = (385.0, 425.0)  # its width
    aside: Range = (115.0, 160.0)  # of the panel, in half-fan scans
    height: Range = (150.0, 190.0)  # in view at the isocentre
    voxel: Range = (2.05, 2.45)  # in plane
    slice: Range = (2.0, 2.9)
    kvp: Range = (100.0, 125.0)
    bow_tie: Range = (10.0, 26.0)  # mm of aluminium at its thick end
    bow_tie_width: Range = (6.0, 11.0)
    quanta: Range = (2.5e4, 2.2e5)  # a square mm of panel, a view, in the open field; log-uniform
    electronic: Range = (25.0, 70.0)  # noise in quanta, a pixel
    scatter: Range = (1.3, 1.6)  # of the primary behind 280 mm of water, before correction
    removed: Range = (0.82, 0.97)  # of the scatter, by the correction
    blunt: Range = (6.0, 24.0)
    water_correction: Range = (0.55, 1.0)
    lag: Range = (0.01, 0.05)
    blur: Range = (0.25, 0.65)  # pixels
    uneven: Range = (0.0008, 0.005)
    banded: Range = (0.0005, 0.003)
    saturated: float = 0.4  # share of scans whose panel is over-exposed beside the body
    saturation: Range = (0.15, 0.6)  # line integral below which it is
    hann: Range = (0.5, 1.0)  # cut-off along rows
    hann_across: Range = (0.5, 1.0)
    extend: Range = (0.08, 0.45)  # of cut rows, share of the panel's width
    shift: Range = (-22.0, 22.0)  # of the isocentre from the asked centre, across the body; half of it along
    turn: Range = (-12.0, 12.0)  # of the field of view about the body's axis
    tilt: Range = (-4.0, 4.0)  # of the field of view about the other two
    breathing: float = 0.5  # share of scans during which the patient breathes, if the body does not come with phases
    breath: Range = (3.0, 8.0)  # mm
    breaths: Range = (12.0, 20.0)  # a minute
    seconds: float = 60.0  # of a full turn
    scales: tuple[float, float, float] = (0.4, 0.35, 0.25)  # shares: HU-like, unsigned 0..4095, attenuation
    gain: Range = (0.82, 1.22)
    offset: Range = (-110.0, 90.0)  # HU


TUNING, TEST = SecondScanner("tuning"), SecondScanner("test")


def simulate(
    body: Volume, centre, rng: np.random.Generator, settings: SecondScanner = TEST, phases=None, pose=None
) -> Volume:
    """Scan `body` (HU, along L, P, S) around `centre` (3,), body world LPS mm.

    phases: arrays on the grid of `body` between which it moves; None: it breathes as the settings say. pose (4, 4): body
    world -> world of the result, identity by default. The result's grid is turned against the world; its grey values are
    on a scale of its own (HU-like, unsigned or attenuation), the lowest of them outside the field of view. Raises
    UserError for a body of air and for a centre outside it.
    """
    pick = Draw(settings.purpose, rng)
    orbit, radius, size, spacing = _orbit(pick, settings)
    pose = np.eye(4) if pose is None else np.asarray(pose, dtype=np.float64)
    isocentre, turned = _gantry(pick, settings, rigid.apply(pose, np.asarray(centre, dtype=np.float64)[None])[0])
    to_gantry = np.eye(4)
    to_gantry[:3, :3], to_gantry[:3, 3] = turned.T, -turned.T @ isocentre
    body, phases = crop(body, phases, centre, size[2] * spacing[2])
    water, bone = _lines(pick, settings, orbit, body, phases, centre, to_gantry @ pose)
    values = expose(pick, settings, orbit, water, bone)
    hann, extend = (pick(settings.hann), pick(settings.hann_across)), pick(settings.extend)
    attenuation = orbit.reconstruct(values, size, spacing, hann, extend)
    grey, outside = _scale(pick, settings, attenuation)
    x, y = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(size[:2], spacing[:2], strict=True))
    grey = np.where(np.hypot(x, y[:, None]) < radius, np.maximum(grey, outside + 1), outside)
    origin = isocentre - turned @ (np.array(spacing) * (np.array(size) - 1) / 2)
    return Volume(torch.from_numpy(grey.astype(np.float32)), spacing, origin, turned)


class Draw:
    """Numbers of one scan: quarters 1 and 3 of a range for tuning, 2 and 4 for test, from a seed of its own."""

    def __init__(self, purpose: str, rng: np.random.Generator):
        if purpose not in ("tuning", "test"):
            raise UserError(f"The second scanner makes tuning and test scans, not {purpose!r}: nothing trains on it.")
        self.odd = purpose == "test"
        self.rng = np.random.default_rng([int(self.odd), 1917, int(rng.integers(2**63))])

    def __call__(self, limits: Range) -> float:
        quarter = 2 * self.rng.integers(2) + self.odd
        return float(limits[0] + (quarter + self.rng.uniform()) / 4 * (limits[1] - limits[0]))

    def log(self, limits: Range) -> float:
        return float(np.exp(self(tuple(np.log(limits)))))

    def one_of(self, names, shares) -> str:
        return names[int(self.rng.choice(len(names), p=shares))]

    def happens(self, share: float) -> bool:
        return bool(self.rng.uniform() < share)


def refuse(meta: dict) -> None:
    """Raises UserError where the patient with this `meta` comes from the second scanner: nothing may train on it."""
    if meta.get("scanner") == MARK:
        raise UserError(
            "This patient was made by the second scanner, which is for tests only; train on other patients."
        )


def _orbit(pick: Draw, settings: SecondScanner):
    """(orbit, radius of the field of view, size and spacing of the grid that it fills)."""
    near, far, width, height = (pick(r) for r in (settings.near, settings.far, settings.panel, settings.height))
    fan = pick.one_of(("half", "full", "short"), settings.fans)
    aside = pick(settings.aside) * pick.rng.choice([-1, 1])
    columns, rows = (2 * int(mm / settings.pixel / 2) for mm in (width, height * far / near + 2 * settings.pixel))
    orbit = Orbit(near, far, np.zeros(2), columns, rows, settings.pixel, aside if fan == "half" else 0.0)
    arc = 360.0 if fan != "short" else 181.0 + np.ptp(orbit.fan) + pick((1.0, 9.0))
    count = max(round(settings.views * arc / 360), 2)
    angles = pick.rng.uniform(0, 360) + pick.rng.choice([-1, 1]) * arc * np.arange(count) / count
    orbit = Orbit(near, far, angles, columns, rows, settings.pixel, orbit.aside)
    voxel, slice = pick(settings.voxel), pick(settings.slice)
    radius = orbit.radius - voxel
    size = (int(2 * radius / voxel) + 2, int(2 * radius / voxel) + 2, int(0.94 * height / slice))
    return orbit, radius, size, np.array([voxel, voxel, slice])


def _gantry(pick: Draw, settings: SecondScanner, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The isocentre (3,) in the world, and the gantry's axes there, (3, 3) in columns."""
    moved = np.array([pick(settings.shift), pick(settings.shift), pick(settings.shift) / 2])
    turns = np.array([pick(settings.tilt), pick(settings.tilt), pick(settings.turn)])
    return centre + moved, rigid.params_to_matrix(np.r_[np.zeros(3), turns])[:3, :3]


def crop(body: Volume, phases, centre, height: float) -> tuple[Volume, list | None]:
    """The part of the body that the beam can meet, its end slices repeated as far as the beam reaches, and its phases."""
    at = np.linalg.inv(body.affine) @ np.append(np.asarray(centre, dtype=np.float64), 1.0)
    if (at[:3] < 0).any() or (at[:3] > np.array(body.size) - 1).any():
        raise UserError("The cone-beam scan is centred outside the body; give a centre within the CT.")
    solid = (body.array.amax(0) > -650).numpy()
    if not solid.any():
        raise UserError("There is nothing but air to scan; check that the CT is in Hounsfield units.")
    reach = int((0.72 * height + 45) / body.spacing[2])
    k = torch.from_numpy(np.clip(np.arange(int(at[2]) - reach, int(at[2]) + reach + 1), 0, body.size[2] - 1))
    (j0, j1), (i0, i1) = (np.flatnonzero(solid.any(axis))[[0, -1]] for axis in (1, 0))
    j0, i0 = max(j0 - 2, 0), max(i0 - 2, 0)
    start = (body.affine @ np.array([i0, j0, int(at[2]) - reach, 1.0]))[:3]
    cut = [a[k, j0 : j1 + 3, i0 : i1 + 3] for a in (body.array, *(phases or []))]
    return Volume(cut[0], body.spacing, start, body.direction), cut[1:] or None


def _lines(pick: Draw, settings, orbit: Orbit, body: Volume, phases, centre, pose) -> tuple[np.ndarray, np.ndarray]:
    """Mm of water and of bone that each ray meets, (views, rows, columns)."""
    views, breathes = len(orbit.angles), pick.happens(settings.breathing)
    down, rate, start = pick(settings.breath), pick(settings.breaths), pick.rng.uniform()
    if phases is None and not breathes:
        states, which = [body.array], np.zeros(views, int)
    else:
        states = phases or breathing.phases(body, centre, down)
        turn = settings.seconds * np.ptp(orbit.angles) / 360
        which = breathing.seen(views, turn, rate, start) * len(states) // breathing.PHASES
    water, bone = np.empty((2, views, orbit.rows, orbit.columns), np.float32)
    for state, array in enumerate(states):
        mine = np.flatnonzero(which == state)
        if len(mine):
            soft, hard = spectrum.materials(array.numpy())
            water[mine] = orbit.project(soft, body, pose, mine)
            bone[mine] = _enlarge(orbit.coarse().project(hard, body, pose, mine))  # a quarter of the time
    return water, bone


def _enlarge(views: np.ndarray) -> np.ndarray:
    """Views (n, rows, columns) on pixels half as large."""
    return F.interpolate(torch.from_numpy(views)[:, None], scale_factor=2, mode="bilinear")[:, 0].numpy()


def expose(pick: Draw, settings: SecondScanner, orbit: Orbit, water: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Corrected line integrals, as the scanner's own software has them, from mm of water and bone."""
    aluminium = spectrum.bow_tie(orbit.fan, pick(settings.bow_tie), pick(settings.bow_tie_width))
    beam = Beam(pick(settings.kvp), aluminium)
    scatter = Scatter(pick(settings.scatter), pick(settings.removed), pick(settings.blunt))
    saturated = pick.happens(settings.saturated)
    panel = Panel(
        quanta=pick.log(settings.quanta) * orbit.pixel**2,
        electronic=pick(settings.electronic),
        lag=pick(settings.lag),
        blur=pick(settings.blur),
        uneven=pick(settings.uneven),
        banded=pick(settings.banded),
        saturation=pick(settings.saturation) if saturated else 0.0,
    )
    primary, field = beam.transmit(water, bone), beam.open_field()
    stray = scatter.field(primary, field, orbit.pixel)
    reading = panel.read(primary + stray, pick.rng)
    lines = panel.lines(scatter.correct(reading, stray, orbit.pixel), field)
    return beam.correct_water(lines, pick(settings.water_correction))


def _scale(pick: Draw, settings: SecondScanner, attenuation: np.ndarray) -> tuple[np.ndarray, float]:
    """Grey values of 1/mm, and the value that stands for no data."""
    kind = pick.one_of(("hounsfield", "unsigned", "attenuation"), settings.scales)
    gain, offset = pick(settings.gain), pick(settings.offset)
    hu = (attenuation / spectrum.at(spectrum.WATER, spectrum.REFERENCE) - 1) * 1000
    if not np.isfinite(hu).all():
        raise UserError("The simulated cone-beam scan holds values that are no numbers; choose other scanner settings.")
    if kind == "hounsfield":
        return np.clip(hu * gain + offset, AIR, 5000), AIR
    if kind == "unsigned":
        return np.clip((hu + 1000) * gain + 24, 0, 4095), 0.0
    return np.clip(attenuation * 1e5 * gain, 0, 20000), 0.0  # 10^-5 / mm: water about 1940
