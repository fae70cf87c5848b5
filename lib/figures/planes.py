"""One plane through a volume and how it is drawn: cuts in world coordinates, windows, colours, letters, scale bars."""

from __future__ import annotations

import numpy as np
import torch

from lib import rigid
from lib.figures.charts import new_figure
from lib.images.normalise import tissue_level
from lib.images.volume import Volume, sample

CT_WINDOW = (150.0, 900.0)  # level, width: bone and soft tissue together
PLANES = ("axial", "coronal", "sagittal")
# In-plane directions (columns to the right, rows downwards) in LPS, and letters left, right, top, bottom.
AXES = {
    "axial": (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), "RLAP"),
    "coronal": (np.array([1.0, 0, 0]), np.array([0, 0, -1.0]), "RLHF"),
    "sagittal": (np.array([0, 1.0, 0]), np.array([0, 0, -1.0]), "APHF"),
}
EDGES = {plane: letters for plane, (_, _, letters) in AXES.items()}
HALF = 110.0  # mm from the centre to the edge of a close picture
LEVEL, WIDTH = 200.0, 900.0  # HU of a close picture: soft tissue, and end-plates that are not all white
OUTSIDE = -30000.0  # no image has values near it
_OTHERS = ((0, 0), (0, 1), (1, 1))  # reducing these axes in turn leaves i, j, k of an array [k, j, i]


def cut(volume: Volume, plane: str, centre, extent, pose=None, step: float = 1.0, fill: float = -1000.0):
    """One plane through `centre` (world mm, fixed): array (rows, columns) at `step` mm.

    extent: (width, height) in mm. With a `pose` (4, 4, moving -> fixed) the volume is the moving one, moved.
    """
    right, down, _ = AXES[plane]
    x, y = (np.arange(-e / 2 + step / 2, e / 2, step) for e in extent)
    points = np.asarray(centre, dtype=np.float64) + y[:, None, None] * down + x[None, :, None] * right
    if pose is not None:
        points = rigid.apply(rigid.invert(np.asarray(pose)), points.reshape(-1, 3)).reshape(points.shape)
    return _values(volume, points, fill)


def _values(volume: Volume, points: np.ndarray, fill: float) -> np.ndarray:
    """Linear interpolation at world points (h, w, 3), `fill` beyond the grid; touches only the voxels that it needs."""
    from scipy.ndimage import map_coordinates

    index = rigid.apply(np.linalg.inv(volume.affine), points.reshape(-1, 3))[:, ::-1].T
    array = volume.array.cpu().numpy()
    return map_coordinates(array, index, order=1, output=np.float32, cval=fill).reshape(points.shape[:2])


def both(fixed: Volume, moving: Volume, pose, plane: str, centre, extent) -> tuple[np.ndarray, np.ndarray]:
    """The CBCT's plane and the moved CT's at `pose` (4, 4, moving -> fixed); NaN where either has no data."""
    still = cut(fixed, plane, centre, extent, fill=OUTSIDE)
    moved = cut(moving, plane, centre, extent, pose, fill=OUTSIDE)
    padding = max(
        float(fixed.array.min()) + 1e-3, -4000
    )  # what a CBCT is padded with; a blend with it is no data either
    seen = cut(fixed.with_array((fixed.array > padding).to(torch.uint8)), plane, centre, extent, fill=0)
    still[seen < 0.999] = np.nan
    moved[moved < -4000] = np.nan
    return still, moved


def _corners(low, high) -> np.ndarray:
    """(3, 8) corners of an index box."""
    return np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1)


def _extents(world: np.ndarray, voxel: float, planes) -> list[tuple[float, float]]:
    size = world.max(axis=1) - world.min(axis=1) + voxel
    return [tuple(float(np.abs(axis) @ size) for axis in AXES[p][:2]) for p in planes]


def extents(volume: Volume, planes=PLANES) -> list[tuple[float, float]]:
    """(width, height) in mm of each plane that shows the whole volume."""
    corners = _corners(np.zeros(3), np.array(volume.size) - 1.0)
    return _extents(volume.affine[:3, :3] @ corners, volume.spacing.max(), planes)


def frame(volume: Volume, padding: float = -990.0):
    """(centre (3,), extents of the three planes) of what is not padding: a CBCT often fills little of its
    grid."""
    where = [np.flatnonzero((volume.array > padding).any(dim=d1).any(dim=d2).numpy()) for d1, d2 in _OTHERS]
    if min(len(w) for w in where) == 0:
        return volume.centre, extents(volume)
    low, high = (np.array([w[i] for w in where], dtype=np.float64) for i in (0, -1))
    middle = volume.affine[:3, :3] @ ((low + high) / 2) + volume.origin
    return middle, _extents(volume.affine[:3, :3] @ _corners(low, high), volume.spacing.max(), PLANES)


