"""Pictures of volumes as a radiologist reads them; charts are in `lib.figures.charts` and reachable from here.

Every plane is cut in world coordinates (LPS mm), so oblique grids and poses need no special care. Axial
and coronal views face the patient (the patient's right is on the picture's left), sagittal views have the
front on the left; the head is up. Orientation letters, a scale bar and the grey window are on each
picture. Windows are (level, width) in HU; a CBCT's are not true HU. Functions return a matplotlib Figure.
"""

from __future__ import annotations

import numpy as np

from lib import rigid
from lib.figures.charts import (
    new_figure,
)
from lib.figures.paths import learning_curves, trajectories  # noqa: F401
from lib.figures.planes import (
    AXES,
    CT_WINDOW,
    PLANES,
    YELLOW,
    cut,
    draw,
    frame,
    grey,
    scaled,
    window_of,
    words,
)
from lib.images.volume import Volume


def three_planes(volume: Volume, title: str = "", window=None, centre=None, points=None, extent=None):
    """Axial, coronal and sagittal cuts through `centre` (default: the middle). `points` (n, 3) world mm
    within 10 mm of a plane are drawn on it. `extent` (3 pairs, mm) defaults to all that is not padding.
    `window`: default `CT_WINDOW`; for a CBCT give `window_of(volume)`."""
    window = window or CT_WINDOW
    middle, shapes = frame(volume)
    centre, shapes = middle if centre is None else np.asarray(centre, dtype=np.float64), extent or shapes
    fig, axes = scaled(shapes)
    for ax, plane, shape in zip(axes[0], PLANES, shapes, strict=True):
        draw(ax, grey(cut(volume, plane, centre, shape), window), plane, shape, plane)
        if points is not None and len(points):
            right, down, _ = AXES[plane]
            off = np.asarray(points) - centre
            near = off[np.abs(off @ np.cross(right, down)) < 10]
            ax.plot(near @ right, near @ down, "o", mfc="none", mec="#ff7f50", ms=4, mew=1)
    fig.suptitle(f"{title}   ({words('window', window)})".strip(), fontsize=9)
    return fig


def blend(fixed_grey, moving_grey, seen) -> np.ndarray:
    """RGB as in the paper's Figure 1: the CT in grey, the CBCT in yellow where it sees (`seen`, bool)."""
    ct = np.repeat(moving_grey[..., None], 3, axis=-1)
    mixed = 0.5 * ct + 0.85 * fixed_grey[..., None] * YELLOW
    return np.clip(np.where(seen[..., None], mixed, 0.8 * ct), 0, 1)


def _pair(fixed, moving, pose, plane, centre, shape, windows):
    """(fixed grey, moved grey, seen by the CBCT, inside the moved CT) on one plane."""
    cbct, ct = cut(fixed, plane, centre, shape), cut(moving, plane, centre, shape, pose, fill=-3000)
    return grey(cbct, windows[0]), grey(ct, windows[1]), cbct > -985, ct > -2000


def _windows(fixed, windows):
    return windows or (window_of(fixed), CT_WINDOW)


def overlay(
    fixed: Volume,
    moving: Volume,
    poses,
    title: str = "",
    windows=None,
    centre=None,
    margin: float = 60,
    planes=("coronal", "sagittal"),
):
    """Figure 1: CBCT (yellow) over the moved CT (grey), a row of planes for each pose.

    poses: one pose (4, 4) or a dict name -> pose; windows: ((level, width) CBCT, (level, width) CT);
    margin: mm of the CT shown around the CBCT.
    """
    poses = poses if isinstance(poses, dict) else {"": poses}
    windows, (middle, shapes) = _windows(fixed, windows), frame(fixed)
    centre = middle if centre is None else np.asarray(centre, dtype=np.float64)
    shapes = [(w + 2 * margin, h + 2 * margin) for w, h in (shapes[PLANES.index(p)] for p in planes)]
    fig, axes = new_figure(len(planes), len(poses), widths=[shapes[0][0] / shapes[0][1]] * len(poses), height=3.2)
    for column, (name, pose) in enumerate(poses.items()):
        for row, (plane, shape) in enumerate(zip(planes, shapes, strict=True)):
            cbct, ct, seen, _ = _pair(fixed, moving, pose, plane, centre, shape, windows)
            draw(axes[row][column], blend(cbct, ct, seen), plane, shape, f"{name} ({plane})" if name else plane)
    fig.suptitle(
        f"{title}  CBCT yellow ({words('CBCT', windows[0])}), CT grey ({words('CT', windows[1])})",
        fontsize=8,
    )
    return fig


