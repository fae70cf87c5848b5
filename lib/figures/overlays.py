"""Pictures of a registration, as a radiologist looks at them: three planes through one point, each with its directions,
a scale bar and its display window; the difference; the agent's path."""

from __future__ import annotations

import numpy as np

from lib import rigid
from lib.images.normalise import tissue_level
from lib.images.volume import Volume
from lib.registration import trust

PLANES = ("axial", "coronal", "sagittal")
EDGES = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}  # left, right, top, bottom of the picture
OUTSIDE = -30000.0  # no image has values near it
NAMES = ("tx", "ty", "tz", "rx", "ry", "rz")
HALF = 110.0  # mm from the centre to a picture's edge
WINDOW, LEVEL = 600.0, 150.0  # HU shown from black to white: soft tissue and bone
BAR = 50.0  # mm


def plane_points(centre, plane: str, half: float = HALF, step: float = 1.0) -> np.ndarray:
    """World points (h, w, 3) of a plane through `centre` (LPS mm), as a radiologist sees it: left on the right, head up."""
    axis = np.arange(-half, half + step, step)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    zero = np.zeros_like(u)
    offsets = {
        "axial": np.stack([u, v, zero], -1),
        "coronal": np.stack([u, zero, -v], -1),
        "sagittal": np.stack([zero, u, -v], -1),
    }
    return offsets[plane] + np.asarray(centre)


def slices(fixed: Volume, moving: Volume, pose: np.ndarray, centre, plane: str) -> tuple[np.ndarray, np.ndarray]:
    """The fixed slice and the moved one at `pose` (moving -> fixed) through `centre`; NaN outside either volume."""
    points = plane_points(centre, plane)
    back = rigid.apply(rigid.invert(pose), points.reshape(-1, 3)).reshape(points.shape)
    still, moved = _values(fixed, points), _values(moving, back)
    still[still <= max(float(fixed.array.min()) + 1e-3, -4000)] = np.nan
    moved[moved < -4000] = np.nan
    return still, moved


def _values(volume: Volume, points: np.ndarray) -> np.ndarray:
    """Linear interpolation at world points (h, w, 3), `OUTSIDE` beyond the grid; touches only the voxels it needs."""
    from scipy.ndimage import map_coordinates

    index = rigid.apply(np.linalg.inv(volume.affine), points.reshape(-1, 3))[:, ::-1].T
    return map_coordinates(volume.array.numpy(), index, np.float32, order=1, cval=OUTSIDE).reshape(points.shape[:2])


