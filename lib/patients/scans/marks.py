"""What the tests need to know about a real scan: vertebral bodies, 32 landmarks on their rims, the epicardium.

From label images where they exist, else from the positions a person put into the manifest. LPS mm, the CT's world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.base.errors import UserError
from lib.images.volume import Volume
from lib.patients.scans.schema import Heart, Manifest

# Typical sizes of vertebral bodies (mm): level counted from T1 = 1 to L5 = 17 -> (wide, deep, high),
# interpolated.
TYPICAL = {1: (28, 18, 16), 6: (28, 25, 19), 12: (39, 30, 24), 13: (41, 31, 26), 17: (50, 35, 28)}
CLOSING = 25.0  # mm, radius of the closing that turns a heart label into an epicardium
RIMS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # anterior, posterior, right, left, in the plane of an end plate


@dataclass
class Body:
    """A vertebral body. axes (3, 3): rows are left, posterior and up along the spine; size (3,) along them, mm."""

    name: str
    centre: np.ndarray
    size: np.ndarray
    axes: np.ndarray


def level_number(name: str) -> int:
    """C7 = 0, T1 = 1 ... T12 = 12, L1 = 13 ... L5 = 17, S1 = 18."""
    return int(name[1:]) + {"C": -7, "T": 0, "L": 12, "S": 17, "V": 6}[name[0]]


def typical_size(name: str) -> np.ndarray:
    known = sorted(TYPICAL)
    return np.array([np.interp(level_number(name), known, [TYPICAL[k][axis] for k in known]) for axis in range(3)])


def bodies(found: Manifest, labels: Volume | None, further: bool = False) -> list[Body]:
    """The vertebral bodies of a scan, head to foot, with those that were marked later if `further`; empty where the
    manifest knows none."""
    if found.label_values and labels is not None:
        centres = {name: label_centre(labels, value) for name, value in found.label_values.items()}
        centres = {name: centre for name, centre in centres.items() if centre is not None}
        sizes: dict = {}
    else:
        centres = {v.name: np.array(v.centre) for v in found.vertebrae}
        sizes = {v.name: np.array(v.size) for v in found.vertebrae if v.size}
    centres |= {v.name: np.array(v.centre) for v in found.further if further}
    order = sorted(centres, key=lambda name: -centres[name][2])
    places = np.array([centres[name] for name in order]).reshape(-1, 3)
    result = []
    for row, name in enumerate(order):
        above, below = places[max(row - 1, 0)], places[min(row + 1, len(places) - 1)]
        up = above - below if len(places) > 1 else np.array([0.0, 0, 1])
        result.append(Body(name, places[row], sizes.get(name, typical_size(name)), frame(up)))
    if found.label_values and labels is not None:
        for body in result:
            if body.name in found.label_values:
                body.size = measured_size(labels, found.label_values[body.name], body)
    return result


def frame(up: np.ndarray) -> np.ndarray:
    """Rows left, posterior, up: `up` made a unit, posterior as near to +y as it can be."""
    up = up / np.linalg.norm(up)
    posterior = np.array([0.0, 1, 0]) - up[1] * up
    posterior /= np.linalg.norm(posterior)
    return np.stack([np.cross(posterior, up), posterior, up])


def label_centre(labels: Volume, value: int) -> np.ndarray | None:
    """Centre of the body of a labelled vertebra: where the label is thickest (arches and processes are thin)."""
    from scipy import ndimage

    mask = labels.array.numpy() == value
    if mask.sum() < 50:
        return None
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=labels.spacing[::-1])[1:-1, 1:-1, 1:-1]
    thick = np.argwhere(depth > 0.6 * depth.max()).mean(axis=0) + [s.start for s in box]
    return (labels.affine @ np.append(thick[::-1], 1.0))[:3]


def measured_size(labels: Volume, value: int, body: Body) -> np.ndarray:
    """(wide, deep, high) from how far the label reaches from the centre along each axis, kept near the typical."""
    typical, reach = typical_size(body.name), []
    for axis, expected in zip(body.axes, typical, strict=True):
        ends = [_reach(labels, value, body.centre, sign * axis, 0.75 * expected) for sign in (1, -1)]
        reach.append(2 * min(ends))  # the longer side runs into pedicles or the next label's rim
    return np.clip(reach, 0.6 * typical, 1.4 * typical)


def _reach(labels: Volume, value: int, start, direction, limit: float) -> float:
    steps = np.arange(0, limit, 0.5)
    index = (np.asarray(start) + steps[:, None] * direction - labels.origin) @ np.linalg.inv(labels.affine[:3, :3]).T
    index = np.clip(np.round(index).astype(int), 0, np.array(labels.size) - 1)
    inside = labels.array.numpy()[index[:, 2], index[:, 1], index[:, 0]] == value
    return float(steps[-1] if inside.all() else steps[np.argmin(inside)])


def landmarks(all_bodies: list[Body], centre, count: int = 4) -> np.ndarray:
    """(8 count, 3) points on the upper and lower rims of the `count` bodies nearest `centre`."""
    near = sorted(all_bodies, key=lambda body: np.linalg.norm(body.centre - centre))[:count]
    points = []
    for body in sorted(near, key=lambda body: -body.centre[2]):
        half = body.size / 2
        for end in (0.9, -0.9):
            points += [body.centre + (np.array([u, v, end]) * half) @ body.axes for u, v in RIMS]
    return np.array(points)


def heart_mesh(heart: Heart, labels: Volume | None, voxel: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Closed epicardium (vertices LPS mm, faces): the label's surface, or the ellipsoid fitted by eye."""
    if heart.label is None:
        return ellipsoid(np.array(heart.centre), np.array(heart.half_axes), np.array(heart.long_axis))
    if labels is None:
        raise UserError("The heart's label is named but there is no label image; correct the manifest.")
    return label_surface(labels, heart.label, voxel)


