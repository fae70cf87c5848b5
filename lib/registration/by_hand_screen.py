"""A front end in the browser and the desk in the kernel that answers it.

anywidget, because it is here already (NiiVue's own widget stands on it), needs no build step, and lets the browser do
what needs no kernel: colours, window and level, blend, clock. The kernel cuts slices and keeps paths; slices travel as
bytes. The browser asks for one picture at a time, and what is done meanwhile goes with the next question.
"""

from __future__ import annotations

import time
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent


class Screen(anywidget.AnyWidget):
    """The widget whose front end is `<name>.js`. `desk.answer(question)` gives (state, buffers); `given` is what the front
    end must know before it asks."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode((HERE / "overlay.css").read_text(encoding="utf-8")).tag(sync=True)
    given = traitlets.Dict().tag(sync=True)

    def __init__(self, name: str, desk, given: dict):
        script = "".join((HERE / f"{part}.js").read_text(encoding="utf-8") for part in ("overlay", name))
        super().__init__(_esm=script, given=given)
        self.desk = desk
        self.on_msg(lambda _, question, buffers: self._answer(question))

    def _answer(self, question: dict) -> None:
        """Send what the desk says, and how long it took."""
        begun = time.perf_counter()
        state, pictures = self.desk.answer(question)
        self.send(state | {"kernel_ms": round(1000 * (time.perf_counter() - begun), 1)}, pictures)
