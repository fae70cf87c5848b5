"""Which of several candidates is right: one judge for whatever scout found them.

Each candidate climbs to the nearest optimum of the likeness at bone (`lib.images.ascent`), all together; of the distinct
places the one that is most alike wins, and its lead over the next is how sure the judge is; from where on that is believed
says `lib.registration.judged`. The next vertebrae of the winner are always among the candidates, whether a scout brought
them or not: that is where scouts err. Likeness counts by the root of the share of points that could be compared: on a
sliver of overlap many places are alike by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.images.ascent import Ascent
from lib.images.volume import Volume
from lib.registration import otherwise
from lib.registration.otherwise import Otherwise
from lib.rigid import displacement


@dataclass(frozen=True)
class JudgeSettings:
    """How candidates are judged."""

    voxel: float = 4.0  # mm, of both images
    points: int = 8000  # of the CT, near bone
    steps: int = 15  # of the ascent, at most
    same_place: float = 10.0  # mm, mean displacement of points 50 mm from the centre
    beside: tuple[float, ...] = (-36.0, -24.0, 24.0, 36.0)  # mm along the body from the winner: the next vertebrae
    again: int = 3  # times that a winner's next vertebrae are asked, at most
    finest: float = 3.0  # mm, of the winner's last ascent, by all points
    reach: float = 130.0  # mm from the centre along each axis: half the largest field of view


@dataclass
class Place:
    """A place where candidates ended: its best pose (4, 4) moving -> fixed, and who found it."""

    pose: np.ndarray
    likeness: float  # at bone, -1 to 1
    weighed: float  # the same times the root of the share of points compared
    scouts: tuple[str, ...]  # none: asked as the next vertebra of one that was found


@dataclass
class Verdict:
    """Places, best first."""

    places: list[Place]
    lead: float  # weighed likeness of the first less that of the second; the likeness itself where there is one place
    otherwise: Otherwise = Otherwise()  # how alike the CT is mirrored and stretched

    @property
    def pose(self) -> np.ndarray:
        """The winner's."""
        return self.places[0].pose


def judge(
    fixed: Volume,
    moving: Volume,
    centre,
    candidates: Mapping[str, np.ndarray],
    bone: bool = True,
    settings: JudgeSettings | None = None,
) -> Verdict:
    """Bring every candidate to its optimum and choose. candidates: scout ("search", "agent") -> its poses (n, 4, 4);
    centre (3,): the middle of the fixed field of view. Raises UserError where there is no candidate, or none at which the
    images can be compared."""
    settings, centre = settings or JudgeSettings(), np.asarray(centre, dtype=np.float64)
    poses = [np.asarray(p, dtype=np.float64).reshape(-1, 4, 4) for p in candidates.values()]
    scouts = [(name,) for name, mine in zip(candidates, poses, strict=True) for _ in mine]
    if not scouts:
        raise UserError("There is no candidate to judge: neither the search nor the agent ended anywhere.")
    poses = np.concatenate(poses)
    around, reach = _region(poses, centre, settings.reach + np.array([0.0, 0.0, np.abs(settings.beside).max()]))
    ascent = Ascent(fixed, moving, centre, around, reach, bone, settings.voxel, settings.points)
    ends, _ = ascent.climb(poses, settings.steps)
    places = _places(ascent, ends, scouts, settings.same_place)
    for _ in range(settings.again):
        first = places[0]
        further = np.stack([rigid.translation([0.0, 0.0, z]) @ first.pose for z in settings.beside])
        further, _ = ascent.climb(further, settings.steps)
        ends, scouts = np.concatenate([ends, further]), scouts + [()] * len(further)
        places = _places(ascent, ends, scouts, settings.same_place)
        if displacement(places[0].pose, first.pose, centre) <= settings.same_place:
            break
    other = otherwise.ask(ascent, places[0].pose, settings.steps)
    places[0].pose = _settled(fixed, moving, centre, places[0].pose, bone, settings)
    lead = places[0].weighed - (places[1].weighed if len(places) > 1 else 0.0)
    return Verdict(places, lead, other)


def _settled(fixed, moving, centre, pose: np.ndarray, bone: bool, settings: JudgeSettings) -> np.ndarray:
    """The winner's pose after a last ascent by all points about itself: drawn points depend on the first candidate, and
    move an optimum by up to a millimetre. The pose as it was where that leads to another place."""
    reach = np.full(3, settings.reach)
    ascent = Ascent(fixed, moving, centre, pose, reach, bone, settings.finest, points=10**6)
    end = ascent.climb(pose[None], settings.steps)[0][0]
    return end if displacement(pose, end, centre) <= settings.same_place else pose


def _region(poses: np.ndarray, centre: np.ndarray, reach):
    """A pose, and how far along each axis (3,) from the centre the CT's points may lie under it, so that all candidates'
    fields of view are covered."""
    seen = np.stack([rigid.apply(rigid.invert(p), centre[None])[0] for p in poses])  # the centre in the CT
    around = poses[0]
    offset = rigid.apply(around, seen) - centre
    return around, reach + np.abs(offset).max(axis=0)


def _places(ascent: Ascent, ends, scouts, same_place: float) -> list[Place]:
    """Distinct places, the most alike first; a place belongs to every scout that ended there. Raises UserError where the
    images can be compared at none."""
    weighed, alike = ascent.weighed(ends)
    if alike.max() <= -1:
        raise UserError("No candidate leaves enough of the CT's bone inside the CBCT to compare the images there.")
    places: list[Place] = []
    for n in np.argsort(-weighed, kind="stable"):
        near = [p for p in places if displacement(p.pose, ends[n], ascent.centre) <= same_place]
        if near:
            near[0].scouts = tuple(dict.fromkeys((*near[0].scouts, *scouts[n])))
        else:
            places.append(Place(ends[n], float(alike[n]), float(weighed[n]), scouts[n]))
    return places
