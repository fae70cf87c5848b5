"""Fair words about a pair: too small a field of view, paths that leave what the agent was trained on, scans exchanged,
one start, values that had to be guessed."""

from __future__ import annotations

import re

import numpy as np
import torch

from lib import rigid
from lib.base.errors import UserError
from lib.images.normalise import field_of_view
from lib.images.pair import overlap
from lib.images.volume import Volume
from lib.registration import trust

CONE_BEAM = re.compile(
    r"(?<![a-z])(cbct|xvi|obi|cone[ _-]?beam|on-board imager|patient verification|truebeam|halcyon)(?![a-z])",
    re.IGNORECASE,
)  # words: not mOBIle, rOBIn; the last three are treatment machines
SMALL = 80.0  # mm: a field of view of this size holds no vertebra with its neighbours
# mm: how far training starts from the truth (30, 30, 150; 30, 30, 30), and the spread of the starts.
FARTHEST = {"spine": 200.0, "heart": 100.0}


def extent(volume: Volume) -> np.ndarray:
    """(3,) mm: the bounding box of a volume's data along i, j, k."""
    data = field_of_view(volume)
    hits = [torch.nonzero(data.any(dim=tuple(d for d in range(3) if d != axis))) for axis in (2, 1, 0)]
    return np.array([float(h[-1] - h[0] + 1) if len(h) else 0.0 for h in hits]) * volume.spacing


def check_size(fixed: Volume) -> None:
    """Raises UserError where the CBCT's field of view is too small for the agent: two sides of at most 8 cm."""
    sides = extent(fixed)
    if np.sort(sides)[1] <= SMALL:
        said = " x ".join(f"{s / 10:.0f}" for s in sides)
        raise UserError(
            f"The CBCT's field of view is {said} cm, too small for the agent, which was trained on 20 cm and more; align it "
            "by hand (3D Slicer: Transforms) or with a method that needs no context."
        )


def within(results: list, experiment: str, centre) -> list[bool]:
    """Stop each path (`lib.agent.AgentResult`) where it leaves its start by more than training ever did; says which did.

    Poses beyond that point become the last one before it.
    """
    limit, cut = FARTHEST[experiment], []
    for result in results:
        first, last, gone = result.coarse.poses[0], result.coarse.poses[0], False
        for part in (p for p in (result.coarse, result.fine) if p is not None):
            if gone:
                part.poses = np.repeat(last[None], len(part.poses), axis=0)
                continue
            away = np.array([float(rigid.displacement(first, pose, centre)) for pose in part.poses])
            far = np.flatnonzero(away > limit)
            if len(far):
                gone, last = True, part.poses[max(far[0] - 1, 0)].copy()
                part.poses = part.poses.copy()
                part.poses[far[0] :] = last
        cut.append(gone)
    return cut


def doubts(
    fixed: Volume, moving: Volume, verdict: trust.Trust, cut: list[bool], starts: int, experiment: str = "spine"
) -> list[str]:
    """Sentences for what the seven numbers of `trust` do not see; each makes the result one not to be trusted."""
    found = []
    if starts == 1:
        found.append("with one start, starts cannot agree; give more (--starts 5)")
    if any(cut):
        found.append(
            f"{sum(cut)} of {len(cut)} paths left the range that the agent was trained on, and were stopped there"
        )
    if exchanged(fixed, moving, by_size=False):
        found.append("the CT and the CBCT look exchanged (FIXED is the cone-beam CT, MOVING the CT)")
    elif exchanged(fixed, moving, by_size=experiment == "spine"):
        found.append(
            "MOVING is the smaller image, as if CT and CBCT were exchanged (FIXED is the cone-beam CT, MOVING the CT)"
        )
    if same_image(fixed, moving):
        found.append("the CT and the CBCT are the same image")
    if other_patients(fixed, moving):
        found.append("their DICOM headers name two patients (PatientID)")
    for which, volume in (("CBCT", fixed), ("CT", moving)):
        guessed = volume.given.guessed if volume.given is not None else ""
        if guessed and (found or verdict.reasons):
            found.append(f"perhaps because of its values: the {which}'s {guessed}")
    return found


def notes(fixed: Volume, moving: Volume, small: tuple[Volume, Volume], initial) -> list[str]:
    """What is to be said of a pair without making its result less to be trusted: what its files left to be said, and a start
    that was not theirs. small: both, averaged down."""
    found = [f"{v.given.name}: {note}" for v in (fixed, moving) if v.given is not None for note in v.given.notes]
    if initial is None and overlap(*small, np.eye(4)) == 0:
        found.append(
            "the two scans do not meet in their own coordinates, so the start put their middles on each other; the couch's "
            "numbers hold only if both isocentres are given"
        )
    return found


def same_image(fixed: Volume, moving: Volume) -> bool:
    """Whether the two are one image, but for their padding."""
    if fixed.size != moving.size:
        return False
    thin = [v.array[::3, ::3, ::3] for v in (fixed, moving)]
    body = (thin[0] > -900) & (thin[1] > -900)
    return bool(body.any()) and float((thin[0] == thin[1])[body].float().mean()) > 0.99


def other_patients(fixed: Volume, moving: Volume) -> bool:
    """Whether both scans' DICOM headers name a patient, and not the same."""
    heads = [v.given.dicom if v.given is not None else None for v in (fixed, moving)]
    if None in heads:
        return False
    first, second = (str(head.get("PatientID") or "").strip() for head in heads)
    return bool(first and second) and first != second


def exchanged(fixed: Volume, moving: Volume, by_size: bool = True) -> bool:
    """Whether the two look exchanged: their DICOM says so, or, with `by_size`, MOVING is smaller than FIXED in every
    direction. A CT of the heart often is."""
    said = [_says_cone_beam(v) for v in (fixed, moving)]
    if said[0] != said[1] or not by_size:
        return said[1] and not said[0]
    stride = [max(1, int(8 / s)) for s in fixed.spacing]  # i, j, k: padding of a CBCT does not count
    thin = Volume(fixed.array[:: stride[2], :: stride[1], :: stride[0]].float(), fixed.spacing * stride)
    still, moved = extent(thin), np.array(moving.size) * moving.spacing
    return bool((moved < still - 10).all() and np.prod(moved / still) < 0.7)


def _says_cone_beam(volume: Volume) -> bool:
    header = volume.given.dicom if volume.given is not None else None
    if header is None:
        return False
    text = f"{header.get('SeriesDescription') or ''} {header.get('ManufacturerModelName') or ''}"
    return header.get("Modality") == "XA" or CONE_BEAM.search(text) is not None
