"""The second scanner's scatter: kernels that depend on thickness, and what a correction leaves of it.

After the adaptive kernel superposition of Sun and Star-Lack (Phys Med Biol 55, 2010): every pencil of the beam scatters
in proportion to I (I / I0)^a ln(I0 / I)^b, into a narrow and a wide Gaussian, whose widths and shares depend on how thick
the body is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lib.images.volume import gaussian

# From -log transmission: power a, power b, narrow and wide sigma (mm on the detector), share of the narrow one.
KERNELS = ((0.0, -0.22, 1.35, 22.0, 95.0, 0.22), (3.2, -0.16, 1.10, 31.0, 125.0, 0.16))
USUAL = 280.0  # mm of water behind which the scatter-to-primary ratio is the drawn one; thinner bodies scatter less
SOLID = 0.0199  # 1/mm, about what water takes from a beam of 70 keV; only to tell thickness


@dataclass(frozen=True)
class Scatter:
    """ratio: scatter to primary behind `USUAL` mm of water before correction; removed: share of it that the correction
    subtracts; blunt: mm, by which its estimate is smoother than the scatter is."""

    ratio: float
    removed: float
    blunt: float

    def field(self, primary: np.ndarray, open_field: np.ndarray, pixel: float) -> np.ndarray:
        """Scatter at the detector, in units of `primary` (views, rows, columns); `open_field` (columns,)."""
        line = -np.log(np.clip(primary / open_field, 1e-7, 1.0))
        raw = np.zeros_like(primary)
        for n, (above, a, b, narrow, wide, share) in enumerate(KERNELS):
            below = KERNELS[n + 1][0] if n + 1 < len(KERNELS) else np.inf
            here = _between(line, above, below)
            source = here * primary * np.exp(-a * line) * line**b
            raw += share * spread(source, narrow, pixel) + (1 - share) * spread(source, wide, pixel)
        body = line > 0.5
        if not body.any() or self.ratio == 0:
            return np.zeros_like(primary)
        thick = np.percentile(line[body], 75)
        behind = body & (line > 0.8 * thick) & (line < 1.2 * thick)
        usual = np.median(raw[behind] / primary[behind])
        wanted = self.ratio * np.clip(thick / SOLID / USUAL, 0.15, 2.0)
        return (raw * np.float32(wanted / usual)).astype(np.float32)

    def correct(self, signal: np.ndarray, scatter: np.ndarray, pixel: float) -> np.ndarray:
        """`signal` (primary, scatter and noise) without the correction's estimate of the scatter; at least a twentieth of
        the signal is left, as in a scanner."""
        estimate = np.float32(self.removed) * spread(scatter, self.blunt, pixel)
        return np.maximum(signal - estimate, np.float32(0.05) * signal)


def _between(line: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where low < line < high, with a soft step of 1 at `low` and `high`; the kernels' shares sum to one."""
    rise = np.clip(line - low + 0.5, 0, 1) if low > 0 else np.ones_like(line)
    fall = np.clip(high - line + 0.5, 0, 1) if np.isfinite(high) else 1.0
    return (rise * fall).astype(np.float32)


def spread(source: np.ndarray, sigma: float, pixel: float) -> np.ndarray:
    """Each view (views, rows, columns) smoothed by a Gaussian of `sigma` mm, on a coarser grid."""
    step = max(1, int(sigma / pixel / 3))
    small = F.avg_pool2d(torch.from_numpy(source)[:, None], step, ceil_mode=True, count_include_pad=False)[:, 0]
    small = gaussian(small, (sigma / pixel / step, sigma / pixel / step, 0.0))
    # Blocks of `step` pixels are put back on their own middles; the last block may be cut by the detector's edge.
    large = F.interpolate(small[:, None], scale_factor=step, mode="bilinear")[:, 0]
    return large[:, : source.shape[1], : source.shape[2]].contiguous().numpy()
