"""What the numbers of an image mean, decided once and before anything clamps: Hounsfield units, by shift or scale.

Scans come in HU, in HU + 1000 or + 1024 (a rescale intercept that was lost), rescaled twice (air at -2024), in
attenuation (1/mm, 1/cm) or, of a CBCT, in any scale. An offset is tried before a gain. Padding is found by its extent,
wherever its value lies, and is air. An image in HU comes back untouched. torch and NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib.base.errors import UserError
from lib.images.slabs import slabs
from lib.images.volume import AIR, Volume

OFFSETS = (1000.0, 1024.0, -1000.0, -1024.0)  # added to HU by mistake: an intercept lost, or applied twice
SAMPLE = 200_000  # values looked at
SOFT = 40.0  # HU of soft tissue
WATER = {"1/mm": 0.02, "1/cm": 0.2}  # attenuation at the energies of cone-beam CT (60 to 70 keV), to some 5 percent
DENSEST = 1500.0  # HU: of bone, next to nothing lies above


@dataclass(frozen=True)
class Meaning:
    """HU = gain * value + offset; `words` for the report ("" for HU); `guessed` where no unit says the gain."""

    gain: float = 1.0
    offset: float = 0.0
    words: str = ""
    guessed: bool = False


def settle(volume: Volume, kind: str, name: str = "", own: bool = False) -> tuple[Volume, Meaning]:
    """The volume in HU with its padding as air, and what its numbers meant; the same object where nothing changes.

    kind: "ct" or "cbct". Padding of a CBCT becomes its lowest value, as `normalise.field_of_view` knows it. own: the
    array may be written over (a large image is then in memory once). Raises UserError where a CT's values cannot be a CT.
    """
    pads = paddings(volume.array)
    if is_inverted(volume.array, pads):
        raise UserError(
            f"{name or 'The ' + kind.upper()}: its values are inverted (air is bright and bone dark); export it again "
            "without inversion, or multiply its values by -1."
        )
    values = _sample(volume.array, pads)
    found = meaning(values, kind)
    if pads and (found.guessed or not _has_air_and_tissue(values * found.gain + found.offset)):  # padding is the air
        found = meaning(_sample(volume.array, [p for p in pads if p > float(values.min())]), kind)
    if found.gain == 1.0 and found.offset:
        found = _by_padding(found, pads)
    if kind == "ct":
        check_ct(volume.array, found, name)
    wrong = [p for p in pads if _misplaced(p, found, values, kind)]
    if found.gain == 1.0 and not found.offset and not wrong:
        return volume, found
    air = min(float(values.min()) * found.gain + found.offset - 1.0, AIR) if kind == "cbct" else AIR
    return volume.with_array(_in_hu(volume.array, found, wrong, round(air), own)), found


def _in_hu(array: torch.Tensor, found: Meaning, wrong: list[float], air: int, own: bool) -> torch.Tensor:
    """The array in HU, a few slices at a time, `air` where it held one of `wrong`; over itself where it is our own."""
    kind = array.dtype if found.gain == 1.0 else torch.float32
    out = array if own and kind == array.dtype else torch.empty(array.shape, dtype=kind)
    for part in slabs(array.shape):
        slab = array[part].clone()
        if found.gain != 1.0:
            out[part] = slab.float() * found.gain + found.offset
        elif slab.is_floating_point():
            out[part] = slab + found.offset
        else:  # metal must not come round at the other end of 16 bits
            limits = torch.iinfo(kind)
            out[part] = (slab.int() + int(found.offset)).clamp(limits.min, limits.max).to(kind)
        for p in wrong:
            out[part][slab == p] = max(air, -32768)
    return out


def _by_padding(found: Meaning, pads: list[float]) -> Meaning:
    """1000 or 1024? Padding is exact: the one that makes it -1000 is right, unless the one that the air asks for makes it
    -1024, the least that a scanner stores."""
    if AIR - 24 - found.offset in pads:
        return found
    for shift in OFFSETS:
        if abs(shift + found.offset) < 50 and AIR + shift in pads:
            words = found.words.replace(f"{-found.offset:+g}", f"{shift:+g}").replace(
                f"{found.offset:+g}", f"{-shift:+g}"
            )
            return Meaning(1.0, -shift, words)
    return found


def _has_air_and_tissue(hounsfield: torch.Tensor) -> bool:
    air, tissue = hounsfield < -600, (hounsfield > -200) & (hounsfield < 300)
    return bool(air.float().mean() > 0.01 and tissue.float().mean() > 0.03)


def _misplaced(pad: float, found: Meaning, values: torch.Tensor, kind: str) -> bool:
    """Whether padding must be moved: in a CT it lies above air, in a CBCT among the values."""
    return pad * found.gain + found.offset > AIR + 100 if kind == "ct" else pad >= float(values.min())


def paddings(array: torch.Tensor, most: int = 2) -> list[float]:
    """Values that fill whole regions exactly and reach the rim of the slices: no tissue does. At most `most` of them."""
    rim = torch.cat([array[:, [0, -1]].reshape(-1), array[:, :, [0, -1]].reshape(-1)])
    kinds, counts = torch.unique(rim[:: max(1, len(rim) // SAMPLE)], return_counts=True)
    found = []
    for at in counts.argsort(descending=True)[:most].tolist():
        thin = array[::2, ::2, ::2]
        share = int((thin == kinds[at]).count_nonzero()) / thin.numel()
        if int(counts[at]) > 0.2 * int(counts.sum()) and share > 0.02 and share < 0.98:
            found.append(float(kinds[at]))
    return found


def is_inverted(array: torch.Tensor, pads: list[float]) -> bool:
    """Whether air is bright: the slices' rim lies far above their middle, and nothing lies above the rim.

    Nowhere in a body is that so: above soft tissue there is bone. A scan without air at its rim cannot be told. Padding
    far from all other values does not count; air cut off at one value does.
    """
    step = max(1, round((array.numel() / (4 * SAMPLE)) ** (1 / 3)))
    thin = array[::step, ::step, ::step].float().clone()
    low, high = np.percentile(_sample(array, pads).numpy(), [1, 99])
    reach = max(float(high - low), 1e-6)
    for pad in pads:
        near = ((thin - pad).abs() < 0.05 * reach) & (thin != pad)
        if float(near.float().mean()) < 0.005:
            thin[thin == pad] = torch.nan
    rows, columns = (n // 4 for n in thin.shape[1:])
    rim = torch.cat([thin[:, [0, -1]].reshape(-1), thin[:, :, [0, -1]].reshape(-1)])
    middle = thin[:, rows : -rows or None, columns : -columns or None].reshape(-1)
    if float(rim.isnan().float().mean()) > 0.9 or middle.isnan().all():
        return False
    edge = float(rim.nanmedian())
    above = float((thin > edge + 0.1 * reach).float().mean())
    return edge - float(middle.nanmedian()) > 0.25 * reach and above < 0.002


def _sample(array: torch.Tensor, pads: list[float]) -> torch.Tensor:
    """Values (n,) float32 without padding; all of them where nothing else is there."""
    step = max(1, round((array.numel() / (4 * SAMPLE)) ** (1 / 3)))
    values = array[::step, ::step, ::step].float().flatten()
    kept = values[~torch.isin(values, torch.tensor(pads, dtype=torch.float32))] if pads else values
    kept = kept[torch.isfinite(kept)]
    return kept if len(kept) > 100 else values


def check_range(low: float, high: float, name: str) -> None:
    """Raises UserError where an image's least and greatest value are no numbers, or the same."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{name}: it holds NaN or infinite values; replace them by -1000 (air).")
    if high - low < 1e-6:
        raise UserError(f"{name}: every voxel is {low:g}; the image is empty, export it again.")


