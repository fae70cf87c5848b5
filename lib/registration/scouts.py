"""Search and agent under one judge: who looks for the place, and how the place they found is told.

The search tries all shifts at a lattice of rotations about the first starting pose (`lib.baselines.fft_search`), the agent
walks from all starts. Each end is brought to the optimum of the likeness (of the spine at bone) and the most alike wins
(`lib.registration.judge`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.baselines import fft_search
from lib.baselines.settings import BaselineSettings
from lib.images.volume import Volume
from lib.registration import judged
from lib.registration.chosen import Look
from lib.registration.judge import JudgeSettings, judge
from lib.registration.trust import Calibration
from lib.rigid import displacement

SCOUTS = ("both", "agent", "search")


@dataclass
class Place:
    """What the judge chose: a pose (4, 4), the verdict, and which of the agent's ends is nearest (None: none at the place)."""

    pose: np.ndarray
    trust: judged.Judged
    nearest: int | None


def search(
    fixed: Volume, moving: Volume, initial: np.ndarray, bone: bool = True, threads: int = 1, whole: bool = False
) -> np.ndarray:
    """The places (n, 4, 4) that the search finds within its reach of `initial`, best first. bone: it looks at the CT's bone
    (E1), else at all of it. whole: along the body as far as the CT goes."""
    options = BaselineSettings(anatomy="spine" if bone else "heart").of("fft_search")
    if whole:
        x, y, z = options.reach
        options = replace(options, reach=(x, y, max(z, float(moving.size[2] * moving.spacing[2] / 2))))
    return fft_search.search(fixed, moving, initial, options, bone, threads).poses


def choose(fixed: Volume, moving: Volume, look: Look, found: np.ndarray, ends: np.ndarray, calibration: Calibration):
    """The `Place` that wins among those of the search, `found` (n, 4, 4), and the agent's `ends` (m, 4, 4). Raises
    UserError where the images cannot be compared at any of them."""
    limits = calibration.limits
    settings = JudgeSettings(same_place=limits.same_place)
    verdict = judge(fixed, moving, look.centre, {"search": found, "agent": ends}, look.bone, settings)
    first, pose = verdict.places[0], verdict.pose
    away = np.array([float(displacement(pose, end, look.centre)) for end in ends])
    there = away <= limits.same_place
    seen = look(pose)
    numbers = {
        "overlap": seen["overlap"],
        "agreement": float(there.mean()) if len(ends) else 0.0,
        "scouts": float(len(first.scouts)),
        "likeness": first.likeness,
        "lead": float(verdict.lead),
        "beside": seen["lead"],
        "shift": seen["shift"],
    }
    rival = _name(verdict.places[1].scouts) if len(verdict.places) > 1 else ""
    said = judged.judge(numbers, _name(first.scouts), rival, calibration, look.bone)
    said.reasons += verdict.otherwise.reasons(limits.min_likeness, look.bone)
    return Place(pose, said, int(np.argmin(away)) if there.any() else None)


def _name(scouts: tuple[str, ...]) -> str:
    return "both" if len(scouts) > 1 else "".join(scouts) or "judge"
