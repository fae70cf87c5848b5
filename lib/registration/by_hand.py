"""The manual registration tool (the paper's M4): six degrees of freedom, three planes and one volume view.

`Session` is the tool without a screen: a pose that sliders and buttons move, a clock, and a file that keeps
the way. `panel` puts it on a screen (ipywidgets). The parameters p are millimetres and degrees about the
centre of the fixed window, the pose is `C M(p) C^-1 T_initial` (moving -> fixed, LPS), so one click on a
button moves one of them by exactly 1. Nobody's sessions are invented: a row of method `human` comes from a
recorded file only.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib import rigid
from lib.base.errors import UserError
from lib.base.provenance import write_json

NAMES = ("tx", "ty", "tz", "rx", "ry", "rz")
VERSION = 1  # of the session file


@dataclass
class Session:
    """One person, one case, one attempt. `clock` is replaceable for tests."""

    case: object  # lib.cases.Case
    user: str  # a pseudonym: letters, digits, - and _
    limits: tuple[float, ...] = (200.0, 200.0, 200.0, 90.0, 90.0, 90.0)
    clock: object = time.monotonic
    params: np.ndarray = field(default_factory=lambda: np.zeros(6))
    path: list = field(default_factory=list)  # [seconds, tx, ty, tz, rx, ry, rz] after every change
    begun: float | None = None
    seconds: float | None = None  # set by stop

    def __post_init__(self):
        if not re.fullmatch(r"[\w-]{1,40}", self.user):
            raise UserError(f"{self.user!r} cannot name a user; choose a pseudonym of letters, digits, - and _.")

    @property
    def running(self) -> bool:
        """Between start and stop: only then does anything move."""
        return self.begun is not None and self.seconds is None

    @property
    def pose(self) -> np.ndarray:
        """(4, 4) moving -> fixed world."""
        return rigid.about(rigid.params_to_matrix(self.params), self.case.centre) @ self.case.initial

    @property
    def elapsed(self) -> float:
        """Seconds since the start, at most until the stop."""
        if self.begun is None:
            return 0.0
        return self.seconds if self.seconds is not None else self.clock() - self.begun

    def start(self) -> None:
        """Start the clock; the first entry of the path is the initial pose."""
        if self.begun is None:
            self.begun = self.clock()
            self._note()

    def set(self, name: str, value: float) -> None:
        """A slider was moved: one parameter to `value` mm or degrees. Nothing happens while the clock
        stands."""
        k = NAMES.index(name)
        value = float(np.clip(value, -self.limits[k], self.limits[k]))
        if self.running and value != self.params[k]:
            self.params[k] = value
            self._note()

    def nudge(self, name: str, step: float = 1.0) -> None:
        """A button was pressed: one parameter by `step`."""
        self.set(name, self.params[NAMES.index(name)] + step)

    def stop(self) -> None:
        """Stop the clock; the pose is final."""
        if self.running:
            self.seconds = self.clock() - self.begun

    def _note(self):
        self.path.append([round(self.clock() - self.begun, 3), *(float(p) for p in self.params)])

    def save(self, folder, cfg) -> Path:
        """Write the stopped session to `folder` as <user>_<case>_<start>.json; atomically. Raises
        UserError."""
        if self.seconds is None:
            raise UserError("The session is still running; press stop before saving.")
        patient = self.case.patient
        target = Path(folder) / f"{self.user}_{patient.id}_{self.case.start}.json"
        write_json(
            target,
            {
                "version": VERSION,
                "user": self.user,
                "profile": cfg.profile,
                "split": cfg.split,
                "experiment": patient.experiment,
                "dataset": patient.dataset,
                "case": patient.id,
                "start": int(self.case.start),
                "initial": np.asarray(self.case.initial).tolist(),
                "centre": np.asarray(self.case.centre).tolist(),
                "pose": self.pose.tolist(),
                "path": self.path,
                "seconds": round(self.seconds, 3),
                "recorded_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
        )
        return target


def read_session(path) -> dict:
    """A recorded session. Raises UserError if the file is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        complete = value["version"] == VERSION and np.shape(value["pose"]) == (4, 4)
        complete = complete and np.shape(value["initial"]) == (4, 4) and float(value["seconds"]) >= 0
        complete = complete and np.shape(value["path"])[1:] == (7,)
        known = all(isinstance(value[name], str) for name in ("user", "experiment", "case", "profile"))
    except (OSError, ValueError, KeyError, TypeError):
        complete = known = False
    if not (complete and known):
        raise UserError(f"{path}: not a recorded session; record it again in notebook 12 or remove the file.")
    return value


def sessions(folder, cfg) -> list[dict]:
    """All recorded sessions of this profile, experiment and split, sorted by file name."""
    found = [read_session(path) for path in sorted(Path(folder).glob("*.json"))]
    wanted = (cfg.profile, cfg.experiment, cfg.split)
    return [s for s in found if (s["profile"], s["experiment"], s["split"]) == wanted]


def human_rows(recorded, cases, cfg) -> list[dict]:
    """Rows of method `human`: one for each recorded session whose case and start are among `cases`.

    A session whose start differs from the case's (the population was rebuilt otherwise) is refused:
    UserError.
    """
    from lib.cases import Result, row

    rows, known = [], {(case.id, int(case.start)): case for case in cases}
    for session in recorded:
        case = known.get((session["case"], session["start"]))
        if case is None:
            continue
        if not np.allclose(session["initial"], case.initial, atol=1e-6):
            raise UserError(
                f"The session of {session['user']} on {session['case']} began elsewhere than this case; "
                "its patients were built with other settings, so remove it or restore them."
            )
        result = Result(np.array(session["pose"]), session["seconds"], device="human")
        rows.append(row(case, "human", result, cfg) | {"note": f"user {session['user']}"})
    return rows


