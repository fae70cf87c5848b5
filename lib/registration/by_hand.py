"""The paper's manual registration (M4), without a screen: a pose with six degrees of freedom, a clock, a way back.

`Session` is one attempt of one person at one case. Each move is an action as the agent's (Eq. 1): it is composed from
the left, T <- C M(p) C^-1 T, so "+1 mm to the left" goes to the patient's left wherever the CT has been turned to. C is
the crosshair, which begins at the centre of the fixed window. `by_hand_panel` puts it on a screen, `by_hand_records`
keeps what was done, `by_hand_study` says which case is next.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lib import rigid
from lib.base.errors import UserError

NAMES = ("tx", "ty", "tz", "rx", "ry", "rz")
# Of each parameter: where minus and plus one unit take the CT, as the three planes show it.
DIRECTIONS = {
    "tx": ("← to R", "to L →"),
    "ty": ("↑ to A", "to P ↓"),
    "tz": ("↓ to F", "to H ↑"),
    "rx": ("↻ head back", "head forward ↺"),  # sagittal
    "ry": ("↺ head to R", "head to L ↻"),  # coronal
    "rz": ("↺ front to R", "front to L ↻"),  # axial
}
STEPS = (0.5, 1.0, 5.0, 20.0)  # mm or degrees a press
LIMIT = 500.0  # mm from the start: further away there is nothing to see


@dataclass
class Session:
    """One person, one case, one attempt. `clock` is replaceable for tests; `keep` is called with every entry of the path
    as it is made: (seconds, six parameters, what was done)."""

    case: object  # lib.cases.Case
    user: str  # a pseudonym: letters, digits, - and _
    keep: Callable[[float, np.ndarray, str], None] = lambda seconds, params, what: None
    clock: Callable[[], float] = time.monotonic
    path: list = field(default_factory=list)  # [seconds, tx, ty, tz, rx, ry, rz] after every change
    before: float = 0.0  # seconds that earlier kernels have counted
    begun: float | None = None
    seconds: float | None = None  # set by stop
    _back: list = field(default_factory=list, repr=False)  # poses to which undo goes back

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", self.user):
            raise UserError(f"{self.user!r} cannot name a user; choose a pseudonym of letters, digits and hyphens.")
        self.pose = np.array(self.case.initial, dtype=np.float64)  # (4, 4) moving -> fixed world
        if self.path:
            self.before, self.pose = self.path[-1][0], pose_at(self.case, self.path[-1][1:])

    @property
    def running(self) -> bool:
        """Between start and stop: only then does anything move."""
        return self.begun is not None and self.seconds is None

    @property
    def params(self) -> np.ndarray:
        """(6,) mm and degrees about the fixed window's centre: what was done to the initial pose so far."""
        return parameters(self.case, self.pose)

    @property
    def elapsed(self) -> float:
        """Seconds at work, at most until the stop; the time in which no kernel ran is not counted."""
        if self.seconds is not None:
            return self.seconds
        return self.before + (self.clock() - self.begun if self.begun is not None else 0.0)

    @property
    def moves(self) -> int:
        """Changes of the pose so far."""
        return max(len(self.path) - 1, 0)

    def start(self) -> None:
        """Start the clock, or go on where an earlier kernel stopped; the first entry of the path is the initial pose."""
        if self.begun is None and self.seconds is None:
            self.begun = self.clock()
            if not self.path:
                self._note("start")

    def move(self, params, about=None, more: bool = False) -> None:
        """Compose one action (6,) in mm and degrees about the world point `about` (the window's centre by default).
        `more`: a drag goes on, and undo takes it back as one. Nothing happens while the clock stands, or where the CT
        would be out of sight."""
        params = np.asarray(params, dtype=np.float64)
        if not self.running or not np.isfinite(params).all() or not params.any():
            return
        centre = self.case.centre if about is None else np.asarray(about, dtype=np.float64)
        pose = rigid.about(rigid.params_to_matrix(params), centre) @ self.pose
        if np.abs(parameters(self.case, pose)[:3]).max() <= LIMIT:
            if not (more and self._back):
                self._back.append(self.pose)
            self.pose = pose
            self._note("move")

    def nudge(self, name: str, step: float = 1.0, about=None) -> None:
        """A button was pressed: one degree of freedom by `step` mm or degrees."""
        self.move(step * np.eye(6)[NAMES.index(name)], about)

    def undo(self) -> None:
        """Back to where the last move began (as far as this kernel has seen them)."""
        if self.running and self._back:
            self.pose = self._back.pop()
            self._note("undo")

    def reset(self) -> None:
        """Back to the initial pose; undo takes it back."""
        if self.running and self.params.any():
            self._back.append(self.pose)
            self.pose = np.array(self.case.initial, dtype=np.float64)
            self._note("reset")

    def stop(self) -> None:
        """Stop the clock; the pose is final."""
        if self.running:
            self.seconds = self.elapsed
            self._note("stop")

    def _note(self, what: str):
        params = self.params
        entry = [round(self.elapsed, 3), *(float(p) for p in params)]
        if what != "stop":
            self.path.append(entry)
        self.keep(entry[0], params, what)


def parameters(case, pose: np.ndarray) -> np.ndarray:
    """(6,) of what turns the initial pose into `pose`, about the fixed window's centre: pose = C M(p) C^-1 T_initial."""
    return rigid.matrix_to_params(rigid.centred(pose @ rigid.invert(case.initial), case.centre))


def pose_at(case, params) -> np.ndarray:
    """The inverse of `parameters`: (..., 6) -> (..., 4, 4), moving -> fixed world."""
    return rigid.about(rigid.params_to_matrix(np.asarray(params, dtype=np.float64)), case.centre) @ case.initial


def is_interactive() -> bool:
    """True in a notebook front end with a person before it; not under papermill, nbval, nbconvert or a script."""
    if os.environ.get("MPLBACKEND", "").lower() == "agg" or os.environ.get("NBVAL") or os.environ.get("CI"):
        return False
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    if kernel is None or type(kernel).__name__ != "ZMQInteractiveShell":
        return False
    return bool(os.environ.get("JPY_SESSION_NAME")) and "PAPERMILL_OUTPUT_PATH" not in kernel.user_ns
