"""A cone-beam CT scan of a body, by physics: polyenergetic projections, scatter, quantum noise, truncation, motion, FDK.

What is simulated: two materials (water, bone) seen by a spectrum and corrected for water alone, so bone hardens the beam;
a smooth scatter background left over after correction; Poisson noise; a detector narrower than the body; a few gain errors
of columns (rings); a body that moves between views; a scale that is not Hounsfield's. RTK does the geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from lib import rigid
from lib.base.errors import UserError
from lib.images.volume import AIR, Volume, gaussian
from lib.patients.scanner import projector

WATER = 0.0193  # per mm at the effective energy; defines HU here
# A filtered 110 kVp beam in five bins: share of the signal, water and cortical bone attenuation, per mm
# (ICRU 44).
SPECTRUM = np.array([0.10, 0.32, 0.33, 0.19, 0.06])
MU_WATER = np.array([0.0268, 0.0206, 0.0184, 0.0171, 0.0161])
MU_BONE = np.array([0.1278, 0.0604, 0.0428, 0.0356, 0.0320])
BONE = 0.0500  # cortical bone at the effective energy, per mm (about 1600 HU)
BONE_FROM, BONE_TO = 150.0, 700.0  # HU between which a voxel turns from water to bone


@dataclass(frozen=True)
class ConeBeamSettings:
    """The scanner and how bad its images are; pairs are ranges, drawn once a scan. Lengths in mm."""

    spacing: float = 4.0  # of the reconstruction
    views: int = 120  # in a full turn; a short scan has the same number
    detector_pixel: float = 5.0  # on the detector; 1.5 times less in the body
    source_to_isocentre: float = 1000.0
    source_to_detector: float = 1500.0
    diameter: tuple[float, float] = (236.0, 262.0)  # of the cylindrical field of view
    height: tuple[float, float] = (168.0, 200.0)
    short_scan: float = 0.5  # share of scans over 180 degrees and the fan only
    photons: tuple[float, float] = (6e3, 1e5)  # a square mm of detector in air
    scatter: tuple[float, float] = (0.0, 0.05)  # left over after correction, share of the smoothed primary
    rings: float = 0.4  # share of scans with uneven detector columns
    column_error: float = 0.006  # their standard deviation
    extrapolation: tuple[float, float] = (0.0, 0.4)  # of truncated rows, share of the detector's width
    ramp: tuple[float, float] = (0.8, 1.0)  # cut of the ramp filter (cosine), share of Nyquist
    gain: tuple[float, float] = (0.88, 1.10)  # of the HU scale
    offset: tuple[float, float] = (-70.0, 50.0)  # HU
    # No fields, so that patients made before stay valid; `ManyScanners` draws them.
    bone_gain = 1.0  # of the attenuation of bone alone
    saturation = np.inf  # transmission from where on the panel, beside the body, is over-exposed


@dataclass(frozen=True)
class CardiacSettings(ConeBeamSettings):
    """The same scanner, some of whose scans of a moving body use the views of one state alone."""

    gated: float = 0.5  # share of these scans
    gated_views: tuple[float, float] = (0.3, 0.6)  # share of the views that they use


@dataclass(frozen=True)
class ManyScanners(ConeBeamSettings):
    """Not one scanner but many: ranges as wide as published simulators and machines have, one drawn for each scan."""

    diameter: tuple[float, float] = (200.0, 270.0)
    height: tuple[float, float] = (140.0, 210.0)
    photons: tuple[float, float] = (2e3, 2e5)
    scatter: tuple[float, float] = (0.0, 0.5)
    column_error: float = 0.012
    ramp: tuple[float, float] = (0.5, 1.0)
    gain: tuple[float, float] = (0.75, 1.25)
    offset: tuple[float, float] = (-150.0, 150.0)
    bone_gain: float = 1.0
    saturation: float = np.inf
    isocentres: tuple[float, float] = (570.0, 1100.0)  # mm from the source: C-arms to linacs
    magnifications: tuple[float, float] = (1.4, 1.7)
    bone_gains: tuple[float, float] = (0.5, 1.3)
    saturated: float = 0.4  # share of scans whose panel is over-exposed ...
    saturations: tuple[float, float] = (0.45, 0.9)  # ... from this transmission on

    def drawn(self, rng: np.random.Generator) -> ManyScanners:
        """One of them."""
        near = rng.uniform(*self.isocentres)
        return replace(
            self,
            source_to_isocentre=near,
            source_to_detector=near * rng.uniform(*self.magnifications),
            bone_gain=rng.uniform(*self.bone_gains),
            saturation=rng.uniform(*self.saturations) if rng.random() < self.saturated else np.inf,
        )


def simulate(
    body: Volume,
    centre,
    rng: np.random.Generator,
    settings: ConeBeamSettings | None = None,
    phases: list[torch.Tensor] | None = None,
    pose: np.ndarray | None = None,
) -> Volume:
    """Scan `body` (HU) with the isocentre at `centre` (3,), body world LPS mm.

    phases: arrays on the grid of `body` between which it moves during the scan. pose (4, 4): body world -> world of the
    result, identity by default. Returns HU-like values, -1000 outside the field of view. Raises UserError for a body
    that does not reach the isocentre, and for a reconstruction with values that are no numbers.
    """
    settings = settings or ConeBeamSettings()
    settings = settings.drawn(rng) if isinstance(settings, ManyScanners) else settings
    pose = np.eye(4) if pose is None else np.asarray(pose, dtype=np.float64)
    isocentre = rigid.apply(pose, np.asarray(centre, dtype=np.float64)[None])[0]
    scanner, size = draw_scanner(rng, settings)
    arrays = phases or [body.array]
    if phases and isinstance(settings, CardiacSettings) and rng.random() < settings.gated:
        scanner, arrays = gated(scanner, rng.uniform(*settings.gated_views), rng), [body.array]
    grid, box = _extent(body, np.asarray(centre, dtype=np.float64), scanner, settings, arrays)
    views = view_phases(len(scanner.angles), len(arrays), rng)
    total, bone = (np.empty((len(views), s.rows, s.columns), np.float32) for s in (scanner, scanner.binned()))
    for phase, array in enumerate(arrays):
        which = np.flatnonzero(views == phase)
        if len(which):
            whole, hard = attenuation(_cut(array, box))
            total[which] = projector.project(whole, grid, pose, isocentre, scanner, which)
            bone[which] = projector.project(hard, grid, pose, isocentre, scanner.binned(), which)
    measured = detect(total, bone, rng, settings)
    ramp, extrapolation = rng.uniform(*settings.ramp), rng.uniform(*settings.extrapolation)
    values = projector.reconstruct(measured, scanner, size, settings.spacing, ramp, extrapolation)
    if not np.isfinite(values).all():
        raise UserError("The simulated cone-beam scan holds values that are no numbers; choose other scanner settings.")
    values = (values / WATER - 1) * 1000 * rng.uniform(*settings.gain) + rng.uniform(*settings.offset)
    spacing = np.full(3, settings.spacing)
    origin = isocentre - spacing * (np.array(size) - 1) / 2
    return Volume(torch.from_numpy(mask_cylinder(values, settings.spacing, scanner.radius)), spacing, origin)


def draw_scanner(
    rng: np.random.Generator, settings: ConeBeamSettings
) -> tuple[projector.Scanner, tuple[int, int, int]]:
    """A scanner for one scan and the size (nx, ny, nz) of the grid its field of view fills."""
    if not isinstance(settings, ConeBeamSettings):
        raise UserError("Training patients are made by the first scanner only; the second is for tests.")
    radius, height = rng.uniform(*settings.diameter) / 2, rng.uniform(*settings.height)
    sid, sdd = settings.source_to_isocentre, settings.source_to_detector
    half_width = sdd * np.tan(np.arcsin(radius / sid))
    # Tall enough for the cylinder's nearer rim in most scans, for its middle only in some (dark corners, as
    # in reality).
    half_rows = height / 2 * sdd / (sid - radius * rng.uniform(0.5, 1.0))
    columns = int(np.ceil(2 * half_width / settings.detector_pixel)) + 2
    rows = int(np.ceil(2 * half_rows / settings.detector_pixel)) + 1
    fan = 2 * np.degrees(np.arctan(columns / 2 * settings.detector_pixel / sdd))
    arc = min(360.0, 185.0 + fan + rng.uniform(0, 15)) if rng.random() < settings.short_scan else 360.0
    start, turn = rng.uniform(0, 360), rng.choice([-1.0, 1.0])
    angles = start + turn * arc * np.arange(settings.views) / settings.views
    nx, nz = int(np.ceil(2 * radius / settings.spacing)), int(height / settings.spacing)
    return projector.Scanner(sid, sdd, angles, columns, rows, settings.detector_pixel), (nx, nx, nz)


def view_phases(views: int, phases: int, rng: np.random.Generator) -> np.ndarray:
    """Which phase each view sees (views,): a cycle that repeats a few times during the turn."""
    if phases == 1:
        return np.zeros(views, dtype=int)
    cycles, shift = rng.uniform(4.0, 9.0), rng.uniform()
    return np.floor(((np.arange(views) / views * cycles + shift) % 1.0) * phases).astype(int)


def gated(scanner: projector.Scanner, share: float, rng: np.random.Generator) -> projector.Scanner:
    """The scanner with that share of its views alone, uneven, the first and the last among them: several turns of the gantry
    have met one state of the heart here and there. Few views leave streaks."""
    count = len(scanner.angles)
    inner = rng.choice(np.arange(1, count - 1), max(1, round(share * count) - 2), replace=False)
    return replace(scanner, angles=scanner.angles[np.sort(np.r_[0, inner, count - 1])])


def attenuation(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU -> attenuation per mm, and the part of it that is bone, float32; a smooth step between the two."""
    whole = np.maximum(hu / 1000.0 + 1.0, 0.0).astype(np.float32) * np.float32(WATER)
    share = np.clip((hu - BONE_FROM) / (BONE_TO - BONE_FROM), 0.0, 1.0)
    return whole, (share * share * (3 - 2 * share) * whole).astype(np.float32)


