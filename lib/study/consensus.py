"""Where a real pair without a reference pose belongs: an estimate by consensus, and how far it may be believed.

A search over all shifts proposes places, local contrast at bone judges them and their next vertebrae. Then another measure
is asked, which saw neither: mutual information at bone, optimised from many starts about the chosen place, from its next
vertebrae and from the next best places. The pose counts as a reference where mutual information is greatest there, too, and
no other place is nearly as likely. Its ends are compared, not counted: it seldom climbs as far as its own optimum (on the
one real pair at hand one start in eight came within 5 mm, and a rule that wanted most there refused it). The pose is an
estimate, not clinical truth: who is tried against it and finds another place may be right. What speaks for it stands
beside it, and each patient has a picture to look at, `consensus.png` beside its files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lib import rigid
from lib.base import provenance
from lib.base.errors import UserError
from lib.baselines import fft_search, itk_bone, mattes
from lib.baselines.settings import BaselineSettings
from lib.figures import charts, volumes
from lib.figures.planes import through_bone
from lib.images import read
from lib.images.ascent import Ascent
from lib.images.normalise import field_of_view, field_of_view_centre
from lib.images.pair import overlap, shrink, trim
from lib.images.volume import Volume
from lib.patients.scans import idc_pairs, manifest
from lib.patients.scans.schema import Pair
from lib.patients.store import Patient
from lib.registration import judge, judged, starts
from lib.registration.register import RegisterSettings
from lib.rigid import displacement

VERSION = 2  # raised when what is made here changes
STARTS = 8  # of mutual information about the judged place ...
AROUND = (10.0,) * 3 + (5.0,) * 3  # ... within so many mm and degrees
OTHERS = 4  # next best places from which it starts, too
ONCE_MORE = 4  # starts about the best end of these, within a quarter of that
SAME = 15.0  # mm: ends nearer than this to it are at its vertebra; mutual information says which, seldom more exactly
THOROUGH = {"ranked": 64, "refined": 24}  # places that the search keeps, more than the baseline has time for
LEAST_OVERLAP = 0.5  # share of the CBCT inside the CT below which no start can be drawn (`transfer.min_overlap`)
MARKS = 32  # points of bone at which errors are measured


@dataclass(frozen=True)
class Consensus:
    """A pose moving -> fixed (4 x 4 as nested lists) and what speaks for it."""

    pose: list
    off_mm: float  # how far from it mutual information is greatest, of all ends
    margin: float  # by how much it is greater there than at any end elsewhere
    agreement: float  # share of the starts about it that came back to it
    likeness: float  # of local contrast at bone, -1 to 1
    lead: float  # over the next best place
    overlap: float  # share of the CBCT that lies inside the CT there
    version: int = VERSION

    @property
    def doubt(self) -> str:
        """Why errors must not be measured against it; empty where both measures are of one mind."""
        if self.off_mm > SAME:
            return f"mutual information at bone is greatest {self.off_mm:.0f} mm from where the images are most alike"
        if self.lead < judged.JudgedLimits().min_lead:
            return f"another place is nearly as likely (lead {self.lead:.2f})"
        if self.overlap < LEAST_OVERLAP:
            return f"only {self.overlap:.0%} of the CBCT lies inside the CT"
        return ""


def estimate(fixed: Volume, moving: Volume) -> Consensus:
    """The consensus of a pair, both about 2 mm. Raises UserError where the two cannot be compared at all."""
    settings, centre = BaselineSettings(), field_of_view_centre(fixed)
    (start,) = starts.starting_poses(fixed, moving, None, centre, "spine", RegisterSettings(starts=1))
    everywhere = tuple(np.maximum(np.array(moving.size) * moving.spacing / 2, settings.fft_search.reach))  # of the CT
    thorough = replace(settings.fft_search, reach=everywhere, **THOROUGH)
    searched = fft_search.search(fixed, moving, start, thorough).poses
    verdict = judge.judge(fixed, moving, centre, {"search": searched})
    drawn = np.random.default_rng(0).uniform(-1, 1, (STARTS, 6)) * AROUND
    begun = [rigid.about(rigid.params_to_matrix(v), centre) @ verdict.pose for v in drawn]
    begun += [rigid.translation([0.0, 0.0, z]) @ verdict.pose for z in judge.JudgeSettings().beside]
    begun += [place.pose for place in verdict.places[1 : 1 + OTHERS]]
    ends, mutual = witness(fixed, moving, begun, settings)
    begun = [rigid.about(rigid.params_to_matrix(v / 4), centre) @ ends[mutual.argmax()] for v in drawn[:ONCE_MORE]]
    further, more = witness(fixed, moving, begun, settings)  # it stops short of its optimum
    ends, mutual = np.concatenate([ends, further]), np.concatenate([mutual, more])
    off = np.array([displacement(verdict.pose, end, centre) for end in ends])
    away, best = off > SAME, int(mutual.argmax())
    margin = float(mutual[~away].max(initial=0.0) - mutual[away].max(initial=0.0))
    said = (float(off[best]), margin, float((off[:STARTS] <= SAME).mean()), verdict.places[0].likeness, verdict.lead)
    return Consensus(verdict.pose.tolist(), *said, overlap(fixed, moving, verdict.pose))


def witness(fixed: Volume, moving: Volume, begun: list, settings: BaselineSettings) -> tuple[np.ndarray, np.ndarray]:
    """Where mutual information at bone ends from each pose of `begun`: poses (n, 4, 4) and how great it is there (n,); 0 where
    ITK refuses, because too little bone is in view."""
    options = replace(settings.tuned, smooth=settings.bone.smooth)
    still, floating, field = mattes.images(fixed, moving, options, field_of_view(fixed))
    part, ends, mutual = itk_bone.bone(floating, settings.bone), [], []
    for pose in begun:
        try:
            end, metric = mattes.optimise(still, floating, pose, options, field, part=part)
        except RuntimeError:
            end, metric = pose, 0.0
        ends.append(end)
        mutual.append(-metric)
    return np.stack(ends), np.array(mutual)


def reference(pair: Pair, folder: Path) -> Consensus:
    """The consensus of a fetched pair; where it is not known yet it is estimated, drawn and kept beside the files. Raises
    UserError for files that cannot be read or compared."""
    known = _kept(folder)
    if known is not None:
        return known
    fixed, moving = _images(folder)
    one = estimate(fixed, moving)
    said = one.doubt or f"lead {one.lead:.2f}, mutual information {one.off_mm:.1f} mm off, margin {one.margin:.2f}"
    title = f"{pair.patient}, {'no ' if one.doubt else ''}consensus: {said}."
    pose = np.array(one.pose)
    figure = volumes.close(fixed, moving, pose, through_bone(moving, pose, field_of_view_centre(fixed)), title)
    charts.save(figure, folder / "consensus.png")
    provenance.write_json(folder / "consensus.json", asdict(one))
    return one


def _images(folder: Path) -> tuple[Volume, Volume]:
    """CBCT and CT of a pair, about 2 mm."""
    fixed = shrink(trim(read.read_image(folder / "cbct", kind="cbct")), 2.0, True)
    return fixed, shrink(read.read_image(folder / "ct", kind="ct"), 2.0, False)


def patient(name: str, pair: Pair, folder: Path) -> Patient:
    """A pair of a collection as a test patient whose truth is its consensus. Raises UserError where there is none to
    believe."""
    found, one = manifest.load(name), reference(pair, folder)
    if one.doubt:
        raise UserError(f"{pair.patient}: no consensus: {one.doubt}, so nothing can be measured on it.")
    fixed, moving = _images(folder)
    truth = np.array(one.pose)
    who = Patient(f"{name}_{pair.patient}", "spine", name, fixed, moving, truth)
    who.landmarks_moving = marks(fixed, moving, truth)
    who.landmarks_fixed = rigid.apply(truth, who.landmarks_moving)
    who.meta = {"dataset": name, "source": found.source, "licence": found.licence, "simulated_cbct": False}
    who.meta |= {
        "truth": "estimated by consensus, not clinical",
        **{k: v for k, v in asdict(one).items() if k != "pose"},
    }
    return who


def marks(fixed: Volume, moving: Volume, truth: np.ndarray) -> np.ndarray:
    """Points (n, 3) of the CT near bone, moving world, evenly drawn within 60 mm of the middle of the field of view."""
    return Ascent(fixed, moving, field_of_view_centre(fixed), truth, 60.0, points=MARKS).points.double().numpy()


def _kept(folder: Path) -> Consensus | None:
    """A consensus that was estimated before, by this version."""
    try:
        one = Consensus(**json.loads((folder / "consensus.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return one if one.version == VERSION else None


def usable(names: Iterable[str], say=print) -> list[tuple[str, Pair, Path]]:
    """(collection, pair, folder) of each pair of some collections that has a consensus to believe. First what is missing
    is fetched, as far as it can be; then consensus is estimated where it was not yet, most of a minute a pair. Who has
    none is named. Raises UserError where no pair is on this machine."""
    collections = [manifest.load(name) for name in names]
    idc_pairs.bring(collections, say)
    some = [(found.name, pair, at) for found in collections for pair, at in idc_pairs.here(found) if not pair.seen]
    if not some:
        raise UserError(
            f"No pair of {' or '.join(names)} is on this machine; run `make data DATASET={collections[0].name}`, it says how "
            "large it is."
        )
    new, made, began, believed = [at for _, _, at in some if _kept(at) is None], 0, time.monotonic(), []
    if new:
        say(f"{len(new)} of {len(some)} pairs need a reference, most of a minute each; it is kept beside their files")
    for name, pair, at in some:
        try:
            one = reference(pair, at)
        except UserError as error:
            say(f"left out: {name}, {pair.patient}: {error}")
            continue
        if at in new:
            made += 1
            left = (time.monotonic() - began) / made * (len(new) - made) / 60
            say(f"reference {made} of {len(new)}, {name}, {pair.patient}; about {left:.0f} min left")
        if one.doubt:
            say(f"left out: {name}, {pair.patient}: no consensus: {one.doubt}")
        else:
            believed.append((name, pair, at))
    say(f"{len(believed)} of {len(some)} pairs have a reference to measure by")
    return believed