def looks_hounsfield(values: torch.Tensor) -> bool:
    """Whether values (n,) lie as HU do: between -1500 and 4000, the middle one neither pure air nor metal. Without air
    one in two hundred is not denser than any bone: those are attenuation, or HU with something added, of a field of view
    that is mostly air."""
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    if low > -200 and high > DENSEST:
        return False
    return bool(low > -1500 and -700 < float(values.median()) < 400 and high < 4000 and high - low > 200)


def meaning(values: torch.Tensor, kind: str) -> Meaning:
    """What values (n,), without padding, mean. An offset is tried before a gain."""
    if values.numel() < 10:
        return Meaning()
    shift = offset_of(values)
    if shift:
        cause = "the rescale intercept was lost" if shift > 0 else "rescaled twice"
        return Meaning(1.0, -shift, f"values were HU {shift:+g} ({cause}); {-shift:+g} was added")
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    if (kind == "ct" and low < -200) or high <= low:
        return Meaning()
    air, tissue = two_levels(values.clamp(float(low), float(high)))
    # HU without one value below 0 are none: fat is, and gas. But from air to tissue it must not be as far as in HU.
    scaled = kind == "cbct" and low >= 0 and not 600 < tissue - air < 1500
    if looks_hounsfield(values) and not scaled:
        return Meaning()
    if -1500 < low < -900 and high < 4000 and high - low > 200:
        return Meaning()  # HU, with more air than body
    for unit, water in WATER.items():
        if abs(air) < 0.2 * water and 0.7 * water < tissue < 1.4 * water and high < 5 * water:
            return _from_attenuation(unit, tissue, kind)
    if kind == "ct":
        return Meaning()
    gain = (SOFT - AIR) / max(tissue - air, 1e-6)
    words = f"values are no HU: air was found at {air:.4g}, soft tissue at {tissue:.4g}, and scaled so"
    return Meaning(gain, SOFT - gain * tissue, words, True)


