"""One thing changed in what is registered (`lib.study.schema.Condition`): the scanner, the body, the field of view, the
files that are read, or how the CT lies at the start."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from lib import cases, rigid
from lib.base.errors import UserError
from lib.base.sections import known
from lib.images.normalise import field_of_view
from lib.images.volume import Volume
from lib.patients import another_day, real
from lib.patients.scanner.conebeam import ConeBeamSettings
from lib.patients.scanner.second import SecondScanner
from lib.patients.scans import manifest
from lib.study.schema import Condition

TITANIUM = 8000.0  # HU
Scanner = ConeBeamSettings | SecondScanner


def scanner(condition: Condition, usual: Scanner = real.SCANNER) -> Scanner:
    """A scanner of real scans' CBCTs, its ranges times the factors of the condition. Raises UserError."""
    known(condition.scanner, [f.name for f in dataclasses.fields(usual)], "range of a scanner in a condition")
    ranges = {k: tuple(factor * value for value in getattr(usual, k)) for k, factor in condition.scanner.items()}
    return dataclasses.replace(usual, **ranges)


def patient(usual, condition: Condition, anatomy=None, by: Scanner = real.SCANNER):
    """The test Patient `usual` under the condition: its CBCT made again, `by` this scanner, or narrowed, or read from other
    files. anatomy(): (target (3,), labels) of its CT, asked only where a CBCT is made again."""
    if condition.simulates():
        target, labels = anatomy()
        rng = np.random.default_rng(zlib.crc32(usual.id.encode()))
        implant = rods(target) if condition.metal else None
        implant = breathing(target, usual.vertebrae, condition.organs_mm) if condition.organs_mm else implant
        fixed, truth, _, _ = real.scan_again(usual.moving, labels, None, target, rng, scanner(condition, by), implant)
        marks = rigid.apply(truth, usual.landmarks_moving)
        usual = dataclasses.replace(usual, fixed=fixed, truth=truth, landmarks_fixed=marks)
    if condition.files:
        usual = read_again(usual, condition.files)
    if condition.ct_from is not None:
        usual = dataclasses.replace(usual, moving=beyond(usual, condition.ct_from))
    if condition.ct_axes != (1.0, 1.0, 1.0):
        usual = slipped(usual, np.array(condition.ct_axes))
    if min(condition.view) < 1:
        usual = dataclasses.replace(usual, fixed=narrowed(usual.fixed, *condition.view))
    return usual


def rods(target):
    """A function that puts two titanium rods into a body (Volume, HU): 6 mm thick, 100 mm long, 20 mm to the left and
    right of the spine at `target` (3,), 30 mm behind it."""

    def implant(body):
        x, y, z = (body.points() - torch.as_tensor(target, dtype=torch.float32)).unbind(-1)
        inside = ((x.abs() - 20) ** 2 + (y - 30) ** 2 < 9) & (z.abs() < 50)
        return body.with_array(torch.where(inside, torch.tensor(TITANIUM), body.array))

    return implant


def breathing(target, vertebrae, along: float):
    """A function that moves a body's organs by `along` mm upwards, most at `target` (3,); `vertebrae` (n, 3) stay."""
    return lambda body: another_day.breathe(body, vertebrae, along, 0.0, float(target[2]), 200.0)


def narrowed(fixed: Volume, width: float, height: float) -> Volume:
    """The middle of a CBCT's field of view: shares of its width and height; the rest becomes padding, the lowest value."""
    seen = field_of_view(fixed)
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in seen.shape), indexing="ij")

    def place(index):  # -1 to 1 within the field of view
        inside = index[seen]
        low, high = inside.min(), inside.max()
        return (2 * index - low - high) / (high - low)

    keep = torch.hypot(place(i), place(j)) <= width if width < 1 else seen
    keep = keep & (place(k).abs() <= height)
    return fixed.with_array(torch.where(keep, fixed.array, fixed.array.min()))


def _middle(usual) -> np.ndarray:
    """(3,): where the CBCT's middle lies in the CT of a Patient, world."""
    return rigid.apply(rigid.invert(usual.truth), np.asarray(usual.fixed.centre)[None])[0]


