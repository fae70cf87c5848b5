"""Walks in a live notebook, to scrub through and to play: pictures, curves, action values and saliency in step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lib import rigid
from lib.images.pair import Likeness, shrink
from lib.images.volume import Volume, to_sitk
from lib.registration.by_hand import NAMES
from lib.registration.by_hand_pictures import NONE, VIEWS, Pictures

PIXELS = 192  # along each side of a picture
MAPS = 24  # saliency maps along a walk: at these steps, evenly spread
POINTS = 60  # of the likeness curve


@dataclass
class Attention:
    """Saliency maps (k, w, w, w) [k, j, i] of the coarse window along a walk, at `steps` (k,)."""

    steps: np.ndarray
    maps: np.ndarray
    centre: np.ndarray  # (3,) of the window, fixed world mm
    voxel: float  # mm

    def nearest(self, step: int) -> int:
        """Which of the maps is nearest to a step."""
        return int(np.argmin(np.abs(self.steps - step)))

    def volume(self, which: int) -> Volume:
        """A map placed in the fixed world: 0 at its 95th percentile, 255 at its largest value."""
        chosen = self.maps[which]
        low, high = np.quantile(chosen, 0.95), chosen.max()
        array = torch.as_tensor(255.0 * (chosen - low) / max(high - low, 1e-12)).clamp(min=0).float()
        corner = self.centre - self.voxel * (len(chosen) - 1) / 2
        return Volume(array, (self.voxel,) * 3, corner)


class WalkDesk:
    """Answers the browser's questions about walks {name: world poses (n, 4, 4)} of one pair; tick t of `ticks` is the same
    share of each walk."""

    def __init__(self, fixed: Volume, moving: Volume, centre, walks: dict, looked: Attention | None = None):
        self.walks, self.looked, self.centre = walks, looked, np.asarray(centre, dtype=np.float64)
        lengths = [len(poses) - 1 for poses in walks.values()]
        self.ticks = lengths[0] if len(lengths) == 1 else 200
        self.pictures, self.point = Pictures(fixed, moving, centre), None

    def step(self, name: str, tick: int) -> int:
        """The step of a walk at a tick."""
        return round(tick / max(self.ticks, 1) * (len(self.walks[name]) - 1))

    def answer(self, question: dict) -> tuple[dict, list[bytes]]:
        """(state, pictures): three planes of each moved CT, the CBCT's where the crosshair has moved, the saliency's."""
        view = question.get("view") or {}
        point, tick = view.get("point") or self.centre.tolist(), int(np.clip(view.get("tick", 0), 0, self.ticks))
        again, self.point = point != self.point or ["show"] in question.get("do", []), point
        steps = {name: self.step(name, tick) for name in self.walks}
        found = [
            picture
            for name, step in steps.items()
            for picture in self.pictures.planes("moving", point, self.walks[name][step], pixels=PIXELS)
        ]
        found += self.pictures.planes("fixed", point, pixels=PIXELS) if again else []
        last = list(steps)[-1]
        if self.looked is not None and view.get("attention"):
            found += self._heat(point, steps[last])
        state = {
            "answer": question.get("ask"),
            "again": again,
            "point": list(point),
            "centre": self.centre.tolist(),
            "half": self.pictures.half,
            "step": steps[last],
            "label": f"step {steps[last]} of {len(self.walks[last]) - 1}",
            "words": [self._words(name, step) for name, step in steps.items()],
        }
        return state, [np.ascontiguousarray(p).tobytes() for p in found]

    def _words(self, name: str, step: int) -> str:
        """The six parameters at a step, about the centre, from the walk's beginning."""
        turned = self.walks[name][step] @ rigid.invert(self.walks[name][0])
        values = rigid.matrix_to_params(rigid.centred(turned, self.centre))
        units = ("mm",) * 3 + ("°",) * 3
        said = [f"{n} {v:+.1f} {u}" for n, v, u in zip(NAMES, values, units, strict=True)]
        return f"step {step}, from its start {', '.join(said)}"

    def _heat(self, point, step: int) -> list[np.ndarray]:
        name = f"heat {self.looked.nearest(step)}"
        if name not in self.pictures.images:
            self.pictures.images[name] = to_sitk(self.looked.volume(self.looked.nearest(step)), np.int16)
        planes = self.pictures.planes(name, point, pixels=PIXELS)
        return [np.where(plane == NONE, 0, plane).astype(np.int16) for plane in planes]


