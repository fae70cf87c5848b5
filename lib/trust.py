"""When to believe a registration: numbers from the agent's own path, and a verdict in words.

Four things are looked at: how clearly the agent preferred its actions (the action-value margin along the path),
whether it came to rest or wandered at the end, how many of several starts ended at the same place, and how much of the
cone-beam scan lies inside the CT. The thresholds are guesses until `register_check.calibration` has been run on
training patients; the sentence says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib import rigid

GOOD, BAD = "good", "do not trust"


@dataclass(frozen=True)
class TrustThresholds:
    """Below (or above) these the verdict is "do not trust"."""

    min_overlap: float = 0.35  # share of the CBCT's field of view inside the CT
    min_agreement: float = 0.5  # share of the starts that end within `same_place`
    same_place: float = 10.0  # mm, mean displacement of points 50 mm from the centre
    max_wander: float = 8.0  # mm, reach of the last 20 steps
    min_margin: float = 0.15  # mean margin of the last 20 steps, in standard deviations
    min_similarity: float = 0.12  # correlation of local contrast inside the field of view
    tail: int = 20  # steps that count as the end of the path


@dataclass
class Trust:
    """The numbers behind a verdict; `reasons` holds a sentence for each that is bad."""

    overlap: float
    agreement: float
    wander: float
    margin: float
    similarity: float
    reasons: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return BAD if self.reasons else GOOD

    def sentence(self) -> str:
        """The verdict in one line."""
        if not self.reasons:
            return (
                "good: the starts agree, the agent came to rest, the fields of view overlap. This verdict is not "
                "calibrated yet and has been wrong on a real pair: look at the overlay before you use the result"
            )
        return f"{BAD}: " + "; ".join(self.reasons)


def displacement(first: np.ndarray, second: np.ndarray, centre) -> np.ndarray:
    """Mean distance (mm) between where two poses (..., 4, 4) put points 50 mm from `centre` (fixed world) on
    each axis."""
    points = np.asarray(centre) + 50.0 * np.concatenate([np.eye(3), -np.eye(3)])
    back = rigid.apply(rigid.invert(np.asarray(first)), points)
    moved = rigid.apply(np.asarray(second), back)
    return np.linalg.norm(moved - points, axis=-1).mean(axis=-1)


def wander(poses: np.ndarray, centre, tail: int = 20) -> float:
    """How far (mm) the poses of the last `tail` steps lie from the last one, at most. poses (steps + 1, 4,
    4)."""
    return float(max(displacement(poses[-1], pose, centre) for pose in poses[-tail:]))


def margins(values: np.ndarray) -> np.ndarray:
    """Action-value margin of each step: (best - mean) / standard deviation of the 12 values. (steps, 12) ->
    (steps,)."""
    spread = np.maximum(values.std(axis=-1), 1e-6)
    return (values.max(axis=-1) - values.mean(axis=-1)) / spread


def largest_group(poses: np.ndarray, support: np.ndarray, centre, same_place: float) -> np.ndarray:
    """Indices of the poses (n, 4, 4) that ended at one place: the group with most members plus mean
    support."""
    n = len(poses)
    near = np.array(
        [[displacement(poses[i], poses[j], centre) <= same_place for j in range(n)] for i in range(n)]
    )
    scores = [near[i].mean() + support[near[i]].mean() for i in range(n)]
    return np.flatnonzero(near[int(np.argmax(scores))])


def judge(overlap: float, agreement: float, path: np.ndarray, values: np.ndarray, similarity: float, centre,
          limits: TrustThresholds | None = None) -> Trust:  # fmt: skip
    """A Trust from a path of poses (steps + 1, 4, 4) and its action values (steps, 12)."""
    limits = limits or TrustThresholds()
    margin = float(margins(values)[-limits.tail :].mean()) if len(values) else 0.0
    trust = Trust(overlap, agreement, wander(path, centre, limits.tail), margin, similarity)
    checks = (
        (overlap < limits.min_overlap, f"only {overlap:.0%} of the CBCT lies inside the CT"),
        (agreement < limits.min_agreement, f"only {agreement:.0%} of the starts ended at the same place"),
        (trust.wander > limits.max_wander, f"the agent still wandered by {trust.wander:.0f} mm at the end"),
        (margin < limits.min_margin, f"the agent hardly preferred any action (margin {margin:.2f})"),
        (similarity < limits.min_similarity, f"the images are alike by {similarity:.2f} only"),
    )
    trust.reasons = [reason for bad, reason in checks if bad]
    return trust


def calibrate(trusts: list[Trust], errors, limit: float = 10.0) -> dict[str, float]:
    """Of the cases called good, how many lie within `limit` mm; and how many good ones are missed. errors
    (n,) mm."""
    good = np.array([t.verdict == GOOD for t in trusts])
    right = np.asarray(errors) <= limit
    return {
        "n": len(good),
        "called_good": float(good.mean()) if len(good) else float("nan"),
        "right_when_good": float(right[good].mean()) if good.any() else float("nan"),
        "right_when_not": float(right[~good].mean()) if (~good).any() else float("nan"),
        "found_of_right": float(good[right].mean()) if right.any() else float("nan"),
    }
