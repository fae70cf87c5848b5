"""Pictures of what the network sees: windows, their difference, the residuals they are drawn with."""

from __future__ import annotations

import numpy as np

from lib.figures.charts import new_figure
from lib.rigid import ACTION_NAMES

_SLICES = {"sagittal": 2, "coronal": 1, "axial": 0}  # the axis of (k, j, i) that is cut


def _slice(volume, plane: str) -> np.ndarray:
    """Middle slice with head up (sagittal: anterior left; coronal and axial: the patient's right on the left)."""
    axis = _SLICES[plane]
    image = np.take(np.asarray(volume), volume.shape[axis] // 2, axis=axis)
    return image if plane == "axial" else image[::-1]


def samples(fixed, moved, valid, v, plane: str = "sagittal", title: str = ""):
    """Columns of samples: fixed window, moved window, difference inside the overlap. Windows (n, w, w, w), v (n, 6)."""
    import matplotlib.pyplot as plt

    n = len(v)
    figure, axes = plt.subplots(3, n, figsize=(1.5 * n, 5.2), layout="constrained", squeeze=False)
    for column in range(n):
        mask = np.asarray(valid[column])
        parts = (fixed[column], moved[column], (fixed[column] - moved[column]) * valid[column])
        for row, part in enumerate(parts):
            image = _slice(np.asarray(part), plane)
            ax = axes[row][column]
            ax.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            ax.contour(_slice(mask, plane), [0.5], colors="#0072b2", linewidths=0.5)
            ax.set_xticks([])
            ax.set_yticks([])
        t, r = np.asarray(v[column])[:3], np.asarray(v[column])[3:]
        axes[0][column].set_title(
            f"{t[0]:+.0f} {t[1]:+.0f} {t[2]:+.0f} mm\n{r[0]:+.0f} {r[1]:+.0f} {r[2]:+.0f}°", fontsize=7
        )
    for row, name in enumerate(("fixed (CBCT)", "moved (CT)", "difference")):
        axes[row][0].set_ylabel(name, fontsize=8)
    figure.suptitle(f"{title} · {plane} · normalised contrast -1..1 · blue: both images have data", fontsize=8)
    return figure


def residual_histograms(v: np.ndarray, title: str = ""):
    """Histograms of the six parameters v (n, 6), mm and degrees."""
    figure, axes = new_figure(2, 3, height=2.0)
    for index, ax in enumerate(np.asarray(axes).ravel()):
        ax.hist(v[:, index], bins=61, color="#0072b2")
        ax.set_xlabel(f"{ACTION_NAMES[2 * index][1:]} ({'mm' if index < 3 else 'degrees'})", fontsize=7)
        ax.set_yticks([])
    figure.suptitle(title, fontsize=9)
    return figure
