"""The agent as a scout: all starts rolled out together, and the one that the agent alone would answer.

The group of ends with most members and most alike images wins; its most alike member is the answer.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lib import rigid
from lib.images.pair import Likeness, overlap
from lib.images.volume import Volume
from lib.registration import trust


def roll_out(player, fixed: Volume, moving: Volume, poses, centre, settings, threads: int = 1) -> list:
    """All starts, on a CPU shared out among `threads`: a `lib.agent.AgentResult` each."""
    from lib import agent as agents

    steps = agents.AgentSettings(
        coarse_steps=settings.coarse_steps,
        fine_steps=settings.fine_steps,
        fine_limit=settings.fine_limit,
        adaptive=settings.adaptive,
    )

    def walk(poses):
        n = len(poses)
        return agents.run(player, [fixed] * n, [moving] * n, poses, steps, np.tile(centre, (n, 1)))

    parts = np.array_split(poses, min(threads, len(poses)) if player.coarse.device.type == "cpu" else 1)
    with ThreadPoolExecutor(len(parts)) as pool:
        return [result for part in pool.map(walk, parts) for result in part]


class Look:
    """What the images say of a pose: overlap, likeness, shift and lead (`lib.registration.trust`)."""

    def __init__(self, fixed: Volume, moving: Volume, centre, experiment: str = "spine"):
        self.fixed, self.moving, self.centre = fixed, moving, centre
        self.bone = experiment == "spine"  # where likeness counts: at bone, or (E2) everywhere
        self.likeness, self.elsewhere = Likeness(fixed, moving, centre, self.bone), np.empty(0)

    def __call__(self, pose: np.ndarray) -> dict[str, float]:
        moved = np.stack([rigid.translation([0, 0, z]) @ pose for z in trust.SHIFTS])
        profile = self.likeness(moved, 0.3)
        shift, lead = trust.second_look(profile, self.elsewhere)
        here = float(np.nan_to_num(profile[trust.SHIFTS == 0][0], nan=-1.0))
        return {"overlap": overlap(self.fixed, self.moving, pose), "likeness": here, "shift": shift, "lead": lead}


def choose(results, look: Look, calibration: trust.Calibration):
    """(number of the `lib.agent.AgentResult` that is the answer, the verdict on it, a `trust.Trust`).

    `look.elsewhere` becomes the likeness of the ends outside the group.
    """
    ends, limits, centre = np.stack([r.pose for r in results]), calibration.limits, look.centre
    alike = np.nan_to_num(look.likeness(ends), nan=-1.0)
    group = trust.largest_group(ends, alike, centre, limits.same_place)
    best = int(group[np.argmax(alike[group])])
    look.elsewhere = np.delete(alike, group)
    walked = {
        "agreement": len(group) / len(ends),
        "wander": trust.wander(results[best].trajectory, centre, limits.tail),
        "margin": float(trust.margins(values_of(results[best]))[-limits.tail :].mean()),
    }
    return best, trust.judge(walked | look(ends[best]), calibration)


def values_of(result) -> np.ndarray:
    """(steps, 12) action values along both parts of an AgentResult's path."""
    return np.concatenate([result.coarse.values] + ([result.fine.values] if result.fine else []))
