"""Where a real pair without a reference pose belongs: an estimate by consensus, and how far it may be believed.

A search over all shifts proposes places, local contrast at bone judges them and their next vertebrae. Then another measure
is asked, which saw neither: mutual information that ends at bone (`itk_bone`), from starts all around the chosen place. The
pose counts as a reference where most of its runs come back to it and no other place is nearly as likely. It is an estimate,
not clinical truth: who is tried against it and finds another place may be right. `agreement`, `spread_mm` and `lead` stand
beside it, and each patient has a picture to look at, `consensus.png` beside its files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lib import rigid
from lib.base import provenance
from lib.base.errors import UserError
from lib.baselines import fft_search, itk_bone
from lib.baselines.settings import BaselineSettings
from lib.figures import charts, volumes
from lib.images import read
from lib.images.ascent import Ascent
from lib.images.normalise import field_of_view, field_of_view_centre
from lib.images.pair import shrink, trim
from lib.images.volume import Volume
from lib.patients.scans import idc_pairs, manifest
from lib.patients.scans.schema import Pair
from lib.patients.store import Patient
from lib.registration import judge, judged, starts
from lib.registration.register import RegisterSettings
from lib.rigid import displacement

VERSION = 1  # raised when what is made here changes
STARTS = 8  # of mutual information ...
AROUND = (20.0,) * 3 + (10.0,) * 3  # ... within so many mm and degrees of the judged place
SAME = 5.0  # mm: ends nearer than this to it agree with it
LEAST = 5  # ends that must agree
THOROUGH = {"ranked": 64, "refined": 24}  # places that the search keeps, more than the baseline has time for
MARKS = 32  # points of bone at which errors are measured


@dataclass(frozen=True)
class Consensus:
    """A pose moving -> fixed (4 x 4 as nested lists) and what speaks for it."""

    pose: list
    agreement: float  # share of the runs of mutual information that came back to it
    spread_mm: float  # median distance of those from it
    likeness: float  # of local contrast at bone, -1 to 1
    lead: float  # over the next best place
    version: int = VERSION

    @property
    def believed(self) -> bool:
        """Whether enough witnesses agree for errors to be measured against it."""
        return round(self.agreement * STARTS) >= LEAST and self.lead >= judged.JudgedLimits().min_lead


def estimate(fixed: Volume, moving: Volume) -> Consensus:
    """The consensus of a pair, both about 2 mm. Raises UserError where the two cannot be compared at all."""
    settings, centre = BaselineSettings(), field_of_view_centre(fixed)
    (start,) = starts.starting_poses(fixed, moving, None, centre, "spine", RegisterSettings(starts=1))
    searched = fft_search.search(fixed, moving, start, replace(settings.fft_search, **THOROUGH)).poses
    verdict = judge.judge(fixed, moving, centre, {"search": searched})
    mask, rng = field_of_view(fixed), np.random.default_rng(0)
    away = []
    for v in rng.uniform(-1, 1, (STARTS, 6)) * AROUND:
        begun = rigid.about(rigid.params_to_matrix(v), centre) @ verdict.pose
        end = itk_bone.register(fixed, moving, begun, settings, mask, rng).pose
        away.append(float(displacement(verdict.pose, end, centre)))
    near = [mm for mm in away if mm <= SAME]
    spread = float(np.median(near)) if len(near) else float("nan")
    return Consensus(verdict.pose.tolist(), len(near) / STARTS, spread, verdict.places[0].likeness, verdict.lead)


def patient(name: str, pair: Pair, folder: Path) -> Patient:
    """A pair of a collection as a test patient whose truth is its consensus, which is kept beside its files. Raises
    UserError where there is none to believe."""
    found = manifest.load(name)
    fixed = shrink(trim(read.read_image(folder / "cbct", kind="cbct")), 2.0, True)
    moving = shrink(read.read_image(folder / "ct", kind="ct"), 2.0, False)
    one = _kept(folder)
    if one is None:
        one = estimate(fixed, moving)
        title = f"{pair.patient}, consensus: {one.agreement:.0%} agree within {SAME:g} mm."
        figure = volumes.close(fixed, moving, np.array(one.pose), field_of_view_centre(fixed), title)
        charts.save(figure, folder / "consensus.png")
        provenance.write_json(folder / "consensus.json", asdict(one))
    if not one.believed:
        raise UserError(
            f"{pair.patient}: no consensus ({one.agreement:.0%} of the runs of mutual information come back to where the "
            f"images are most alike, lead {one.lead:.2f}), so nothing can be measured on it."
        )
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


def usable(name: str, say=print) -> list[tuple[Pair, Path]]:
    """Fetched pairs of a collection (and their folders) that have a consensus to believe; it is estimated where it was not
    yet, a minute or two a pair. Who has none is named. Raises UserError where no pair was fetched."""
    here, found = idc_pairs.here(manifest.load(name)), []
    if not here:
        raise UserError(
            f"No pair of {name} is on this machine; run `make data DATASET={name}`, it says how large it is."
        )
    for number, (pair, folder) in enumerate(here, 1):
        if pair.seen:
            continue
        try:
            known = _kept(folder)
            if known is None:
                patient(name, pair, folder)
                say(f"{name}: consensus {number} of {len(here)}, {pair.patient}")
            if known is None or known.believed:
                found.append((pair, folder))
        except UserError as error:
            say(f"left out: {error}")
    return found