def window_of(volume: Volume) -> tuple[float, float]:
    """(level, width) for a CBCT, from the soft tissue in the middle half of what is not padding (its rim
    is often bright, and its values are not true HU): from well below fat to bone."""
    seen = volume.array > -990
    where = [np.flatnonzero(seen.any(dim=d1).any(dim=d2).numpy()) for d1, d2 in _OTHERS]
    if min(len(w) for w in where) == 0:
        return CT_WINDOW
    i, j, k = (slice(w[0] + len(w) // 4, w[-1] + 1 - len(w) // 4, 2) for w in where)
    values = volume.array[k, j, i].float().reshape(-1)
    values = values[values > -500]
    if values.numel() < 10:
        return CT_WINDOW
    values = values[:: max(1, values.numel() // 200_000)]
    low, middle, high = (float(v) for v in torch.quantile(values, torch.tensor([0.05, 0.5, 0.99])))
    width = float(np.clip(1.6 * (high - low), 300, 2000))
    return round((middle + 0.12 * width) / 10) * 10.0, round(width / 10) * 10.0


def through_bone(moving: Volume, pose, centre, above: float = 200.0) -> np.ndarray:
    """(3,) where to cut so that all planes meet the spine: `centre` (3,), fixed world, moved across the body into the middle
    of the CT's bone around it, at `pose` (4, 4, moving -> fixed). `centre` itself where there is little bone."""
    across, deep, along = (np.arange(-reach, reach + 1, 3.0) for reach in (60.0, 90.0, 12.0))
    points = np.asarray(centre) + np.stack(np.meshgrid(across, deep, along, indexing="ij"), axis=-1).reshape(-1, 3)
    moved = rigid.apply(rigid.invert(np.asarray(pose)), points)
    bone = points[sample(moving, torch.as_tensor(moved, dtype=torch.float32)).numpy() > above]
    return np.asarray(centre) if len(bone) < 50 else np.append(np.median(bone[:, :2], axis=0), np.asarray(centre)[2])


def matched(fixed: Volume, moving: Volume, pose, centre) -> tuple:
    """Windows of CBCT and CT in which tissue looks alike: `LEVEL`, `WIDTH` in the CT's HU, and the CBCT's so that its spread
    of values where both have tissue looks as the CT's does there (a CBCT is no HU, and often darker in the middle)."""
    ct = _tissue_window(moving)
    pairs = [both(fixed, moving, pose, plane, centre, (2 * HALF, 2 * HALF)) for plane in PLANES]
    still, moved = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    tissue = np.isfinite(still) & (np.nan_to_num(moved, nan=-9999.0) > ct[0] - ct[1] / 2 - 150)
    if tissue.sum() < 2000:
        return _tissue_window(fixed), ct
    (a, b), (low, high) = (np.quantile(v[tissue], [0.1, 0.9]) for v in (still, moved))
    gain = (b - a) / max(high - low, 1e-6)
    return (a + (ct[0] - low) * gain, ct[1] * gain), ct


def _tissue_window(volume: Volume) -> tuple[float, float]:
    """(level, width) that show `LEVEL`, `WIDTH` HU; found from soft tissue, for images whose values are no HU."""
    thin = volume.array[::2, ::2, ::2]
    gain, offset = tissue_level(thin[thin > float(thin.min()) + 1e-3])
    return (LEVEL - offset) / gain, WIDTH / gain


def grey(image, window) -> np.ndarray:
    """HU -> 0..1 in a (level, width) window; no data is black."""
    level, width = window
    return np.nan_to_num(np.clip((image - level) / max(width, 1e-6) + 0.5, 0, 1))


def blend(still: np.ndarray, moved: np.ndarray, windows) -> np.ndarray:
    """RGB (h, w, 3) of `both`: CBCT orange, CT blue, grey where they agree; where only one has data it is dark grey."""
    a, b = grey(still, windows[0]), grey(moved, windows[1])
    overlap = (np.isfinite(still) & np.isfinite(moved))[..., None]
    alone = 0.45 * np.where(np.isfinite(still), a, b)[..., None]
    return np.where(overlap, np.stack([a, (a + b) / 2, b], axis=-1), alone)


def difference(still: np.ndarray, moved: np.ndarray, windows) -> np.ndarray:
    """Grey of CBCT minus CT, each in its window: 0.5 where they agree, black where either has no data."""
    value = 0.5 + 0.5 * (grey(still, windows[0]) - grey(moved, windows[1]))
    return np.where(np.isfinite(still) & np.isfinite(moved), value, 0.0)


def words(name: str, window) -> str:
    """A window in words, for a title. Only a CT is said to be in HU."""
    return f"{name}: W {window[1]:.0f} L {window[0]:.0f}{' HU' if name == 'CT' else ''}"


def scaled(shapes, rows: int = 1, height: float = 3.4):
    """A figure whose panels share one scale (mm an inch): shapes (width, height) in mm."""
    tallest = max(h for _, h in shapes)
    return new_figure(rows, len(shapes), widths=[w / tallest for w, _ in shapes], height=height)


def draw(ax, image, plane: str, extent, title="", bar_mm: float = 50, letters: bool = True):
    """An image (grey 0..1 or RGB) in mm, with orientation letters and a scale bar."""
    w, h = extent
    ax.imshow(image, extent=(-w / 2, w / 2, h / 2, -h / 2), cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    ax.set(xticks=[], yticks=[], xlim=(-w / 2, w / 2), ylim=(h / 2, -h / 2), aspect="equal")
    ax.set_title(title, fontsize=8)
    if letters:
        places = ((0.02, 0.5, "left"), (0.98, 0.5, "right"), (0.5, 0.97, "center"), (0.5, 0.03, "center"))
        valign = ("center", "center", "top", "bottom")
        for (x, y, side), v, letter in zip(places, valign, AXES[plane][2], strict=True):
            text = ax.text(x, y, letter, transform=ax.transAxes, ha=side, va=v, color="#7fd4ff", fontsize=9)
            text.set(weight="bold", path_effects=_outline(2))
    bar = bar_mm if bar_mm < 0.6 * w else 10
    right, low = w / 2 - 0.04 * w, h / 2 - 0.05 * h
    line = ax.plot([right - bar, right], [low, low], color="w", lw=2, solid_capstyle="butt")[0]
    line.set_path_effects(_outline(4))
    text = ax.text(right - bar / 2, low - 0.02 * h, f"{bar:.0f} mm", color="w", ha="center", va="bottom")
    text.set(fontsize=7, path_effects=_outline(2))


def _outline(width: float):
    """A dark rim, so that white marks are seen on bone too."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]
