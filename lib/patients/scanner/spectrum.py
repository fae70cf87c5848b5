"""The second scanner's beam: a tungsten spectrum through filter and bow-tie, seen by a caesium iodide detector, and what
water and bone let through of it.

Mass attenuation coefficients: Hubbell and Seltzer, *Tables of X-Ray Mass Attenuation Coefficients* (NISTIR 5632), tables 3
and 4 (water, liquid; bone, cortical, ICRU-44; aluminium; caesium iodide). The spectrum is Kramers' (1923) with the tube's
own filter; tungsten's characteristic lines are added as one line at 59 keV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEV = np.array([20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
# cm^2/g times g/cm^3, as 1/mm
WATER = 0.1 * 1.00 * np.array([0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505])
BONE = 0.1 * 1.92 * np.array([4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480])
ALUMINIUM = 0.1 * 2.699 * np.array([3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378])
IODIDE = 0.1 * 4.51 * np.array([27.45, 9.045, 22.97, 12.87, 7.921, 3.677, 2.035, 0.7291])  # its edges: 33 and 36 keV
REFERENCE = 70.0  # keV at which a planning CT's Hounsfield units hold
BONE_FROM = 100.0  # HU, where a voxel begins to be a mixture of water and cortical bone
FILTER = 4.5  # mm of aluminium in the tube and its collimator
SCINTILLATOR = 0.45  # mm of solid iodide: 0.6 mm of needles, packed to three quarters


def at(table: np.ndarray, energy) -> np.ndarray:
    """Attenuation (1/mm) at energies (keV), log-log between the table's."""
    return np.exp(np.interp(np.log(energy), np.log(KEV), np.log(table)))


def materials(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU -> water-like density and volume of cortical bone in each voxel, both shares, float32.

    Up to `BONE_FROM` tissue is water of another density; above it is mixed with bone, so that attenuation at `REFERENCE`
    is what the HU says, up to cortical bone (1,590 HU). Denser voxels weaken the beam more than their HU say: 2,500 as
    3,170, titanium (8,000) as 12,700. That was found when the tables were made, so it stays until they are made anew.
    """
    water, bone = at(WATER, REFERENCE), at(BONE, REFERENCE)
    solid = (bone / water - 1) * 1000
    total = np.maximum(np.asarray(hu, np.float32) / 1000 + 1, 0)
    share = np.maximum((np.asarray(hu, np.float32) - BONE_FROM) / (solid - BONE_FROM), 0)
    return np.maximum(total - share * (bone / water), 0).astype(np.float32), share.astype(np.float32)


@dataclass(frozen=True)
class Beam:
    """A tube at `kvp` (kV) behind a bow-tie: `aluminium` (columns,) mm along each column's rays."""

    kvp: float
    aluminium: np.ndarray

    @property
    def energies(self) -> np.ndarray:
        return np.arange(22.5, self.kvp, 5.0)

    def weights(self) -> np.ndarray:
        """(energies, columns): what each energy adds to the open detector's signal; the middle of the bow-tie sums to 1."""
        e = self.energies
        quanta = (self.kvp - e) / e + 0.25 * self.kvp / 59 * (np.abs(e - 59) < 2.6)
        seen = e * (1 - np.exp(-at(IODIDE, e) * SCINTILLATOR))
        plain = quanta * seen * np.exp(-at(ALUMINIUM, e) * FILTER)
        through = plain[:, None] * np.exp(-at(ALUMINIUM, e)[:, None] * self.aluminium)
        return through / (plain * np.exp(-at(ALUMINIUM, e) * self.aluminium.min())).sum()

    def open_field(self) -> np.ndarray:
        """Signal without a body, (columns,)."""
        return self.weights().sum(axis=0)

    def transmit(self, water: np.ndarray, bone: np.ndarray) -> np.ndarray:
        """Signal behind mm of water and of bone, (views, rows, columns) float32."""
        signal = np.zeros_like(water)
        for energy, weight in zip(self.energies, self.weights(), strict=True):
            depth = np.float32(at(WATER, energy)) * water + np.float32(at(BONE, energy)) * bone
            signal += weight.astype(np.float32) * np.exp(-depth)
        return signal

    def correct_water(self, lines: np.ndarray, strength: float) -> np.ndarray:
        """-log of the transmission (views, rows, columns) -> line integrals at `REFERENCE` (1/mm times mm), as if all were
        water. `strength` 1: in full, for the bow-tie of each column; 0: only scaled, so that both colours are left."""
        lengths, exact = np.linspace(0.0, 900.0, 400, dtype=np.float32), np.empty_like(lines)
        depths = np.repeat(lengths[:, None, None], len(self.aluminium), axis=2)
        logs = -np.log(self.transmit(depths, 0 * depths)[:, 0] / self.open_field())
        for column in range(len(self.aluminium)):
            exact[..., column] = np.interp(lines[..., column], logs[:, column], lengths)
        # np.interp holds the end: rays brighter than the open field go on straight
        exact += np.where(lines < 0, lines * (lengths[1] / logs[1]), 0).astype(np.float32)
        middle = int(np.argmin(self.aluminium))
        plain = lines * np.float32(lengths[88] / logs[88, middle])  # as 200 mm of water
        return (at(WATER, REFERENCE) * (strength * exact + (1 - strength) * plain)).astype(np.float32)


def bow_tie(angles: np.ndarray, thickest: float, width: float) -> np.ndarray:
    """Aluminium (mm) on rays at fan `angles` (degrees) from the isocentre's ray: thin there, `thickest` far away; `width`
    (degrees): where it reaches two thirds of that."""
    return 1.5 + thickest * (1 - np.exp(-((angles / width) ** 2)))
