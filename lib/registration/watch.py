"""Watching a registration in a live notebook: a slider along the steps, and both volumes in NiiVue."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lib import rigid
from lib.images.pair import resample_moving
from lib.images.volume import Volume, write
from lib.registration import report
from lib.registration.by_hand import is_interactive

__all__ = ["is_interactive", "niivue", "scrubber"]


def scrubber(fixed: Volume, moving: Volume, result):
    """A slider over the steps of a `register.Registration`, with its overlay and parameters below."""
    import ipywidgets as widgets
    import matplotlib.pyplot as plt
    from IPython.display import display

    slider = widgets.IntSlider(0, 0, len(result.trajectory) - 1, description="step", continuous_update=False)
    output = widgets.Output()

    def show(_=None):
        pose = result.trajectory[slider.value]
        values = rigid.matrix_to_params(rigid.centred(pose, result.centre))
        with output:
            output.clear_output(wait=True)
            figure = report.overlay_figure(fixed, moving, {f"step {slider.value}": pose}, result.centre)
            display(figure)
            plt.close(figure)
            print(", ".join(f"{name} {value:+.1f}" for name, value in zip(report.NAMES, values, strict=True)))

    slider.observe(show, names="value")
    show()
    return widgets.VBox([slider, output])


def niivue(fixed: Volume, moving: Volume, result, height: int = 400):
    """The CBCT with the registered CT over it in NiiVue, the patient's right on the left as in every figure here;
    the files stand in a temporary folder."""
    from ipyniivue import NiiVue

    folder = Path(tempfile.mkdtemp(prefix="niivue-"))
    write(fixed, folder / "cbct.nii.gz")
    write(resample_moving(fixed, moving, result.pose), folder / "ct_moved.nii.gz")
    view = NiiVue(height=height, is_radiological_convention=True, sagittal_nose_left=True)
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
