"""One plane through a volume and how it is drawn: cuts in world coordinates, windows, letters, scale bars."""

from __future__ import annotations

import numpy as np
import torch

from lib import rigid
from lib.figures.charts import new_figure
from lib.images.volume import Volume, sample

CT_WINDOW = (150.0, 900.0)  # level, width: bone and soft tissue together
PLANES = ("axial", "coronal", "sagittal")
# In-plane directions (columns to the right, rows downwards) in LPS, and letters left, right, top, bottom.
AXES = {
    "axial": (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), "RLAP"),
    "coronal": (np.array([1.0, 0, 0]), np.array([0, 0, -1.0]), "RLSI"),
    "sagittal": (np.array([0, 1.0, 0]), np.array([0, 0, -1.0]), "APSI"),
}
_OTHERS = ((0, 0), (0, 1), (1, 1))  # reducing these axes in turn leaves i, j, k of an array [k, j, i]
YELLOW = np.array([1.0, 0.82, 0.1])


def cut(volume: Volume, plane: str, centre, extent, pose=None, step: float = 1.0, fill: float = -1000.0):
    """One plane through `centre` (world mm, fixed): array (rows, columns) at `step` mm.

    extent: (width, height) in mm. With a `pose` (4, 4, moving -> fixed) the volume is the moving one, moved.
    """
    right, down, _ = AXES[plane]
    x, y = (np.arange(-e / 2 + step / 2, e / 2, step) for e in extent)
    points = np.asarray(centre, dtype=np.float64) + y[:, None, None] * down + x[None, :, None] * right
    if pose is not None:
        points = rigid.apply(rigid.invert(np.asarray(pose)), points.reshape(-1, 3)).reshape(points.shape)
    return sample(volume, torch.as_tensor(points, dtype=torch.float32), fill=fill).numpy()


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


def grey(image, window) -> np.ndarray:
    """HU -> 0..1 in a (level, width) window."""
    level, width = window
    return np.clip((image - level) / width + 0.5, 0, 1)


def words(name: str, window) -> str:
    """A window in words, for a title."""
    return f"{name}: W {window[1]:.0f} L {window[0]:.0f} HU"


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