def detect(total: np.ndarray, bone: np.ndarray, rng: np.random.Generator, settings: ConeBeamSettings) -> np.ndarray:
    """What the detector makes of line integrals (views, rows, columns): others, corrected for water.

    `bone` comes from pixels twice as large: it only hardens the beam, smoothly, and costs a quarter.
    """
    bone = np.minimum(_enlarge(bone, total.shape), total)
    water, bone = (total - bone) / np.float32(WATER), np.float32(settings.bone_gain) * bone / np.float32(BONE)
    primary = np.zeros_like(water)
    for share, mu_w, mu_b in zip(SPECTRUM, MU_WATER, MU_BONE, strict=True):
        primary += np.float32(share) * np.exp(-(np.float32(mu_w) * water + np.float32(mu_b) * bone))
    signal = primary + rng.uniform(*settings.scatter) * scatter_field(primary, settings.detector_pixel)
    photons = np.exp(rng.uniform(*np.log(settings.photons))) * settings.detector_pixel**2
    signal = np.minimum(signal, np.float32(settings.saturation))
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    signal = np.maximum(signal + noise * np.sqrt(signal / np.float32(photons)), np.float32(1.0 / photons))
    if rng.random() < settings.rings:
        columns = 1 + settings.column_error * rng.uniform(0.3, 1.0) * rng.standard_normal(signal.shape[1:])
        signal *= columns.astype(np.float32)
    return correct_water(signal)


