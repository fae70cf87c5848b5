"""What a live notebook adds to a registration: a chooser of files, progress that moves, both volumes in NiiVue."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from pathlib import Path

from lib.base.errors import UserError
from lib.images.pair import resample_moving
from lib.images.volume import Volume, write
from lib.registration.by_hand import is_interactive


@contextlib.contextmanager
def progress(player, settings):
    """While an agent walks inside, a bar that moves with its steps (in a live notebook; else one line at the end).

    Each step is one look through a network; paths that go round for ever are not walked to the end, so a bar may end
    early."""
    if player is None:  # the search alone
        yield
        return
    total = settings.coarse_steps + (settings.fine_steps if player.fine else 0)
    bar, count = None, [0]
    if is_interactive():
        import ipywidgets
        from IPython.display import display

        bar = ipywidgets.IntProgress(0, 0, total, description="walking")
        display(bar)

    def looked(*_):
        count[0] += 1
        if bar is not None:
            bar.value = count[0]

    models = [stage.model for stage in (player.coarse, player.fine) if stage is not None]
    hooks = [model.register_forward_hook(looked) for model in models]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if bar is not None:
            bar.value, bar.description = total, "done"
        else:
            print(f"the agent looked {count[0]} times")


_CHOSEN: dict[str, str] = {}  # title of a chooser -> the file chosen there, as long as this kernel lives


def chooser(title: str):
    """A chooser of a file on the machine that runs the kernel; of a DICOM folder, any slice does. One that is made again
    (*Run All*) holds what was chosen under its title."""
    from ipyfilechooser import FileChooser

    kept = Path(_CHOSEN.get(title, ""))
    where = {"path": str(Path.home())}
    if kept.is_file():
        where = {"path": str(kept.parent), "filename": kept.name, "select_default": True}
    made = FileChooser(title=title, **where)
    made.register_callback(lambda box: _CHOSEN.update({title: box.selected}))
    return made


def chosen(paths: tuple[str, str], choosers=()) -> tuple[str, str] | None:
    """(CBCT, CT): the parameters, else what was chosen; None where neither was given, for the simulated patient. Raises
    UserError where only one of the two was."""
    both = [
        path or (c.selected or "" if c is not None else "")
        for path, c in zip(paths, choosers or (None, None), strict=True)
    ]
    if not any(both):
        return None
    for path, name in zip(both, ("cone-beam CT", "CT"), strict=True):
        if not path:
            raise UserError(
                f"The {name} is missing: choose a file for it above, or write its path into the parameters."
            )
    return both[0], both[1]


def niivue(fixed: Volume, moving: Volume, result, height: int = 400):
    """The CBCT with the registered CT over it in NiiVue, the patient's right on the left as in every figure here; its
    crosshair is one line and links the planes. The files stand in a temporary folder, until this kernel ends."""
    from ipyniivue import NiiVue

    folder = Path(tempfile.mkdtemp(prefix="niivue-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write(fixed, folder / "cbct.nii.gz")
    write(resample_moving(fixed, moving, result.pose), folder / "ct_moved.nii.gz")
    view = NiiVue(height=height, is_radiological_convention=True, sagittal_nose_left=True)
    view.opts.crosshair_width_unit, view.opts.crosshair_width = "mm", 0.7
    view.load_volumes(
        [
            {"path": str(folder / "cbct.nii.gz"), "colormap": "gray"},
            {
                "path": str(folder / "ct_moved.nii.gz"),
                "colormap": "blue",
                "opacity": 0.5,
                "cal_min": -300.0,
                "cal_max": 600.0,
            },  # HU: W 900 L 150
        ]
    )
    return view