def ellipsoid(centre: np.ndarray, half_axes: np.ndarray, long_axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoid of given half axes, the first along `long_axis`, the second level (at right angles to z)."""
    import trimesh

    first = long_axis / np.linalg.norm(long_axis)
    second = np.cross(first, [0.0, 0.0, 1.0])
    second /= np.linalg.norm(second)
    axes = np.stack([first, second, np.cross(first, second)])
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return sphere.vertices * half_axes @ axes + centre, np.asarray(sphere.faces)


def closed(mask, radius: float):
    """Morphological closing of (nz, ny, nx) by a ball of `radius` voxels: clefts between the chambers go."""
    import torch
    from scipy import ndimage

    border = int(np.ceil(radius)) + 2
    solid = np.pad(mask.numpy() > 0.5, border)
    grown = ndimage.distance_transform_edt(~solid) <= radius
    back = ndimage.distance_transform_edt(grown) > radius
    inner = tuple(slice(border, -border) for _ in range(3))
    return torch.from_numpy(ndimage.binary_fill_holes(back | solid)[inner].astype(np.float32))


def label_surface(labels: Volume, value: int, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Closed surface of the largest part of a label, smoothed and sampled at `voxel` mm."""
    import torch
    from scipy import ndimage
    from skimage.measure import marching_cubes

    from lib.images.volume import gaussian, resample

    parts, n = ndimage.label(labels.array.numpy() == value)
    if n == 0:
        raise UserError(f"There is no voxel of label {value} in the label image; correct the manifest.")
    largest = parts == 1 + np.argmax(ndimage.sum_labels(np.ones_like(parts), parts, range(1, n + 1)))
    filled = ndimage.binary_fill_holes(largest).astype(np.float32)
    coarse = resample(labels.with_array(torch.from_numpy(filled)), voxel)
    coarse = coarse.with_array(closed(coarse.array, CLOSING / voxel))
    smooth = np.pad(gaussian(coarse.array, 0.7).numpy(), 1)  # the border closes a label cut by the image's edge
    vertices, faces, _, _ = marching_cubes(smooth, 0.5)
    world = (vertices[:, ::-1] - 1.0) @ coarse.affine[:3, :3].T + coarse.origin
    corners = world[faces]
    inward = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() < 0
    return world, faces[:, ::-1].copy() if inward else faces
