"""Slices for the screen: both images cut along three planes and projected, as numbers that a browser colours.

A picture is int16 (rows, columns) in numbers like Hounsfield's, `NONE` where an image has no data; window, level, blend
and checkerboard are the browser's work and need no kernel. ITK cuts a plane of 224^2 in about 3 ms, where matplotlib's
figure of four took half a second to be saved.
"""

from __future__ import annotations

import numpy as np
import torch

from lib import rigid
from lib.figures.planes import EDGES, PLANES
from lib.images.normalise import tissue_level
from lib.images.pair import shrink
from lib.images.volume import Volume, to_sitk

NONE = -32768  # no data here
PIXELS, COARSE = 224, 112  # a plane's picture, and the projection's, in pixels along each side
DEEP, STEP = 120.0, 8.0  # mm: thickness of the slab that is projected, and between its layers
AXES = {"axial": ((1, 0, 0), (0, 1, 0)), "coronal": ((1, 0, 0), (0, 0, -1)), "sagittal": ((0, 1, 0), (0, 0, -1))}
VIEWS = [{"name": name, "right": AXES[name][0], "down": AXES[name][1], "edges": EDGES[name]} for name in PLANES]


class Pictures:
    """A CBCT and a CT as they are cut for the screen. `centre` (3,) is the middle of the pictures, world LPS mm."""

    def __init__(self, fixed: Volume, moving: Volume, centre):
        self.centre = np.asarray(centre, dtype=np.float64)
        fixed, moving = _hounsfield(shrink(fixed, 1.0, True), True), _hounsfield(shrink(moving, 1.0, False), False)
        sides = np.array(fixed.size) * fixed.spacing  # without padding
        self.half = float(np.clip(sides.max() / 2 + 15, 60, 250))  # mm from the middle to a picture's edge
        self.images = {"fixed": to_sitk(fixed, np.int16), "moving": to_sitk(moving, np.int16)}

    def plane(self, which: str, plane: str, point, pose=None, half: float | None = None, pixels: int = PIXELS):
        """The plane through `point` (3,) whose middle is beside it at `centre`: int16 (pixels, pixels). `pose` (4, 4) maps
        moving to fixed world points."""
        right, down = (np.array(axis, dtype=np.float64) for axis in AXES[plane])
        normal = np.cross(right, down)
        half = self.half if half is None else half
        middle = np.asarray(point) if half < self.half else self.centre
        middle = middle + normal * (normal @ (np.asarray(point) - middle))
        return self._cut(which, middle, (right, down, normal), (half, half, 0), (pixels, pixels, 1), pose)[0]

    def planes(self, which: str, point, pose=None, half: float | None = None, pixels: int = PIXELS) -> list[np.ndarray]:
        """Axial, coronal and sagittal."""
        return [self.plane(which, plane, point, pose, half, pixels) for plane in PLANES]

    def projection(self, which: str, turned: float = 0.0, pose=None) -> np.ndarray:
        """The volume view: the brightest voxel along the line of sight through a slab, int16 (COARSE, COARSE). Seen from the
        front, or `turned` degrees round the body: 90 is from the patient's right side."""
        angle = np.radians(turned)
        right = np.array([np.cos(angle), -np.sin(angle), 0.0])
        frame = (right, np.array([0.0, 0, -1]), np.cross(right, [0.0, 0, -1]))
        layers = int(DEEP / STEP) + 1
        sizes = (COARSE, COARSE, layers)
        return self._cut(which, self.centre, frame, (self.half, self.half, DEEP / 2), sizes, pose, False).max(axis=0)

    def _cut(self, which, middle, frame, halves, sizes, pose, linear=True) -> np.ndarray:
        """A box of the image around `middle`: axes `frame`, half widths in mm, sizes in pixels; (z, y, x) int16."""
        import SimpleITK as sitk

        spacing = [2 * h / n if h else 1.0 for h, n in zip(halves, sizes, strict=True)]
        cut = sitk.ResampleImageFilter()
        cut.SetNumberOfThreads(1)  # a plane is too little work to share
        cut.SetSize([int(n) for n in sizes])
        cut.SetOutputSpacing(spacing)
        corner = sum(a * s * (n - 1) / 2 for a, s, n in zip(frame, spacing, sizes, strict=True))
        cut.SetOutputOrigin([float(x) for x in middle - corner])
        cut.SetOutputDirection([float(x) for x in np.stack(frame, axis=1).ravel()])
        back = np.eye(4) if pose is None else rigid.invert(np.asarray(pose, dtype=np.float64))
        cut.SetTransform(
            sitk.AffineTransform([float(x) for x in back[:3, :3].ravel()], [float(x) for x in back[:3, 3]])
        )
        cut.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
        cut.SetDefaultPixelValue(NONE)
        found = sitk.GetArrayFromImage(cut.Execute(self.images[which]))
        found[found < -4000] = NONE  # the rim where an image ends
        return found


def _hounsfield(volume: Volume, is_cbct: bool) -> Volume:
    """Soft tissue at about 40; what a CBCT is padded with becomes `NONE`."""
    low = float(volume.array.min())
    seen = volume.array > (low + 1e-3 if is_cbct else -2000)
    gain, offset = tissue_level(volume.array[seen][::7])
    array = (volume.array * gain + offset).clamp(-3000, 30000)
    return volume.with_array(torch.where(seen, array, torch.tensor(float(NONE) if is_cbct else -1000.0)))
