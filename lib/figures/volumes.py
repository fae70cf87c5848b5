"""Pictures of volumes, and of two of them laid over each other, as a radiologist reads them.

Every plane is cut in world coordinates (LPS mm), so oblique grids and poses need no special care. Axial
and coronal views face the patient (the patient's right is on the picture's left), sagittal views have the
front on the left; the head is up. Orientation letters, a scale bar and the grey window are on each
picture. Windows are (level, width) in HU; a CBCT's are not true HU. Functions return a matplotlib Figure.
"""

from __future__ import annotations

import numpy as np

from lib import rigid
from lib.figures.charts import label, new_figure
from lib.figures.planes import (
    AXES,
    CT_WINDOW,
    HALF,
    PLANES,
    blend,
    both,
    cut,
    draw,
    frame,
    grey,
    matched,
    scaled,
    window_of,
    words,
)
from lib.figures.planes import difference as image_of_difference
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


def overlay(
    fixed: Volume,
    moving: Volume,
    poses,
    title: str = "",
    windows=None,
    centre=None,
    margin: float = 60,
    planes=("coronal", "sagittal"),
    half: float | None = None,
):
    """Figure 1: CBCT (orange) and moved CT (blue), grey where they agree; a row a plane, a column a pose.

    poses: one pose (4, 4, moving -> fixed) or a dict name -> pose; windows: ((level, width) CBCT, (level, width) CT);
    margin: mm of the CT shown around the CBCT, or half: mm from the centre to every edge, for a close look.
    """
    poses = poses if isinstance(poses, dict) else {"": poses}
    windows, (centre, shapes) = _windows(fixed, windows), _shapes(fixed, planes, centre, margin, half)
    tallest = shapes[0][1]
    fig, axes = new_figure(len(planes), len(poses), widths=[shapes[0][0] / tallest] * len(poses), height=3.2)
    for column, (name, pose) in enumerate(poses.items()):
        for row, (plane, shape) in enumerate(zip(planes, shapes, strict=True)):
            image = blend(*both(fixed, moving, pose, plane, centre, shape), windows)
            draw(axes[row][column], image, plane, shape, f"{name} ({plane})" if name else plane)
    colours = f"CBCT orange ({words('CBCT', windows[0])}), CT blue ({words('CT', windows[1])})"
    fig.suptitle(_lines(f"{title}  {colours}", len(poses)), fontsize=8)
    return fig


def close(fixed: Volume, moving: Volume, poses, centre, title: str = ""):
    """`overlay` of three planes near `centre`, in windows in which both images look alike at the last pose."""
    poses = poses if isinstance(poses, dict) else {"": poses}
    windows = matched(fixed, moving, [*poses.values()][-1], centre)
    return overlay(fixed, moving, poses, title, windows, centre, planes=PLANES, half=HALF)


def alone(fixed: Volume, moving: Volume, pose, centre, title: str = ""):
    """Each image by itself, in grey, near `centre`: the CBCT above, below the CT where `pose` puts it."""
    windows, shape = matched(fixed, moving, pose, centre), (2 * HALF, 2 * HALF)
    fig, axes = new_figure(2, 3, widths=[1.0] * 3, height=3.2)
    for column, plane in enumerate(PLANES):
        pair = both(fixed, moving, pose, plane, centre, shape)
        for row, name in enumerate(("CBCT", "CT")):
            draw(axes[row][column], grey(pair[row], windows[row]), plane, shape, f"{name}, {plane}")
    shown = ", ".join(words(name, window) for name, window in zip(("CBCT", "CT"), windows, strict=True))
    fig.suptitle(f"{title}  {shown}".strip(), fontsize=8)
    return fig


def difference(
    fixed: Volume,
    moving: Volume,
    poses,
    title: str = "",
    windows=None,
    centre=None,
    planes=("coronal",),
    meshes=None,
    half: float | None = None,
    columns: int = 6,
    inches: float = 1.9,
):
    """Figure 5: fixed minus moved image inside both (mid-grey: equal), a picture for each pose and plane.

    poses: dict name (a method's, or words) -> pose (4, 4, moving -> fixed). meshes: (mesh_moving, mesh_fixed), each
    (vertices, faces); their outlines on the plane are drawn: fixed in orange, moved in blue. inches: height of a picture.
    """
    windows, (centre, shapes) = _windows(fixed, windows), _shapes(fixed, planes, centre, 0, half)
    n = min(columns, len(poses))
    lines = -(-len(poses) // n) * len(planes)
    fig, axes = new_figure(lines, n, widths=[shapes[0][0] / shapes[0][1]] * n, height=inches)
    flat = [ax for row in axes for ax in row]
    pictures = [(name, pose, k) for k in range(len(planes)) for name, pose in poses.items()]
    for ax, (name, pose, k) in zip(flat, pictures, strict=False):
        pair = both(fixed, moving, pose, planes[k], centre, shapes[k])
        draw(ax, image_of_difference(*pair, windows), planes[k], shapes[k], label(name))
        if meshes is not None:
            _outline(ax, meshes[1], np.eye(4), planes[k], centre, "#f0a030")
            _outline(ax, meshes[0], pose, planes[k], centre, "#56b4e9")
    for ax in flat[len(pictures) :]:
        ax.set_axis_off()
    shown = f"{words('CBCT', windows[0])}, {words('CT', windows[1])}"
    fig.suptitle(_lines(f"{title}  CBCT minus moved CT, {', '.join(planes)}; {shown}", n), fontsize=8)
    return fig


def _windows(fixed, windows):
    return windows or (window_of(fixed), CT_WINDOW)


def _shapes(fixed, planes, centre, margin, half):
    """(where planes are cut, (width, height) in mm of each): all of the CBCT and a margin, or `half` mm on every side."""
    middle, shapes = frame(fixed)
    centre = middle if centre is None else np.asarray(centre, dtype=np.float64)
    if half is not None:
        return centre, [(2 * half, 2 * half)] * len(planes)
    return centre, [(w + 2 * margin, h + 2 * margin) for w, h in (shapes[PLANES.index(p)] for p in planes)]


def _lines(words_: str, columns: int) -> str:
    """A title broken where its figure of so many pictures would be too narrow for it."""
    import textwrap

    return textwrap.fill(words_.strip(), 48 * columns)


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
    note = f"({plane}, {words('window', window)})" if window else f"({plane}; W, L as stored)"
    fig.suptitle(f"{suptitle}  {note}".strip(), fontsize=9)
    return fig
