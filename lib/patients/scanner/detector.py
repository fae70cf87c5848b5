"""The second scanner's flat panel: quanta, electronics, lag, blur, saturation, uneven elements; and the log of all that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter

from lib.images.volume import gaussian


@dataclass(frozen=True)
class Panel:
    """One panel in one scan. `quanta`: a pixel in the open field's middle; `electronic`: noise in quanta a pixel; `lag`:
    share of a frame that comes later; `blur`: sigma in pixels; `uneven`: error of an element's gain; `banded`: the same,
    of its neighbourhood; `saturation`: line integral below which a ray over-exposes the panel and is read as air."""

    quanta: float
    electronic: float = 0.0
    lag: float = 0.0
    lag_frames: float = 4.0
    blur: float = 0.0
    uneven: float = 0.0
    banded: float = 0.0
    saturation: float = 0.0

    def read(self, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the panel reads of a signal (views, rows, columns), in the signal's units; may be negative."""
        if np.isfinite(self.quanta):
            spread = np.sqrt(signal / self.quanta + (self.electronic / self.quanta) ** 2)
            signal = signal + spread * rng.standard_normal(signal.shape, dtype=np.float32)
        if self.lag:
            keep = np.exp(-1 / self.lag_frames)
            late = lfilter([1 - keep], [1, -keep], signal, axis=0, zi=keep * signal[:1])[0]
            signal = (1 - self.lag) * signal + self.lag * late
        if self.blur:
            signal = gaussian(
                torch.from_numpy(np.ascontiguousarray(signal, np.float32)), (self.blur, self.blur, 0)
            ).numpy()
        return (signal * self.gains(signal.shape[1:], rng)).astype(np.float32)

    def gains(self, shape, rng: np.random.Generator) -> np.ndarray:
        """(rows, columns): the elements' gains after a calibration that is out of date."""
        fine, wide = rng.standard_normal((2, *shape))
        wide = gaussian(torch.from_numpy(wide)[None].float(), (4.0, 4.0, 0))[0].numpy()
        return (1 + self.uneven * fine + self.banded * wide / wide.std()).astype(np.float32)

    def lines(self, reading: np.ndarray, open_field: np.ndarray) -> np.ndarray:
        """-log of the transmission. A reading below half a quantum is taken for half a quantum."""
        least = 0.5 / self.quanta if np.isfinite(self.quanta) else 1e-12
        lines = -np.log(np.maximum(reading, np.float32(least)) / open_field.astype(np.float32))
        return np.where(lines < self.saturation, 0, lines).astype(np.float32) if self.saturation else lines
