"""The agent walking home as an animated GIF: the CT moves over a still cone-beam CT, a frame every few steps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lib.figures import planes
from lib.images.volume import Volume

PLANES = ("coronal", "sagittal")
SHOWN = (230.0, 270.0)  # mm, width and height of each picture
COLOURS = np.array([1.0, 0.55, 0.1]), np.array([0.1, 0.55, 1.0])  # CBCT, CT; together they are grey
FIRST_MS, STEP_MS, LAST_MS = 1200, 110, 3500
PADDING = -990.0  # HU: outside a field of view


def which(errors: np.ndarray, n: int = 38) -> np.ndarray:
    """Indices of the poses to draw, about `n`: the first and the last, and between them equal parts of the way that the
    error (mm, one a pose) has gone, so that nothing jumps and no time is spent where the agent only dithers."""
    gone = np.concatenate([[0.0], np.abs(np.diff(errors)).cumsum()])
    even = np.searchsorted(gone, np.linspace(0, gone[-1], n))
    return np.unique(np.concatenate([[0], even, [len(errors) - 1]]))


def mixed(still: np.ndarray, moved: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Grey values 0..1 of CBCT and CT as one picture (h, w, 3): orange and blue, grey where they are alike; outside the
    CBCT's field of view (`seen` is False) the CT alone, dark blue."""
    both = np.clip(still[..., None] * COLOURS[0] + moved[..., None] * COLOURS[1], 0, 1)
    alone = 0.45 * moved[..., None] * COLOURS[1]
    return np.where(seen[..., None], both, alone)


def write(path, fixed: Volume, moving: Volume, poses: np.ndarray, errors, centre, title: str) -> Path:
    """`poses` (n, 4, 4, moving -> fixed), one error (mm) each, as a GIF that plays for ever; `title` says what the images
    are, real or simulated, and stands on every frame. centre: where the planes are cut (world mm, fixed)."""
    from lib.base import provenance

    windows = planes.window_of(fixed), planes.CT_WINDOW
    still = {p: planes.cut(fixed, p, centre, SHOWN) for p in PLANES}
    frames, errors = [], np.asarray(errors)
    for index in which(errors):
        pictures = {}
        for plane in PLANES:
            moved = planes.cut(moving, plane, centre, SHOWN, poses[index])
            grey = planes.grey(still[plane], windows[0]), planes.grey(moved, windows[1])
            pictures[plane] = mixed(*grey, still[plane] > PADDING)
        words = f"step {index} of {len(poses) - 1}: {errors[index]:.0f} mm from home"
        frames.append(_frame(pictures, title, words))
    palette = _palette(frames)
    frames = [frame.quantize(palette=palette, dither=0) for frame in frames]
    durations = [FIRST_MS] + [STEP_MS] * (len(frames) - 2) + [LAST_MS]
    with provenance.atomic(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return Path(path)


def _frame(pictures: dict[str, np.ndarray], title: str, words: str):
    """One frame as an RGB image: the pictures side by side under two lines of text."""
    import matplotlib.pyplot as plt
    from PIL import Image

    width = 7.2
    high = width / 2 * SHOWN[1] / SHOWN[0]
    figure = plt.figure(figsize=(width, high + 0.55), facecolor="black", layout="none")
    for column, (plane, picture) in enumerate(pictures.items()):
        axes = figure.add_axes((column / 2 + 0.002, 0.0, 0.496, high / (high + 0.55)))
        planes.draw(axes, picture, plane, SHOWN)
    line = {"fontsize": 10.5, "va": "center"}
    figure.text(0.01, 1 - 0.15 / (high + 0.55), title, color="w", **line)
    figure.text(0.01, 1 - 0.40 / (high + 0.55), words, color="#ffd24a", **line)
    key = "CBCT orange, CT blue, grey where they agree"
    figure.text(0.99, 1 - 0.40 / (high + 0.55), key, color="#bbbbbb", fontsize=8.5, va="center", ha="right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80, facecolor="black")
    plt.close(figure)
    return Image.open(stream).convert("RGB")


def _palette(frames):
    """One palette for all frames, so that what stands still has the same colours in each."""
    from PIL import Image

    few = frames[:: max(1, len(frames) // 6)]
    sheet = Image.new("RGB", (few[0].width, few[0].height * len(few)))
    for row, frame in enumerate(few):
        sheet.paste(frame, (0, row * frame.height))
    return sheet.quantize(80)