def slipped(usual, factors: np.ndarray):
    """The Patient `usual` with a CT whose axes are as many times as long as `factors` (3,) say, mirrored where one is negative;
    what lies at the CBCT's middle stays, and landmarks go with the CT."""
    ct, middle = usual.moving, _middle(usual)
    backwards = [2 - axis for axis in np.flatnonzero(factors < 0)]
    at = (np.linalg.inv(ct.affine) @ np.append(middle, 1.0))[:3]
    at = np.where(factors < 0, np.array(ct.size) - 1 - at, at)
    spacing = ct.spacing * np.abs(factors)
    origin = middle - ct.direction @ (spacing * at)
    matrix = ct.direction @ np.diag(factors) @ np.linalg.inv(ct.direction)
    marks = usual.landmarks_moving
    marks = None if marks is None else (marks - middle) @ matrix.T + middle
    moving = Volume(ct.array.flip(backwards), spacing, origin, ct.direction)
    return dataclasses.replace(usual, moving=moving, landmarks_moving=marks)


def beyond(usual, distance: float, least: float = 60.0) -> Volume:
    """The CT of a Patient from `distance` mm of the CBCT's middle on, along its third axis, on the side where more is left; a
    short CT from nearer, so that `least` mm remain."""
    ct, count = usual.moving, usual.moving.size[2]
    middle = _middle(usual)
    at, keep = (np.linalg.inv(ct.affine) @ np.append(middle, 1.0))[2], int(np.ceil(least / ct.spacing[2]))
    upwards, step = at < (count - 1) / 2, distance / ct.spacing[2]
    first = max(min(int(np.ceil(at + step)), count - keep), 0) if upwards else 0
    last = count if upwards else min(max(int(np.floor(at - step)) + 1, keep), count)
    origin = (ct.affine @ np.array([0.0, 0.0, first, 1.0]))[:3]
    return Volume(ct.array[first:last].contiguous(), ct.spacing, origin, ct.direction)


def stranger(usual, other):
    """The Patient `usual` with the CT of `other`, middle on middle."""
    ct = other.moving
    moved = Volume(ct.array, ct.spacing, ct.origin + usual.moving.centre - ct.centre, ct.direction)
    return dataclasses.replace(usual, moving=moved)


def read_again(usual, files: tuple[str, ...]):
    """The patient with its images as a user reads them; truth, landmarks and starts stay the manifest's. Raises UserError."""
    from lib.images import read
    from lib.images.pair import shrink, trim

    scan = manifest.scan(usual.dataset)
    places = [scan.path(scan.manifest.ct).parent]
    places += [manifest.mirror() / scan.name] if manifest.mirror() else []  # only the mirror holds DICOM folders
    folder = next((place for place in places if all((place / name).exists() for name in files)), None)
    if folder is None:
        raise UserError(
            f"{scan.name}: {' and '.join(files)} are not on this machine; see data_manifests/{scan.name}.yaml."
        )
    fixed, moving = (read.read_image(folder / n, None, k) for n, k in zip(files, ("cbct", "ct"), strict=True))
    return dataclasses.replace(usual, fixed=trim(fixed), moving=shrink(moving, 2.0, False))


def starts(who, condition: Condition, n: int, ranges, seed: int, min_overlap: float) -> list[cases.Case]:
    """`n` starts of a Patient within +-`ranges`, turned as the condition says about the fixed window's centre."""
    least = min_overlap if condition.ct_from is None else min(min_overlap, 0.1)  # a CT that was cut short holds less
    found = cases.starts(who, n, ranges, seed, least)
    rng = np.random.default_rng([45, zlib.crc32(who.id.encode())])
    first = rigid.params_to_matrix(np.array([0.0, 0, 0, *condition.turn]))
    for case in found:
        if condition.tilt:
            shift = rigid.apply(case.initial @ rigid.invert(who.truth), case.centre) - case.centre
            axis = rng.standard_normal(3)
            turned = rigid.translation(shift)
            turn = condition.tilt * axis / np.linalg.norm(axis)
            turned[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
            case.initial = rigid.about(turned, case.centre) @ who.truth
        if condition.stranger:  # the truth is out of reach
            away = rigid.translation([0.0, 0.0, 1000.0])
            marks = None if who.landmarks_fixed is None else rigid.apply(away, who.landmarks_fixed)
            mesh = who.mesh_fixed and (rigid.apply(away, np.asarray(who.mesh_fixed[0])), who.mesh_fixed[1])
            there = {"truth": away @ who.truth, "landmarks_fixed": marks, "mesh_fixed": mesh}
            case.patient = dataclasses.replace(case.patient, **there)
        if any(condition.turn):
            case.initial = rigid.about(first, case.centre) @ case.initial
    return found