def scrubber(fixed: Volume, moving: Volume, result, truth=None, experiment: str = "spine", player=None):
    """A slider and a play button along the steps of a `register.Registration`: three planes, the likeness (and, where the
    `truth` is known, the error), the twelve action values, and where the agent `player` looks."""
    looked = attention(fixed, moving, result, player) if player is not None else None
    desk = WalkDesk(fixed, moving, result.centre, {"the agent": result.trajectory}, looked)
    return screen(desk, curves(fixed, moving, result, truth, experiment), result.values)


def screen(desk: WalkDesk, lines: list[dict], values=None):
    """The widget of a desk: `lines` are curves, `values` (steps, 12) the action values of the last walk."""
    from lib.registration.by_hand_screen import Screen

    given = {
        "views": VIEWS,
        "pixels": PIXELS,
        "names": list(desk.walks),
        "ticks": desk.ticks,
        "curves": lines,
        "values": [] if values is None else np.round(values, 4).tolist(),
        "actions": list(rigid.ACTION_NAMES),
        "attention": [] if desk.looked is None else desk.looked.steps.tolist(),
    }
    return Screen("watch", desk, given)


def curves(fixed: Volume, moving: Volume, result, truth=None, experiment: str = "spine") -> list[dict]:
    """What the scrubber draws: the images' likeness at up to `POINTS` steps, and the error where the truth is known."""
    from lib.rigid import displacement

    path = result.trajectory
    steps = np.unique(np.linspace(0, len(path) - 1, POINTS).round().astype(int))
    alike = Likeness(shrink(fixed, 2.0, True), shrink(moving, 2.0, False), result.centre, experiment == "spine")
    found = [
        _curve("likeness (-1 to 1)", "", steps / max(len(path) - 1, 1), np.nan_to_num(alike(path[steps]), nan=0.0))
    ]
    if truth is not None:
        errors = [float(displacement(truth, pose, result.centre)) for pose in path]
        found.insert(0, _curve("error (mm)", "mm", np.linspace(0, 1, len(path)), errors))
    return found


def _curve(name: str, unit: str, at, y) -> dict:
    return {"name": name, "unit": unit, "at": np.round(at, 4).tolist(), "y": np.round(y, 4).tolist()}


def attention(fixed: Volume, moving: Volume, result, player, working_mm: float = 2.0) -> Attention:
    """Where the coarse network of `player` looks, at `MAPS` steps of a `register.Registration`."""
    from lib import saliency
    from lib.agent import Windows

    steps = np.unique(np.linspace(0, len(result.trajectory) - 1, MAPS).round().astype(int))
    sources = [player.coarse.source_of(shrink(v, working_mm, c), c) for v, c in ((fixed, True), (moving, False))]
    same = [0] * len(steps)
    windows = Windows(player.coarse, [sources[0]], [sources[1]], np.tile(result.centre, (len(steps), 1)), same, same)
    maps = saliency.maps(windows, result.trajectory[steps], player.coarse)
    return Attention(steps, maps, np.asarray(result.centre), player.coarse.voxel)


def beside(study, session, agent: str = "dsl"):
    """A finished `by_hand.Session` and the agent's walk from the same start, beside each other, with their errors."""
    from lib import cases
    from lib.registration import by_hand, by_hand_study

    case = session.case
    walks = {"you": by_hand.pose_at(case, np.array(session.path)[:, 1:])}
    walked = by_hand_study.agent_walk(study.run, case, agent)
    if walked is not None:
        walks[f"the agent ({agent})"] = walked
    lines = []
    for name, poses in walks.items():
        some = np.unique(np.linspace(0, len(poses) - 1, POINTS).round().astype(int))
        errors = [cases.error(case, pose) for pose in poses[some]]
        lines.append(_curve(f"{name} (mm)", "mm", some / max(len(poses) - 1, 1), errors))
    return screen(WalkDesk(case.patient.fixed, case.patient.moving, case.centre, walks), lines)
