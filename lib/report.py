"""One self-contained HTML page about a registration: overlays before and after, difference, path,
confidence, verdict."""

from __future__ import annotations

import base64
import html
import io as streams
import os
from pathlib import Path

import numpy as np
import torch

from lib import rigid, trust
from lib.errors import UserError
from lib.normalise import tissue_level
from lib.volume import Volume, sample

PLANES = ("axial", "coronal", "sagittal")
OUTSIDE = -30000.0  # no image has values near it
NAMES = ("tx", "ty", "tz", "rx", "ry", "rz")
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "img{width:100%}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left}"
    ".good{color:#0a6b2d}.bad{color:#a3161f}"
)


def plane_points(centre, plane: str, half: float = 110.0, step: float = 1.0) -> np.ndarray:
    """World points (h, w, 3) of a plane through `centre` (LPS mm), as a radiologist sees it: left on the
    right, head up."""
    axis = np.arange(-half, half + step, step)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    zero = np.zeros_like(u)
    offsets = {
        "axial": np.stack([u, v, zero], -1),
        "coronal": np.stack([u, zero, -v], -1),
        "sagittal": np.stack([zero, u, -v], -1),
    }
    return offsets[plane] + np.asarray(centre)


def slices(
    fixed: Volume, moving: Volume, pose: np.ndarray, centre, plane: str
) -> tuple[np.ndarray, np.ndarray]:
    """The fixed slice and the moved one at `pose` (moving -> fixed) through `centre`; NaN outside either
    volume."""
    points = plane_points(centre, plane)
    back = rigid.apply(rigid.invert(pose), points.reshape(-1, 3)).reshape(points.shape)
    still, moved = (
        sample(volume, torch.as_tensor(where, dtype=torch.float32), fill=OUTSIDE).numpy().copy()
        for volume, where in ((fixed, points), (moving, back))
    )
    still[still <= max(float(fixed.array.min()) + 1e-3, -4000)] = np.nan
    moved[moved < -4000] = np.nan
    return still, moved


def shade(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Grey 0 to 1 within `window`; NaN becomes 0."""
    low, high = window
    return np.nan_to_num(np.clip((values - low) / max(high - low, 1e-6), 0, 1))


def window_of(volume: Volume) -> tuple[float, float]:
    """What to show as black and white: -150 to 450 HU, found from soft tissue where values are no HU."""
    values = volume.array[volume.array > float(volume.array.min()) + 1e-3]
    gain, offset = tissue_level(values)
    return (-150.0 - offset) / gain, (450.0 - offset) / gain


def overlay(still: np.ndarray, moved: np.ndarray, windows) -> np.ndarray:
    """CBCT orange, CT blue: (h, w, 3); grey where both agree."""
    a, b = shade(still, windows[0]), shade(moved, windows[1])
    return np.stack([a, (a + b) / 2, b], axis=-1)


def overlay_figure(fixed: Volume, moving: Volume, poses: dict[str, np.ndarray], centre):
    """A figure: a row for each named pose, three planes each."""
    import matplotlib.pyplot as plt

    windows = window_of(fixed), window_of(moving)
    size = (11, 3.8 * len(poses))
    figure, axes = plt.subplots(len(poses), 3, figsize=size, squeeze=False, layout="constrained")
    for row, (name, pose) in zip(axes, poses.items(), strict=True):
        for ax, plane in zip(row, PLANES, strict=True):
            ax.imshow(overlay(*slices(fixed, moving, pose, centre, plane), windows))
            ax.set_title(f"{name}, {plane}", fontsize=10)
            ax.axis("off")
    return figure


def difference_figure(fixed: Volume, moving: Volume, pose: np.ndarray, centre):
    """CBCT minus CT after registration, each in its own display window; white where they agree."""
    import matplotlib.pyplot as plt

    windows = window_of(fixed), window_of(moving)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for ax, plane in zip(axes, PLANES, strict=True):
        still, moved = slices(fixed, moving, pose, centre, plane)
        both = np.isfinite(still) & np.isfinite(moved)
        ax.imshow(
            np.where(both, shade(still, windows[0]) - shade(moved, windows[1]), 0),
            cmap="RdBu",
            vmin=-1,
            vmax=1,
        )
        ax.set_title(f"difference, {plane}", fontsize=10)
        ax.axis("off")
    return figure


def path_figure(result):
    """The six parameters along the path (about the fixed centre, zero at the start) and the action-value
    margin."""
    import matplotlib.pyplot as plt

    start = rigid.invert(result.trajectory[0])
    moved = rigid.matrix_to_params(rigid.centred(result.trajectory @ start, result.centre))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    for column, name in enumerate(NAMES):
        left.plot(moved[:, column], label=name, linestyle="-" if column < 3 else "--")
    left.set(xlabel="step", ylabel="mm (t), degrees (r)", title="path of the six parameters")
    left.legend(ncol=2, fontsize=8)
    right.plot(trust.margins(result.values))
    right.set(
        xlabel="step",
        ylabel="margin (standard deviations)",
        title="how clearly the agent preferred its action",
    )
    return figure


def write_html(path, fixed: Volume, moving: Volume, result, names: tuple[str, str] = ("CBCT", "CT")) -> None:
    """Write the report of a `register.Registration` (fixed and moving as registered); all pictures inside
    the file."""
    import matplotlib

    matplotlib.use("agg", force=False)
    before, after = result.trajectory[0], result.pose
    figures = {
        "Before and after (CBCT orange, CT blue, grey where they agree)": overlay_figure(
            fixed, moving, {"before": before, "after": after}, result.centre
        ),
        "Difference after registration": difference_figure(fixed, moving, after, result.centre),
        "The agent's path": path_figure(result),
    }
    mood = "bad" if result.trust.reasons else "good"
    pictures = "".join(f"<h2>{title}</h2>{_png(figure)}" for title, figure in figures.items())
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Registration report</title>"
        f"<style>{STYLE}</style></head><body><h1>Registration of {html.escape(names[1])} to "
        f"{html.escape(names[0])}</h1>"
        f"<p class='{mood}'><b>{html.escape(result.trust.sentence())}</b></p>"
        f"{_table(result)}{pictures}<p>The transform maps fixed (CBCT) to moving (CT) points, LPS "
        f"millimetres. "
        "Research software, not a medical device: look at the overlay before you believe "
        "it.</p></body></html>"
    )
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: the report could not be written ({error.strerror}).") from None


def _table(result) -> str:
    t = result.trust
    params = rigid.matrix_to_params(rigid.centred(result.pose, result.centre))
    rows = [
        (
            "CT to CBCT about the CBCT's centre",
            ", ".join(f"{n} {v:+.1f}" for n, v in zip(NAMES, params, strict=True)),
        ),
        ("CBCT inside the CT", f"{t.overlap:.0%}"),
        ("starts that agree", f"{t.agreement:.0%} of {len(result.ends)}"),
        ("wandering at the end", f"{t.wander:.1f} mm"),
        ("action-value margin at the end", f"{t.margin:.2f} standard deviations"),
        ("likeness (correlation of local contrast)", f"{t.similarity:.2f}"),
        ("seconds", ", ".join(f"{k} {v:g}" for k, v in result.seconds.items())),
    ]
    rows += [("note", result.note)] if result.note else []
    return (
        "<table>"
        + "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
        + "</table>"
    )


def _png(figure) -> str:
    import matplotlib.pyplot as plt

    stream = streams.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    plt.close(figure)
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}'>"