def scatter_field(primary: np.ndarray, pixel: float, sigma: float = 60.0) -> np.ndarray:
    """Scatter arises where the beam is attenuated (primary times its log) and spreads over `sigma` mm; same shape."""
    source = torch.from_numpy(primary * -np.log(np.maximum(primary, 1e-6)))
    step = max(1, int(sigma / pixel / 4))
    small = F.avg_pool2d(source[:, None], step, ceil_mode=True)[:, 0]
    small = gaussian(small, (sigma / pixel / step, sigma / pixel / step, 0.0))
    return F.interpolate(small[:, None], size=primary.shape[1:], mode="bilinear")[:, 0].numpy()


def _enlarge(binned: np.ndarray, shape) -> np.ndarray:
    """Views with pixels twice as large, both detectors centred, on the pixels of `shape`."""
    out = F.interpolate(torch.from_numpy(binned)[:, None], scale_factor=2, mode="bilinear")[:, 0]
    for dim in (1, 2):
        if out.shape[dim] > shape[dim]:  # an odd number grew by one: half a pixel to each side
            n = shape[dim]
            out = (out.narrow(dim, 0, n) + out.narrow(dim, 1, n)) / 2
    return out.numpy()


def correct_water(signal: np.ndarray) -> np.ndarray:
    """Transmission -> the line integral of the water that would transmit as much (the usual precorrection)."""
    depth = np.linspace(-30.0, 1200.0, 1200)
    log = -np.log(np.exp(-depth[:, None] * MU_WATER) @ SPECTRUM)
    return (np.interp(-np.log(signal), log, depth) * WATER).astype(np.float32)


