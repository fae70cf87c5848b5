"""Where the coarse network looks: a saliency map over the CBCT (the paper's Figure 3)."""

from __future__ import annotations

import numpy as np

from lib.figures.planes import AXES, PLANES, cut, draw, frame, grey, scaled, window_of, words
from lib.images.volume import Volume


def saliency(
    fixed: Volume,
    attention: Volume,
    centre,
    box_mm,
    title: str = "",
    target=None,
    window=None,
    what="region of interest",
):
    """Figure 3: where the coarse network looks. `attention`: a non-negative map placed in the fixed
    world, shown from its 95th percentile up; the box (edges `box_mm`) around `centre` is the fine
    network's region of interest, named `what`; `target` (3,) world mm, the true object, is a cross."""
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
        f"{title}  saliency above its 95th percentile, {what} ({words('CBCT', window)})",
        fontsize=9,
    )
    return fig
