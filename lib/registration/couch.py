"""The six numbers that a treatment couch is moved by, and about which point: IEC 61217, as consoles show them.

Axes of the room, for a patient on the back, head first: x lateral, towards the patient's left; y longitudinal, towards the
head; z vertical, up (anterior). Pitch turns about x, roll about y, yaw about z, right-handed; the rotation is
Rz(yaw) Rx(pitch) Ry(roll) about the CBCT's isocentre. The numbers move the patient from where the CBCT shows him to where
the CT has him: the plan's isocentre then lies in the machine's. Feet first, x and y point the other way in the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib import rigid
from lib.base.errors import UserError

NAMES = ("vertical", "longitudinal", "lateral", "pitch", "roll", "yaw")
ROOM = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # LPS -> (x, y, z) of the room, head first
FARTHEST = 1000.0  # mm
FEET = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Couch:
    """mm and degrees, in the order of `NAMES`; isocentre (3,) LPS mm and where it was taken from."""

    numbers: tuple[float, ...]
    isocentre: tuple[float, ...]
    source: str

    def sentence(self) -> str:
        """One line for people."""
        said = ", ".join(f"{n} {v:+.1f}" for n, v in zip(NAMES, self.numbers, strict=True))
        point = ", ".join(f"{x:.1f}" for x in self.isocentre)
        return f"{said} (mm, degrees; IEC 61217, CBCT to CT, about {self.source} at {point})"


def check_points(fixed, moving, isocentres) -> None:
    """Raises UserError where an isocentre that was given lies further than a metre outside its image: of the CBCT `fixed`,
    of the plan `moving`."""
    for name, volume, point in zip(("--isocentre", "--plan-isocentre"), (fixed, moving), isocentres, strict=True):
        if point is None:
            continue
        index = rigid.apply(np.linalg.inv(volume.affine), np.asarray(point, dtype=float)[None])[0]
        beyond = np.maximum(np.maximum(-index, index - (np.array(volume.size) - 1)), 0) * volume.spacing
        if (away := float(np.linalg.norm(beyond))) > FARTHEST:
            raise UserError(
                f"{name} {' '.join(f'{x:g}' for x in point)} lies {away / 1000:.3g} m outside the image; give it in LPS mm of "
                "that image's own coordinates."
            )


def couch(pose: np.ndarray, fixed, given=None, plan=None) -> Couch:
    """The six numbers of `pose` (moving -> fixed) of the Volume `fixed`.

    given (3,): the CBCT's isocentre, LPS mm; else what its DICOM says, else 0, 0, 0 where that lies in it, else its middle.
    plan (3,): the plan's isocentre in the CT's coordinates; by default the same point.
    """
    point, source = _isocentre(fixed, given)
    header = fixed.given.dicom if fixed.given is not None else None
    feet = header is not None and str(header.get("PatientPosition") or "").startswith("FF")
    room = (FEET if feet else np.eye(3)) @ ROOM
    back = rigid.invert(
        np.asarray(pose, dtype=np.float64)
    )  # fixed -> moving: from where the CBCT shows to where the CT has
    goal = point if plan is None else np.asarray(plan, dtype=float)
    lateral, longitudinal, vertical = room @ (rigid.apply(back, point[None])[0] - goal)
    turn = room @ back[:3, :3] @ room.T
    pitch = np.degrees(np.arcsin(np.clip(turn[2, 1], -1, 1)))
    roll = np.degrees(np.arctan2(-turn[2, 0], turn[2, 2]))
    yaw = np.degrees(np.arctan2(-turn[0, 1], turn[1, 1]))
    numbers = (vertical, longitudinal, lateral, pitch, roll, yaw)
    return Couch(tuple(float(n) + 0.0 for n in numbers), tuple(map(float, point)), source)


def _isocentre(fixed, given) -> tuple[np.ndarray, str]:
    if given is not None:
        return np.asarray(given, dtype=float), "the isocentre that was given"
    header = fixed.given.dicom if fixed.given is not None else None
    said = header.get("IsocenterPosition") if header is not None else None
    if said is not None and len(said) == 3:
        return np.array([float(x) for x in said]), "the isocentre that the CBCT names"
    index = rigid.apply(np.linalg.inv(fixed.affine), np.zeros((1, 3)))[0]
    if ((index > -0.5) & (index < np.array(fixed.size) - 0.5)).all():
        return np.zeros(3), "the origin of the CBCT's coordinates"
    return fixed.centre, "the CBCT's middle (its isocentre is not known)"
