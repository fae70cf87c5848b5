"""A figure that a notebook shows exactly once, whether it is a cell's last value, saved, or neither."""

from __future__ import annotations

import io
import sys

from matplotlib.figure import Figure


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class ShownOnce(Figure):
    """Jupyter shows open figures at the end of a cell and again where one is the cell's value; here only
    once."""

    _shown = False

    def _ipython_display_(self):
        if self._shown:
            return
        self._shown = True
        from IPython.display import Image, display

        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100)
        display(Image(data=stream.getvalue(), format="png"))
