"""Would the CT fit better if its file said something else? Two slips of headers leave images that still lie on each other:
left exchanged with right, and a wrong distance between slices. No rigid pose tells them; a CT that is more alike mirrored,
or stretched along the body, does.

A mirrored or stretched CT needs no new image: the matrix that mirrors or stretches it goes before the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib import rigid
from lib.images.ascent import Ascent

ASIDE = tuple(8.0 * n for n in range(-7, 8))  # mm from the middle: twice as far as the spine may lie beside it
STRETCHED = (0.85, 0.9, 0.95, 1.05, 1.1, 1.15)
# By how much it must be more alike: docs/register.md, "Slips of headers".
MIRRORED_GAIN, STRETCHED_GAIN = 0.04, 0.02
FEWEST = 500  # points compared: a sliver of a spine is as alike mirrored


@dataclass(frozen=True)
class Otherwise:
    """The likeness as it is, and how much more alike the best otherwise is."""

    likeness: float = 0.0
    mirrored: float = -1.0
    stretched: float = -1.0
    by: float = 1.0  # how many times as long, at the best

    def reasons(self, least: float, bone: bool) -> list[str]:
        """A sentence for each that fits better, where it is as alike as a place must be (`least`). bone: stretching is asked
        of spines alone; hearts beat."""
        found = []
        if self.mirrored > MIRRORED_GAIN and self.likeness + self.mirrored >= least:
            found.append(
                f"mirrored, the CT is more alike ({self.likeness + self.mirrored:.2f} for {self.likeness:.2f}): left and right "
                "look exchanged in one of the files"
            )
        if bone and self.stretched > STRETCHED_GAIN and self.likeness + self.stretched >= least:
            found.append(
                f"{self.by:.2f} times as long, the CT is more alike ({self.likeness + self.stretched:.2f} for "
                f"{self.likeness:.2f}): one of the files looks to have a wrong distance between its slices"
            )
        return found


def ask(ascent: Ascent, pose: np.ndarray, steps: int) -> Otherwise:
    """The CT as it is at `pose` (4, 4), moving -> fixed, and mirrored and stretched about what lies in the middle of the CBCT
    there, each brought to its own optimum by `steps` steps. Nothing is told where there are too few points for it."""
    middle = rigid.apply(rigid.invert(pose), ascent.centre[None])[0]
    mirrored = [rigid.translation([x, 0.0, 0.0]) @ pose @ _about(middle, (-1.0, 1.0, 1.0)) for x in ASIDE]
    stretched = [pose @ _about(middle, (1.0, 1.0, scale)) for scale in STRETCHED]
    _, alike = ascent.climb(np.array([pose, *mirrored, *stretched]), steps, FEWEST)
    likeness, first, second = float(alike[0]), alike[1 : 1 + len(ASIDE)], alike[1 + len(ASIDE) :]
    if likeness <= -1:
        return Otherwise()
    best = int(np.argmax(second))
    return Otherwise(likeness, float(first.max()) - likeness, float(second[best]) - likeness, STRETCHED[best])


def _about(point: np.ndarray, scales) -> np.ndarray:
    """(4, 4) that scales each axis about a point."""
    matrix = np.diag([*scales, 1.0])
    matrix[:3, 3] = point - matrix[:3, :3] @ point
    return matrix