def is_interactive() -> bool:
    """True in a notebook front end with a person before it; not under papermill, nbval, nbconvert or a
    script."""
    if os.environ.get("MPLBACKEND", "").lower() == "agg" or os.environ.get("NBVAL") or os.environ.get("CI"):
        return False
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    if kernel is None or type(kernel).__name__ != "ZMQInteractiveShell":
        return False
    return bool(os.environ.get("JPY_SESSION_NAME")) and "PAPERMILL_OUTPUT_PATH" not in kernel.user_ns


class View:
    """What the person sees: axial, coronal and sagittal overlays and a projection through the volume."""

    def __init__(self, case, spacing: float = 3.0):
        from lib.figures import volumes
        from lib.images import volume

        patient = case.patient
        self.fixed, self.moving = (self._coarse(v, spacing, volume) for v in (patient.fixed, patient.moving))
        self.centre, self.extents = volumes.frame(self.fixed)
        self.extents = [(w + 60, h + 60) for w, h in self.extents]
        self.windows = (volumes.window_of(self.fixed), volumes.CT_WINDOW)
        self.fixed_mip = self._project(self.fixed, None)

    @staticmethod
    def _coarse(v, spacing, volume):
        return volume.resample(v, np.maximum(v.spacing, spacing))

    def _project(self, v, pose):
        """Brightest value from front to back (a coronal maximum projection), (rows, columns) at 3 mm."""
        from lib.figures import volumes

        depth = np.arange(-60, 61, 6.0)
        slices = [
            volumes.cut(v, "coronal", self.centre + [0, d, 0], self.extents[1], pose, step=3.0, fill=-3000)
            for d in depth
        ]
        return np.max(slices, axis=0)

    def draw(self, axes, pose) -> None:
        """Draw the four panels into `axes` (4,) at a pose (4, 4)."""
        from lib.figures import volumes

        for ax, plane, extent in zip(axes, volumes.PLANES, self.extents, strict=False):
            cbct = volumes.cut(self.fixed, plane, self.centre, extent, step=1.5)
            ct = volumes.cut(self.moving, plane, self.centre, extent, pose, step=1.5, fill=-3000)
            image = volumes.blend(volumes.grey(cbct, self.windows[0]), volumes.grey(ct, self.windows[1]), cbct > -985)
            ax.clear()
            volumes.draw(ax, image, plane, extent, plane)
        bone = (500.0, 900.0)
        ct, level = self._project(self.moving, pose), (self.windows[0][0] + 250, self.windows[0][1])
        image = volumes.blend(volumes.grey(self.fixed_mip, level), volumes.grey(ct, bone), self.fixed_mip > -985)
        axes[3].clear()
        volumes.draw(axes[3], image, "coronal", self.extents[1], "volume (maximum)")

    def figure(self, pose, title: str = ""):
        """A static figure of the four panels."""
        from lib.figures import volumes

        shapes = [*self.extents, self.extents[1]]
        fig, axes = volumes.new_figure(1, 4, widths=[w / max(h for _, h in shapes) for w, h in shapes], height=3.2)
        self.draw(axes[0], pose)
        fig.suptitle(title, fontsize=9)
        return fig

    def png(self, pose) -> bytes:
        """The same as PNG, for a widget."""
        import matplotlib.pyplot as plt

        buffer, fig = io.BytesIO(), self.figure(pose)
        fig.savefig(buffer, format="png", dpi=90)
        plt.close(fig)
        return buffer.getvalue()


def panel(session: Session, folder, cfg):
    """The tool on the screen: an ipywidgets box. Stop writes the session file."""
    import ipywidgets as w

    view, picture, clock = View(session.case), w.Image(format="png"), w.Label("press start")
    start, stop = (
        w.Button(description="start", button_style="success"),
        w.Button(description="stop", disabled=True),
    )
    sliders = {
        name: w.FloatSlider(
            0,
            min=-limit,
            max=limit,
            step=1,
            description=f"{name} ({unit})",
            disabled=True,
            continuous_update=False,
            layout=w.Layout(width="340px"),
        )
        for name, limit, unit in zip(NAMES, session.limits, ("mm",) * 3 + ("°",) * 3, strict=True)
    }
    buttons = []

    def redraw(_=None):
        picture.value = view.png(session.pose)
        clock.value = f"{session.elapsed:.0f} s, {max(len(session.path) - 1, 0)} moves"

    def moved(change, name):
        session.set(name, change["new"])
        redraw()

    def begin(_):
        session.start()
        start.disabled, stop.disabled = True, False
        for widget in (*sliders.values(), *buttons):
            widget.disabled = False

    def end(_):
        session.stop()
        stop.disabled = True
        for widget in (*sliders.values(), *buttons):
            widget.disabled = True
        clock.value = f"{session.seconds:.0f} s; saved as {session.save(folder, cfg).name}"

    def nudging(name, step):
        button = w.Button(description=f"{step:+.0f}", disabled=True, layout=w.Layout(width="48px"))

        def press(_):
            if session.running:  # the slider's callback moves the session
                sliders[name].value = session.params[NAMES.index(name)] + step

        button.on_click(press)
        buttons.append(button)
        return button

    rows = []
    for name, slider in sliders.items():
        slider.observe(lambda change, name=name: moved(change, name), names="value")
        rows.append(w.HBox([nudging(name, -5), nudging(name, -1), slider, nudging(name, 1), nudging(name, 5)]))
    start.on_click(begin)
    stop.on_click(end)
    redraw()
    box = w.VBox([w.HBox([start, stop, clock]), picture, *rows])
    box.parts = {"start": start, "stop": stop, "sliders": sliders, "buttons": buttons}  # for tests
    return box
