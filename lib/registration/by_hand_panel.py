"""The tool on the screen: what the desk answers to by_hand.js, and the session mode around it."""

from __future__ import annotations

import numpy as np

from lib.base.errors import UserError
from lib.registration import by_hand, by_hand_study, watch
from lib.registration.by_hand_pictures import PIXELS, VIEWS, Pictures
from lib.registration.by_hand_screen import Screen

GIVEN = {"views": VIEWS, "directions": by_hand.DIRECTIONS, "steps": by_hand.STEPS, "pixels": PIXELS}


class Desk:
    """Answers the browser's questions about one session: does what was done, and cuts the pictures once."""

    def __init__(self, session: by_hand.Session, said: str = "", finished=lambda: None):
        self.session, self.said, self.finished = session, said, finished
        patient = session.case.patient
        self.pictures = Pictures(patient.fixed, patient.moving, session.case.centre)
        self.view = None

    def answer(self, question: dict) -> tuple[dict, list[bytes]]:
        """(state, pictures): the moved CT on three planes and projected; the CBCT's too where the view has changed."""
        was_finished = self.session.seconds is not None
        try:
            for deed in question.get("do", []):
                self._do(*deed)
        except UserError as problem:  # the disk is full, the file is gone
            return {"answer": question.get("ask"), "error": str(problem)}, []
        point, zoom, turned = self._view(question.get("view") or {})
        again = (point.tolist(), zoom, turned) != self.view or ["show"] in question.get("do", [])
        self.view, half = (point.tolist(), zoom, turned), self.pictures.half / zoom
        found = self._cut("moving", point, half, turned, self.session.pose)
        found += self._cut("fixed", point, half, turned, None) if again else []
        if self.session.seconds is not None and not was_finished:
            self.finished()
        return self._state(question, point, half, turned), [np.ascontiguousarray(p).tobytes() for p in found]

    def _do(self, what: str, *words):
        session = self.session
        if what == "move":
            params, about, more = words
            session.move(params, about, bool(more))
        elif what in ("start", "undo", "reset", "stop"):
            getattr(session, what)()

    def _view(self, view: dict) -> tuple[np.ndarray, float, float]:
        point = np.array(view.get("point") or self.session.case.centre, dtype=np.float64)
        return point, float(np.clip(view.get("zoom", 1), 1, 10)), float(view.get("turned", 0))

    def _cut(self, which, point, half, turned, pose) -> list[np.ndarray]:
        return [*self.pictures.planes(which, point, pose, half), self.pictures.projection(which, turned, pose)]

    def _state(self, question, point, half, turned) -> dict:
        s = self.session
        return {
            "answer": question.get("ask"),
            "running": s.running,
            "resumed": s.before > 0,
            "finished": s.seconds is not None,
            "elapsed": s.elapsed,
            "moves": s.moves,
            "params": [float(p) for p in s.params],
            "said": self.said if s.seconds is None else "Finished: see below.",
            "point": point.tolist(),
            "centre": self.pictures.centre.tolist(),
            "half": half,
            "whole": self.pictures.half,
            "turned": turned,
        }


def panel(study: by_hand_study.Study, agent: str = "dsl"):
    """The session mode: the next case of `study` in the tool; when it is finished the errors, both walks beside each other,
    and a button for the next case. An ipywidgets box."""
    import ipywidgets as w

    box = w.VBox()

    def show(case=None):
        case = case or study.next()
        if case is None:
            box.children = [w.HTML(f"<b>{study.words()}</b> Thank you: nothing is left to do in this split.")]
            return
        session = study.session(case)
        said = study.words() + (" You stopped in mid-case: press Go on." if session.path else "")
        after = w.VBox()
        desk = Desk(session, said, lambda: finish(session, after))
        box.desk = desk  # for tests
        box.children = [Screen("by_hand", desk, GIVEN), after]

    def finish(session, after):
        more = w.Button(description="Next case", button_style="primary", disabled=study.next() is None)
        more.on_click(lambda _: show())
        again = w.Button(description="Practise this one", tooltip="a second attempt is kept, the first one counts")
        again.on_click(lambda _: show(session.case))
        try:
            study.write()
            problem = ""
        except UserError as found:  # somebody's file began elsewhere: this attempt is kept all the same
            problem = f"<br>The table was not written: {found}"
        text = w.HTML(f"<b>{by_hand_study.outcome(study, session, agent)}</b>{problem}")
        after.children = [text, w.HBox([more, again]), watch.beside(study, session, agent)]

    show()
    return box