def shade(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Grey 0 to 1 within `window`; NaN becomes 0."""
    low, high = window
    return np.nan_to_num(np.clip((values - low) / max(high - low, 1e-6), 0, 1))


def window_of(volume: Volume) -> tuple[float, float]:
    """What to show as black and white: -150 to 450 HU, found from soft tissue where values are no HU."""
    thin = volume.array[::2, ::2, ::2]
    values = thin[thin > float(thin.min()) + 1e-3].float()
    gain, offset = tissue_level(values)
    return tuple((LEVEL + side * WINDOW / 2 - offset) / gain for side in (-1, 1))


def windows_of(fixed: Volume, moving: Volume, pose: np.ndarray, centre) -> tuple:
    """Display windows of CBCT and CT. Where enough tissue lies in both, the CBCT's is set so that its spread of values
    there looks as the CT's does: real CBCTs are no HU, and darker in the middle."""
    ct = window_of(moving)
    pairs = [slices(fixed, moving, pose, centre, plane) for plane in PLANES]
    still, moved = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    tissue = np.isfinite(still) & (np.nan_to_num(moved, nan=-9999.0) > ct[0] - 150)
    if tissue.sum() < 2000:
        return window_of(fixed), ct
    (a, b), (low, high) = (np.quantile(v[tissue], [0.1, 0.9]) for v in (still, moved))
    gain = (b - a) / max(high - low, 1e-6)
    return tuple(a + (edge - low) * gain for edge in ct), ct


def overlay(still: np.ndarray, moved: np.ndarray, windows) -> np.ndarray:
    """CBCT orange, CT blue: (h, w, 3); grey where both agree. Where only one has data it is shown dark and grey."""
    a, b = shade(still, windows[0]), shade(moved, windows[1])
    both = (np.isfinite(still) & np.isfinite(moved))[..., None]
    alone = 0.45 * np.where(np.isfinite(still), a, b)[..., None]
    return np.where(both, np.stack([a, (a + b) / 2, b], axis=-1), alone)


def dress(ax, plane: str, bar: bool = True) -> None:
    """Directions at the four edges and a scale bar, in a picture of `plane_points`' size."""
    size = 2 * HALF
    left, right, top, bottom = EDGES[plane]
    style = {"color": "white", "fontsize": 9, "fontweight": "bold", "ha": "center", "va": "center"}
    for letter, x, y in ((left, 7, HALF), (right, size - 7, HALF), (top, HALF, 8), (bottom, HALF, size - 8)):
        text = ax.text(x, y, letter, **style)
        text.set_bbox({"facecolor": "black", "alpha": 0.5, "pad": 1, "edgecolor": "none"})
    if bar:
        ax.plot([12, 12 + BAR], [size - 16] * 2, color="white", lw=2.5, solid_capstyle="butt")
        ax.text(12 + BAR / 2, size - 23, f"{BAR:.0f} mm", color="white", fontsize=7, ha="center")
    ax.set(xticks=[], yticks=[], xlim=(0, size), ylim=(size, 0))
    for spine in ax.spines.values():
        spine.set_visible(False)


def overlay_figure(fixed: Volume, moving: Volume, poses: dict[str, np.ndarray], centre):
    """A figure: a row for each named pose, three planes each."""
    import matplotlib.pyplot as plt

    windows = windows_of(fixed, moving, [*poses.values()][-1], centre)
    size = (11, 3.8 * len(poses))
    figure, axes = plt.subplots(len(poses), 3, figsize=size, squeeze=False, layout="constrained")
    for row, (name, pose) in zip(axes, poses.items(), strict=True):
        for ax, plane in zip(row, PLANES, strict=True):
            ax.imshow(overlay(*slices(fixed, moving, pose, centre, plane), windows))
            ax.set_title(f"{name}, {plane}", fontsize=10)
            dress(ax, plane)
    return figure


def single_figure(fixed: Volume, moving: Volume, pose: np.ndarray, centre):
    """Each image alone, in grey: the CBCT above, the CT where it ended below."""
    import matplotlib.pyplot as plt

    windows = windows_of(fixed, moving, pose, centre)
    figure, axes = plt.subplots(2, 3, figsize=(11, 7.6), layout="constrained")
    for column, plane in enumerate(PLANES):
        pair = slices(fixed, moving, pose, centre, plane)
        for ax, name, values, window in zip(axes[:, column], ("CBCT", "CT"), pair, windows, strict=True):
            ax.imshow(shade(values, window), cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{name}, {plane}", fontsize=10)
            dress(ax, plane)
    return figure


def difference_figure(fixed: Volume, moving: Volume, pose: np.ndarray, centre, before: np.ndarray | None = None):
    """CBCT minus CT, each in its own display window; white where they agree. With a row above for `before`, if given."""
    import matplotlib.pyplot as plt

    windows = windows_of(fixed, moving, pose, centre)
    poses = ({"before": before} if before is not None else {}) | {"after": pose}
    size = (11.8, 3.8 * len(poses))
    figure, axes = plt.subplots(len(poses), 3, figsize=size, squeeze=False, layout="constrained")
    for row, (name, one) in zip(axes, poses.items(), strict=True):
        for ax, plane in zip(row, PLANES, strict=True):
            still, moved = slices(fixed, moving, one, centre, plane)
            both = np.isfinite(still) & np.isfinite(moved)
            difference = np.where(both, shade(still, windows[0]) - shade(moved, windows[1]), np.nan)
            ax.set_facecolor("0.25")  # where only one of them has data
            image = ax.imshow(difference, cmap="RdBu", vmin=-1, vmax=1)
            ax.set_title(f"difference {name}, {plane}", fontsize=10)
            dress(ax, plane)
        bar = figure.colorbar(image, ax=row, shrink=0.8, pad=0.01, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["CT brighter", "alike", "CBCT brighter"], fontsize=8)
    return figure


def path_figure(result):
    """The six parameters along the path (about the fixed centre, zero at the start) and the action-value margin."""
    import matplotlib.pyplot as plt

    start = rigid.invert(result.trajectory[0])
    moved = rigid.matrix_to_params(rigid.centred(result.trajectory @ start, result.centre))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    for column, name in enumerate(NAMES):
        left.plot(moved[:, column], label=name, linestyle="-" if column < 3 else "--")
    left.set(xlabel="step", ylabel="mm (t), degrees (r)", title="the CT's six parameters, from its start")
    left.legend(ncol=2, fontsize=8)
    right.plot(trust.margins(result.values))
    right.set(xlabel="step", ylabel="margin (standard deviations)", title="how clearly the agent preferred its action")
    return figure