def difference(
    fixed: Volume,
    moving: Volume,
    poses,
    title: str = "",
    windows=None,
    centre=None,
    plane="coronal",
    meshes=None,
    margin: float = 0,
    columns: int = 6,
    inches: float = 1.9,
):
    """Figure 5: fixed minus moved image inside both (mid-grey: equal), one picture for each pose.

    poses: dict name -> pose (4, 4, moving -> fixed). meshes: (mesh_moving, mesh_fixed), each (vertices,
    faces); their outlines on the plane are drawn: fixed in yellow, moved in blue. inches: height of a
    picture.
    """
    windows, (middle, shapes) = _windows(fixed, windows), frame(fixed)
    centre = middle if centre is None else np.asarray(centre, dtype=np.float64)
    width, height = shapes[PLANES.index(plane)]
    shape = (width + 2 * margin, height + 2 * margin)
    n = min(columns, len(poses))
    fig, axes = new_figure(-(-len(poses) // n), n, widths=[shape[0] / shape[1]] * n, height=inches)
    flat = [ax for row in axes for ax in row]
    for ax, (name, pose) in zip(flat, poses.items(), strict=False):
        cbct, ct, seen, inside = _pair(fixed, moving, pose, plane, centre, shape, windows)
        image = np.where(seen & inside, 0.5 + 0.5 * (cbct - ct), 0.0)
        draw(ax, image, plane, shape, name)
        if meshes is not None:
            _outline(ax, meshes[1], np.eye(4), plane, centre, "#f0e442")
            _outline(ax, meshes[0], pose, plane, centre, "#56b4e9")
    for ax in flat[len(poses) :]:
        ax.set_axis_off()
    fig.suptitle(
        f"{title}  CBCT minus moved CT, {plane}; {words('CBCT', windows[0])}, {words('CT', windows[1])}",
        fontsize=8,
    )
    return fig


def _outline(ax, mesh, pose, plane, centre, line):
    """Where a mesh (vertices, faces), moved by `pose`, cuts the plane through `centre`."""
    from matplotlib.collections import LineCollection

    right, down, _ = AXES[plane]
    local = rigid.apply(np.asarray(pose), np.asarray(mesh[0], dtype=np.float64)) - centre
    height = local @ np.cross(right, down)
    flat = np.stack([local @ right, local @ down], axis=1)
    segments = []
    for face in np.asarray(mesh[1])[np.ptp(np.sign(height)[mesh[1]], axis=1) > 0]:
        ends = []
        for a, b in ((0, 1), (1, 2), (2, 0)):
            i, j = face[a], face[b]
            if (height[i] > 0) != (height[j] > 0):
                ends.append(flat[i] + (flat[j] - flat[i]) * height[i] / (height[i] - height[j]))
        if len(ends) == 2:
            segments.append(ends)
    ax.add_collection(LineCollection(segments, colors=line, linewidths=1.2))


def contact_sheet(volumes, titles=None, plane: str = "coronal", window=None, columns: int = 6, suptitle: str = ""):
    """Many volumes, one plane each, all at the same scale. `window` None: each its own, as for a CBCT."""
    volumes = list(volumes)
    titles = titles or [""] * len(volumes)
    frames = [frame(v) for v in volumes]
    shapes = [s[PLANES.index(plane)] for _, s in frames]
    shape = tuple(max(s[i] for s in shapes) for i in (0, 1))
    n = min(columns, len(volumes))
    fig, axes = new_figure(-(-len(volumes) // n), n, widths=[shape[0] / shape[1]] * n, height=2.2)
    flat = [ax for row in axes for ax in row]
    for ax, volume, title, (centre, _) in zip(flat, volumes, titles, frames, strict=False):
        own = window or window_of(volume)
        draw(
            ax,
            grey(cut(volume, plane, centre, shape), own),
            plane,
            shape,
            title if window else f"{title} W {own[1]:.0f} L {own[0]:.0f}",
            letters=ax is flat[0],
        )
    for ax in flat[len(volumes) :]:
        ax.set_axis_off()
    note = f"({plane}, {words('window', window)})" if window else f"({plane}; W, L in HU)"
    fig.suptitle(f"{suptitle}  {note}".strip(), fontsize=9)
    return fig


def saliency(fixed: Volume, attention: Volume, centre, box_mm, title: str = "", target=None, window=None):
    """Figure 3: where the coarse network looks. `attention`: a non-negative map placed in the fixed
    world, shown from its 95th percentile up; the box (edges `box_mm`) around `centre` is the fine
    network's region of interest; `target` (3,) world mm, the true object, is a cross."""
    from matplotlib.patches import Rectangle

    window, centre = window or window_of(fixed), np.asarray(centre, dtype=np.float64)
    (whole, shapes), box = frame(fixed), np.broadcast_to(np.asarray(box_mm, dtype=np.float64), (3,))
    high = float(np.quantile(attention.array.cpu().numpy(), 0.95))
    top = float(attention.array.max())
    fig, axes = scaled(shapes)
    for ax, plane, shape in zip(axes[0], PLANES, shapes, strict=True):
        right, down, _ = AXES[plane]
        middle = np.where(np.abs(right) + np.abs(down) > 0, whole, centre)  # the plane passes through the box
        draw(ax, grey(cut(fixed, plane, middle, shape), window), plane, shape, plane)
        heat = cut(attention, plane, middle, shape, fill=0.0)
        ax.imshow(
            np.ma.masked_less_equal(heat, high),
            extent=(-shape[0] / 2, shape[0] / 2, shape[1] / 2, -shape[1] / 2),
            cmap="autumn",
            vmin=high,
            vmax=max(top, high + 1e-12),
            alpha=0.65,
        )
        off, size = centre - middle, np.array([np.abs(right) @ box, np.abs(down) @ box])
        ax.add_patch(Rectangle(np.array([off @ right, off @ down]) - size / 2, *size, fill=False, ec="#00a5ff", lw=2))
        if target is not None:
            gap = np.asarray(target) - middle
            ax.plot(gap @ right, gap @ down, "+", color="#00e0a0", ms=12, mew=2)
    fig.suptitle(
        f"{title}  saliency above its 95th percentile, region of interest ({words('CBCT', window)})",
        fontsize=9,
    )
    return fig
