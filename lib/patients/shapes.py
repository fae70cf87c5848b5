"""Drawing primitives: signed-distance shapes, painted on a canvas with soft, partial-volume edges.

A shape knows its bounding box and its signed distance (mm, negative inside). The canvas evaluates it only inside that
box and blends by how much of each voxel it covers. All in LPS mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

FAR = np.float32(1e3)


@dataclass
class Shape:
    """`distance(x, y, z)` takes float32 arrays that broadcast, gives mm; `low`, `high` (3,) bound it."""

    low: np.ndarray
    high: np.ndarray
    distance: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    coarse: int = 1  # smooth and large shapes are evaluated on every `coarse`-th voxel and interpolated


class Canvas:
    """A grid with one or more layers (as CT and as CBCT sees it), `layers[n]` float32 (nz, ny, nx)."""

    def __init__(self, low, high, spacing: float, layers: int = 1, fill: float = -1000.0):
        size = np.maximum(np.round((np.asarray(high, float) - low) / spacing), 1).astype(int)
        self.spacing = float(spacing)
        self.origin = np.asarray(low, float) + spacing / 2
        self.axes = [np.float32(o + spacing * np.arange(n)) for o, n in zip(self.origin, size, strict=True)]
        self.shape = tuple(int(n) for n in size[::-1])
        self.layers = [np.full(self.shape, fill, np.float32) for _ in range(layers)]
        self.wobble: np.ndarray | None = None  # unit-variance smooth field that roughens outlines
        self.texture: np.ndarray | None = None  # unit-variance finer field that mottles tissues

    def window(self, low, high) -> tuple[slice, slice, slice] | None:
        """Slices [k, j, i] of the voxels within the box; None if there are none."""
        out = []
        for axis, lo, hi in zip(self.axes, low, high, strict=False):
            start, stop = np.searchsorted(axis, [lo, hi])
            if stop <= start:
                return None
            out.append(slice(int(start), int(stop)))
        return tuple(out[::-1])

    def points(self, window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x (1, 1, nx), y (1, ny, 1), z (nz, 1, 1) of a window."""
        x, y, z = (axis[s] for axis, s in zip(self.axes, window[::-1], strict=False))
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def distance(self, shape: Shape, margin: float = 0.0):
        """(window, signed distance over it), or None where the shape lies off the canvas."""
        window = self.window(np.asarray(shape.low) - margin, np.asarray(shape.high) + margin)
        if window is None:
            return None
        points = self.points(window)
        size = tuple(s.stop - s.start for s in window)
        if shape.coarse == 1 or min(size) < 4:
            return window, np.broadcast_to(shape.distance(*points), size)
        few = []
        for axis, p in enumerate(points[::-1]):
            n = -(-size[axis] // shape.coarse) + 1
            view = [1, 1, 1]
            view[axis] = n
            few.append(np.linspace(p.flat[0], p.flat[-1], n, dtype=np.float32).reshape(view))
        return window, enlarge(shape.distance(*few[::-1]), size)

    def field(self, function: Callable, coarse: int = 2) -> np.ndarray:
        """A smooth function(x, y, z) over the whole grid, evaluated on every `coarse`-th voxel."""
        ends = np.array([[axis[0], axis[-1]] for axis in self.axes], float)
        return self.distance(Shape(ends[:, 0] - 1e-3, ends[:, 1] + 1e-3, function, coarse))[1]

    def paint(self, shape: Shape, value, edge: float | None = None, wobble: float = 0.0, only: int | None = None):
        """Blend `value` (HU: a number or canvas-sized array, or a list with one a layer) over the inside.

        edge: width (mm) of the soft border, one voxel by default. wobble: roughness of the outline in mm.
        only: paint this layer alone. Returns (window, coverage in 0..1), or None off the canvas.
        """
        edge = edge or self.spacing
        found = self.distance(shape, margin=edge + 2.5 * wobble)
        if found is None:
            return None
        window, d = found
        if wobble and self.wobble is not None:
            d = d + np.float32(wobble) * self.wobble[window]
        alpha = coverage(d, edge)
        values = value if isinstance(value, (list, tuple)) else [value] * len(self.layers)
        for n, (layer, v) in enumerate(zip(self.layers, values, strict=False)):
            if v is not None and only in (None, n):
                blend(layer[window], v[window] if isinstance(v, np.ndarray) else np.float32(v), alpha)
        return window, alpha


def coverage(d: np.ndarray, edge: float) -> np.ndarray:
    """Share of a voxel that lies inside, from the signed distance of its centre."""
    alpha = d * np.float32(-1 / edge)
    alpha += np.float32(0.5)
    return np.clip(alpha, 0, 1, out=alpha)


def blend(target: np.ndarray, value, alpha: np.ndarray) -> None:
    """target += alpha * (value - target), in place."""
    target += alpha * (value - target)


def enlarge(field: np.ndarray, size) -> np.ndarray:
    """Trilinear enlargement of (k, j, i) to `size`; corners on corners."""
    tensor = torch.from_numpy(np.ascontiguousarray(field, dtype=np.float32))[None, None]
    return F.interpolate(tensor, size=tuple(size), mode="trilinear", align_corners=True)[0, 0].numpy()


def noise(rng: np.random.Generator, shape, voxels: float) -> np.ndarray:
    """Smooth random field (nz, ny, nx) of about unit variance with features of about `voxels` voxels."""
    few = [max(2, int(round(n / voxels)) + 1) for n in shape]
    return 1.7 * enlarge(rng.standard_normal(few, dtype=np.float32), shape)


def smooth_min(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Union of two distances with a fillet of about `k` mm."""
    if k <= 0:
        return np.minimum(a, b)
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * np.float32(0.25 / k)


def smooth_max(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Intersection of two distances with edges rounded by about `k` mm."""
    return -smooth_min(-a, -b, k)


def union(*shapes: Shape, smooth: float = 0.0) -> Shape:
    """All shapes together."""

    def distance(x, y, z):
        d = shapes[0].distance(x, y, z)
        for s in shapes[1:]:
            d = smooth_min(d, s.distance(x, y, z), smooth)
        return d

    low, high = np.min([s.low for s in shapes], axis=0), np.max([s.high for s in shapes], axis=0)
    return Shape(low - smooth / 2, high + smooth / 2, distance, max(s.coarse for s in shapes))


def intersect(first: Shape, *others: Callable | Shape, smooth: float = 0.0) -> Shape:
    """Inside `first` and inside all `others` (shapes or plain distance functions); bounded by the first."""

    def distance(x, y, z):
        d = first.distance(x, y, z)
        for s in others:
            d = smooth_max(d, getattr(s, "distance", s)(x, y, z), smooth)
        return d

    return Shape(first.low, first.high, distance, first.coarse)


def subtract(first: Shape, *others: Shape, smooth: float = 0.0) -> Shape:
    """Inside `first` but outside all `others`."""
    return intersect(first, *[lambda x, y, z, s=s: -s.distance(x, y, z) for s in others], smooth=smooth)


def grown(shape: Shape, mm: float) -> Shape:
    """The shape's border moved outwards (inwards if negative)."""
    return Shape(
        np.asarray(shape.low) - mm,
        np.asarray(shape.high) + mm,
        lambda x, y, z: shape.distance(x, y, z) - np.float32(mm),
        shape.coarse,
    )


def placed(shape: Shape, rotation: np.ndarray, position) -> Shape:
    """A shape given in its own frame, put into the world: world = rotation @ own + position."""
    r, t = np.asarray(rotation, np.float32), np.asarray(position, np.float32)
    ends = np.stack([shape.low, shape.high])
    corners = np.array([[ends[a, 0], ends[b, 1], ends[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    corners = corners @ r.T + t

    def distance(x, y, z):
        x, y, z = x - t[0], y - t[1], z - t[2]
        return shape.distance(*(x * r[0, n] + y * r[1, n] + z * r[2, n] for n in range(3)))

    return Shape(corners.min(axis=0), corners.max(axis=0), distance, shape.coarse)


def ellipsoid(centre, radii, rotation: np.ndarray | None = None) -> Shape:
    """Ellipsoid; `rotation` (3, 3) has the half-axes' directions as columns."""
    c, r = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    if rotation is not None:
        return placed(ellipsoid(np.zeros(3), r), rotation, c)

    def distance(x, y, z):
        x, y, z = (x - c[0]) / r[0], (y - c[1]) / r[1], (z - c[2]) / r[2]
        k0 = np.sqrt(x * x + y * y + z * z)
        x, y, z = x / r[0], y / r[1], z / r[2]
        k1 = np.sqrt(x * x + y * y + z * z)
        return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6)) - np.float32(r.min()) * (k0 == 0)

    return Shape(c - r, c + r, distance)


def box(centre, half, rounding: float = 1.0) -> Shape:
    """Box with half-lengths `half` (3,) and rounded edges."""
    c, h = np.asarray(centre, np.float32), np.asarray(half, np.float32)

    def distance(x, y, z):
        q = [np.abs(p - c[n]) - (h[n] - np.float32(rounding)) for n, p in enumerate((x, y, z))]
        outside = np.sqrt(sum(np.maximum(p, 0) ** 2 for p in q))
        return outside + np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0) - np.float32(rounding)

    return Shape(c - h, c + h, distance)


def tube(points, radii, smooth: float = 0.0, flatten=(1.0, 1.0, 1.0)) -> Shape:
    """Round tube along the polyline `points` (n, 3) with a radius at each point.

    flatten: the metric is scaled by these factors along x, y, z: (1, 1, 0.5) makes the section twice as tall.
    """
    scale = np.asarray(flatten, np.float32)
    true = np.asarray(points, np.float32)
    p, r = true * scale, np.broadcast_to(np.asarray(radii, np.float32), len(true))
    reach = r[:, None] / scale
    low, high = (true - reach).min(axis=0), (true + reach).max(axis=0)

    def capsule(x, y, z, n):
        a, ab = p[n], p[n + 1] - p[n]
        length = max(float(ab @ ab), 1e-9)
        x, y, z = x * scale[0] - a[0], y * scale[1] - a[1], z * scale[2] - a[2]
        t = np.clip((x * ab[0] + y * ab[1] + z * ab[2]) * np.float32(1 / length), 0, 1)
        dx, dy, dz = x - t * ab[0], y - t * ab[1], z - t * ab[2]
        d = np.sqrt(dx * dx + dy * dy + dz * dz)
        return d - (r[n] + t * (r[n + 1] - r[n]))

    def distance(x, y, z):
        if max(x.shape[:2] + y.shape[::2] + z.shape[1:]) > 1:  # dense points (a shape in its own frame)
            d = capsule(x, y, z, 0)
            for n in range(1, len(p) - 1):
                d = smooth_min(d, capsule(x, y, z, n), smooth)
            return d
        # Sparse axes: each segment is evaluated near itself only.
        d = np.full((z.size, y.size, x.size), FAR, np.float32)
        for n in range(len(p) - 1):
            reach_n = max(reach[n].max(), reach[n + 1].max()) + smooth + 4 / scale.min()
            lo, hi = np.minimum(true[n], true[n + 1]) - reach_n, np.maximum(true[n], true[n + 1]) + reach_n
            i, j, k = (slice(*np.searchsorted(axis.ravel(), (lo[m], hi[m]))) for m, axis in enumerate((x, y, z)))
            if i.stop > i.start and j.stop > j.start and k.stop > k.start:
                part = capsule(x[:, :, i], y[:, j], z[k], n)
                d[k, j, i] = smooth_min(d[k, j, i], part, smooth)
        return d

    return Shape(low, high, distance)


def curve(points, step: float = 6.0) -> np.ndarray:
    """A smooth curve (m, 3) through `points`, sampled about every `step` mm."""
    from scipy.interpolate import CubicSpline, PchipInterpolator

    points = np.asarray(points, float)
    s = np.concatenate([[0], np.cumsum(np.maximum(np.linalg.norm(np.diff(points, axis=0), axis=1), 1e-3))])
    kind = CubicSpline if len(points) > 2 else PchipInterpolator
    return kind(s, points)(np.linspace(0, s[-1], max(2, int(s[-1] / step) + 1)))


def column(z, centre_x, centre_y, side, front, back, power: float = 2.4, low=None, high=None) -> Shape:
    """An upright trunk: at each height (knots `z`, ascending) a rounded section about (centre_x, centre_y).

    side, front, back: half-width and reach to front (-y) and back, mm. power 2: ellipse, more: boxier.
    """
    knots = np.asarray(z, float)
    table = [np.broadcast_to(np.asarray(v, float), knots.shape) for v in (centre_x, centre_y, side, front, back)]

    def distance(x, y, z):
        cx, cy, sx, fy, by = (np.interp(z, knots, t).astype(np.float32) for t in table)
        x, y = x - cx, y - cy
        u, v = np.abs(x) / sx, np.maximum(-y / fy, y / by)
        k = (u ** np.float32(power) + v ** np.float32(power)) ** np.float32(1 / power)
        radius = np.sqrt(x * x + y * y)
        return np.where(radius > 1, radius * (1 - 1 / np.maximum(k, np.float32(1e-4))), -np.minimum(sx, fy))

    cx, cy, sx, fy, by = table
    low_, high_ = [(cx - sx).min(), (cy - fy).min(), knots[0]], [(cx + sx).max(), (cy + by).max(), knots[-1]]
    return Shape(np.array(low_ if low is None else low), np.array(high_ if high is None else high), distance, coarse=2)
