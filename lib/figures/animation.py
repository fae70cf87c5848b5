"""The agent walking home as an animated GIF: the CT moves over a still cone-beam CT, a frame every few steps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lib.figures import planes
from lib.images.volume import Volume

PLANES = ("coronal", "sagittal")
SHOWN = (230.0, 240.0)  # mm, width and height of each picture
FIRST_MS, STEP_MS, LAST_MS = 1200, 110, 3500
TEXT = 0.72  # inches above the pictures


def which(errors: np.ndarray, n: int = 32, longest: int = 40) -> np.ndarray:
    """Indices of the poses to draw: the first and the last, and between them about `n` equal parts of the way home (errors
    in mm, one a pose), so that nothing jumps; where the agent comes no nearer, a frame every `longest` steps is enough."""
    errors = np.asarray(errors, dtype=np.float64)
    nearest = np.minimum.accumulate(errors)
    even = np.searchsorted(nearest[0] - nearest, np.linspace(0, nearest[0] - nearest[-1], n))
    return np.unique(np.concatenate([even, np.arange(0, len(errors), longest), [len(errors) - 1]]))


def write(path, fixed: Volume, moving: Volume, poses: np.ndarray, errors, centre, title: str) -> Path:
    """`poses` (n, 4, 4, moving -> fixed), one error (mm) each, as a GIF that plays for ever; `title` says what the images
    are, real or simulated, and stands on every frame. centre: where the planes are cut (world mm, fixed)."""
    from lib.base import provenance

    windows = planes.matched(fixed, moving, poses[-1], centre)
    frames, errors = [], np.asarray(errors)
    for index in which(errors):
        pictures = {}
        for plane in PLANES:
            pictures[plane] = planes.blend(*planes.both(fixed, moving, poses[index], plane, centre, SHOWN), windows)
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
    figure = plt.figure(figsize=(width, high + TEXT), facecolor="black", layout="none")
    for column, (plane, picture) in enumerate(pictures.items()):
        axes = figure.add_axes((column / 2 + 0.002, 0.0, 0.496, high / (high + TEXT)))
        planes.draw(axes, picture, plane, SHOWN)
    line = {"fontsize": 14, "va": "center"}
    figure.text(0.01, 1 - 0.2 / (high + TEXT), title, color="w", **line)
    figure.text(0.01, 1 - 0.52 / (high + TEXT), words, color="#ffd24a", **line)
    key = "CBCT orange, CT blue"
    figure.text(0.99, 1 - 0.52 / (high + TEXT), key, color="#bbbbbb", fontsize=12, va="center", ha="right")
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
