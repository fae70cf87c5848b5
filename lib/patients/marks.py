"""Marks on real scans: centres of vertebral bodies, landmarks on their rims, epicardium meshes. LPS mm throughout."""
from __future__ import annotations

import numpy as np

from lib.errors import UserError
from lib.volume import Volume

Mesh = tuple[np.ndarray, np.ndarray]


def world(volume: Volume, index_kji: np.ndarray) -> np.ndarray:
    """World points (n, 3) of array indices [k, j, i] (n, 3)."""
    return np.asarray(index_kji, dtype=np.float64)[:, ::-1] @ volume.affine[:3, :3].T + volume.origin


def vertebra_centres(labels: Volume, values) -> np.ndarray:
    """Centres (m, 3) of the bodies of labelled vertebrae, in the order of `values`.

    A label holds body, arch and processes; the body is its thickest part: the mean of what lies deepest.
    Raises UserError for a value that the labels do not hold.
    """
    from scipy import ndimage

    array, centres = labels.array.numpy().round().astype(int), []
    places = ndimage.find_objects(array)
    for value in values:
        place = places[value - 1] if 0 < value <= len(places) else None
        if place is None:
            raise UserError(f"The label file holds no voxel of value {value}; correct the manifest's label_values.")
        depth = ndimage.distance_transform_edt(np.pad(array[place] == value, 1), sampling=labels.spacing[::-1])
        deep = np.argwhere(depth > 0.75 * depth.max()) - 1 + [s.start for s in place]
        centres.append(world(labels, deep).mean(axis=0))
    return np.array(centres).reshape(-1, 3)


def rim_landmarks(vertebrae: np.ndarray, target, count: int = 4) -> np.ndarray:
    """Eight points on the rims of each of the `count` bodies nearest `target`, (8 * count, 3), of typical size.

    Upper and lower edge, in front, behind, left and right. The spine's own course sets the axes, the distance of
    neighbours the size. Needs two vertebrae or more.
    """
    vertebrae = np.asarray(vertebrae, dtype=np.float64)
    if len(vertebrae) < 2:
        raise UserError("Landmarks need the centres of two vertebrae or more.")
    course = np.gradient(vertebrae, axis=0)
    near = np.argsort(np.linalg.norm(vertebrae - np.asarray(target), axis=1))[:count]
    points = []
    for n in sorted(near):
        pitch = np.linalg.norm(course[n])
        up = -course[n] / pitch  # the list runs from head to foot
        back = np.cross([1.0, 0, 0], up)
        back *= np.sign(back[1]) / np.linalg.norm(back)
        left = np.cross(up, back) * np.sign(np.cross(up, back)[0])
        for end in (0.38, -0.38):
            for side in (0.48 * back, -0.48 * back, 0.62 * left, -0.62 * left):
                points.append(vertebrae[n] + pitch * (end * up + side))
    return np.array(points)


def label_mesh(labels: Volume, value: int, step_mm: float = 3.0) -> Mesh:
    """The closed surface of one label, smoothed. Raises UserError where the label is empty."""
    from scipy import ndimage
    from skimage import measure

    mask = labels.array.numpy().round() == value
    if not mask.any():
        raise UserError(f"The label file holds no voxel of value {value}; correct the manifest.")
    low, high = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
    zoom = labels.spacing[::-1] / step_mm
    part = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32), 6)
    smooth = ndimage.gaussian_filter(part, step_mm / labels.spacing[::-1])
    coarse = ndimage.zoom(smooth, zoom, order=1, grid_mode=True, mode="grid-constant")
    vertices, faces, *_ = measure.marching_cubes(np.pad(coarse, 1), 0.5)
    index = (vertices - 1 + 0.5) * (np.array(part.shape) / np.array(coarse.shape)) - 0.5 + low - 6
    return world(labels, index), faces.astype(int)


def ellipsoid_mesh(centre, half_axes, long_axis) -> Mesh:
    """A closed ellipsoid; `half_axes` (3,) mm, the first along `long_axis`."""
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=3)
    first = np.asarray(long_axis, dtype=np.float64) / np.linalg.norm(long_axis)
    second = np.cross(first, [0.0, 0, 1])
    second /= np.linalg.norm(second)
    axes = np.stack([first, second, np.cross(first, second)])
    return (sphere.vertices * half_axes) @ axes + np.asarray(centre), np.asarray(sphere.faces)


def of_scan(scan, experiment: str):
    """(ct, labels or None, vertebrae head to foot or None, epicardium or None) of a manifest's scan."""
    ct, labels, _ = scan.load()
    found, vertebrae, mesh = scan.manifest, None, None
    if found.vertebrae:
        vertebrae = np.array([v.centre for v in found.vertebrae], dtype=np.float64)
    elif labels is not None and found.label_values:
        vertebrae = vertebra_centres(labels, found.label_values.values())
    if vertebrae is not None:
        vertebrae = vertebrae[np.argsort(-vertebrae[:, 2])]
    if experiment == "heart":
        heart = found.heart
        if heart is None:
            raise UserError(f"{scan.name}: its manifest marks no heart; choose another scan for E2.")
        mesh = label_mesh(labels, heart.label) if heart.label is not None else (
            ellipsoid_mesh(heart.centre, heart.half_axes, heart.long_axis))
    elif vertebrae is None:
        raise UserError(f"{scan.name}: its manifest marks no vertebrae; choose another scan for E1.")
    return ct, labels, vertebrae, mesh