def mask_cylinder(values: np.ndarray, spacing: float, radius: float) -> np.ndarray:
    """-1000 outside the cylinder, values inside kept above it so that the field of view can be told."""
    half = (values.shape[1] - 1) / 2
    y, x = np.mgrid[: values.shape[1], : values.shape[2]] - half
    inside = (x**2 + y**2) * spacing**2 <= radius**2
    return np.where(inside, np.clip(values, AIR + 1, 6000), AIR).astype(np.float32)


def _extent(body: Volume, centre, scanner, settings, arrays):
    """The part of the body the beam can meet: grid (its array empty) and the (start, stop) of k, j, i.

    Along k the slices may run past the ends: `_cut` repeats the last one, or the body would end inside the cone.
    """
    index = np.linalg.inv(body.affine) @ np.append(centre, 1.0)
    sizes = np.array(body.array.shape)
    if (index[:3] < 0).any() or (index[:3] > sizes[::-1] - 1).any():
        raise UserError("The cone-beam scan is centred outside the body; give a centre within the CT.")
    reach = scanner.rows / 2 * scanner.pixel / scanner.source_to_detector * (scanner.source_to_isocentre + 200.0) + 20.0
    reach = reach / body.spacing[2]
    tissue = (torch.stack([a.amax(0) for a in arrays]).amax(0) > -700).numpy()
    rows, columns = np.flatnonzero(tissue.any(1)), np.flatnonzero(tissue.any(0))
    if not len(rows):
        raise UserError("There is nothing but air to scan; check that the CT is in Hounsfield units.")
    box = [
        (int(np.floor(index[2] - reach)), int(np.ceil(index[2] + reach)) + 1),
        (max(int(rows[0]) - 1, 0), int(rows[-1]) + 2),
        (max(int(columns[0]) - 1, 0), int(columns[-1]) + 2),
    ]
    start = np.array([box[2][0], box[1][0], box[0][0], 1.0])
    return Volume(torch.empty(0), body.spacing, (body.affine @ start)[:3], body.direction), box


def _cut(array: torch.Tensor, box) -> np.ndarray:
    """The box of an array, its end slices repeated along k."""
    (k0, k1), (j0, j1), (i0, i1) = box
    slices = np.clip(np.arange(k0, k1), 0, array.shape[0] - 1)
    return array[torch.from_numpy(slices), j0:j1, i0:i1].numpy()