def _from_attenuation(unit: str, tissue: float, kind: str) -> Meaning:
    """A CT's soft tissue is where it belongs, so it tells the energy; that of a CBCT lies up to 200 HU off, and its level
    is found later (`tissue_level`): there the unit alone says the gain."""
    if kind == "ct":
        return Meaning((SOFT - AIR) / tissue, AIR, f"values were attenuation in {unit}; soft tissue was set to 40 HU")
    words = f"values were attenuation in {unit}; water was taken to be {WATER[unit]:g} {unit}"
    return Meaning(-AIR / WATER[unit], AIR, words)


def offset_of(values: torch.Tensor) -> float:
    """What was added to HU: one of `OFFSETS`, or 0. Values (n,)."""
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    share = lambda a, b: float(((values > a) & (values < b)).float().mean())  # noqa: E731
    if low > -200 and 300 < high < 5100 and share(850, 1250) > max(0.08, share(300, 700)):
        shifts = [s for s in OFFSETS if s > 0]  # soft tissue where HU have dense bone: never a tenth of a body
    elif -2300 < low < -1800 and high < 2500 and share(-1250, -850) > 0.05 and share(-2100, -1950) > 0.01:
        shifts = [s for s in OFFSETS if s < 0]  # air far below air
    else:
        return 0.0
    centre = np.mean(shifts)
    air = values[(values > AIR + centre - 80) & (values < AIR + centre + 80)]
    if len(air) > 0.02 * len(values):
        return min(shifts, key=lambda s: abs(float(air.median()) - (AIR + s)))
    return min(shifts, key=lambda s: abs(mode(values - s, -250.0, 300.0) - SOFT))


def check_ct(array: torch.Tensor, found: Meaning, name: str) -> None:
    """Raises UserError unless a CT's values, brought to HU, can be one: air well below 0."""
    low, high = float(array.min()), float(array.max())
    if low * found.gain + found.offset < -200:
        return
    raise UserError(
        f"{name}: its values ({low:g} to {high:g}) are not those of a CT; give a CT in Hounsfield units (is it an MR or a "
        "mask?)."
    )


def tissue_level(values: torch.Tensor) -> tuple[float, float]:
    """Gain and offset bringing `values` (n,) near HU: soft tissue to 40, and air to -1000 where it is no HU at all."""
    values = values[torch.isfinite(values)]
    if values.numel() > SAMPLE:
        values = values[:: values.numel() // SAMPLE]
    if values.numel() < 10:
        return 1.0, 0.0
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    gain, offset = 1.0, -offset_of(values)
    if not offset and not looks_hounsfield(values) and high > low:
        air, tissue = two_levels(values.clamp(low, high))
        gain = (SOFT - AIR) / max(tissue - air, 1e-6)
        offset = SOFT - gain * tissue
    peak = mode(values * gain + offset, -250.0, 300.0)
    return gain, offset + SOFT - peak


def mode(values: torch.Tensor, low: float, high: float) -> float:
    """Peak of the smoothed histogram between low and high; 40 where there is nothing."""
    inside = values[(values > low) & (values < high)]
    if inside.numel() < 10:
        return SOFT
    counts = torch.histc(inside.float(), 110, low, high)
    kernel = torch.tensor([1, 2, 4, 6, 8, 6, 4, 2, 1], dtype=torch.float32)
    smooth = torch.nn.functional.conv1d(counts[None, None], kernel[None, None], padding=4)[0, 0]
    return low + (float(smooth.argmax()) + 0.5) * (high - low) / 110


def two_levels(values: torch.Tensor) -> tuple[float, float]:
    """Air and tissue levels by Otsu's threshold."""
    counts = torch.histc(values.float(), 256).double()
    centres = torch.linspace(float(values.min()), float(values.max()), 256, dtype=torch.float64)
    weight = counts.cumsum(0)
    mean = (counts * centres).cumsum(0)
    between = (mean[-1] * weight / weight[-1] - mean) ** 2 / (weight * (weight[-1] - weight)).clamp(min=1e-9)
    threshold = centres[int(between[:-1].argmax())]
    return float(values[values <= threshold].median()), float(values[values > threshold].median())
