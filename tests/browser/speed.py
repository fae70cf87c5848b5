"""How fast a nudge and a step of a walk are on the screen: a table for docs/by_hand.md.

    tests/browser/.venv/bin/python tests/browser/speed.py PYTHON

A pair of 128^3 voxels in a notebook of its own, 40 presses and 40 steps of a walk, medians in milliseconds: from the press until the
picture is drawn, and what the kernel takes of it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from lab import CHROMIUM, FLAGS, Lab, jupyter
from playwright.sync_api import sync_playwright

CELL = """
from types import SimpleNamespace
import numpy as np, torch
from lib import rigid
from lib.images.volume import Volume
from lib.registration import by_hand, by_hand_panel, by_hand_screen, watch
torch.set_num_threads(1)
v = Volume(torch.randn(128, 128, 128) * 200, (1.8,) * 3, (-115,) * 3)
case = SimpleNamespace(patient=SimpleNamespace(fixed=v, moving=v), initial=np.eye(4), centre=v.centre)
walk = np.stack([rigid.about(rigid.params_to_matrix([k / 4, 0, 0, 0, 0, k / 4]), v.centre) for k in range(101)])
display(by_hand_screen.Screen("by_hand", by_hand_panel.Desk(by_hand.Session(case, "speed")), by_hand_panel.GIVEN))
display(watch.screen(watch.WalkDesk(v, v, v.centre, {"one walk": walk}), [], np.random.rand(100, 12)))
display(watch.screen(watch.WalkDesk(v, v, v.centre, {"you": walk, "the agent": walk}), []))
"""


def notebook(folder: Path) -> None:
    """The cell above as `speed.ipynb`."""
    cell = {"cell_type": "code", "execution_count": None, "id": "speed", "metadata": {}, "outputs": [], "source": CELL}
    kernel = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    value = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "notebooks" / "speed.ipynb").write_text(json.dumps(value))


def timed(lab: Lab, tool, deed, n: int = 40) -> tuple[float, float]:
    """Medians (to the picture, in the kernel) of `n` deeds, one after the other."""
    screen, kernel = [], []
    for k in range(n):
        before = tool.get_attribute("data-answers")
        deed(k)
        for _ in range(400):
            if tool.get_attribute("data-answers") != before:
                break
            lab.page.wait_for_timeout(10)
        screen.append(json.loads(tool.get_attribute("data-ms"))[-1])
        kernel.append(float(tool.get_attribute("data-kernel")))
    return statistics.median(screen), statistics.median(kernel)


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as name, jupyter(Path(name), python) as (address, _), sync_playwright() as play:
        notebook(Path(name))
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        lab = Lab(browser.new_page(viewport={"width": 1500, "height": 1050}), address, Path(name))
        lab.open("speed")
        lab.run_all()
        tool = lab.find(".by-hand")
        tool.locator("button", has_text="Start").click()
        lab.page.wait_for_timeout(1000)
        press = [tool.locator(f'button[title="{title}"]') for title in ("rz +", "rz −")]
        print("| 128^3 voxels, medians | until the picture is there | of it in the kernel |\n|---|---|---|")
        line = "| {} | {:.0f} ms | {:.0f} ms |"
        print(line.format("a nudge: three planes, volume view", *timed(lab, tool, lambda k: press[k % 2].click())))
        for number, words in enumerate(("a step of one walk", "a step of two walks beside each other")):
            walk = lab.page.locator(".walk").nth(number)
            walk.scroll_into_view_if_needed()
            slider = walk.locator("input[type=range]").first
            taken = timed(lab, walk, lambda k, s=slider: s.fill(str(k + 1)))
            print(line.format(f"{words}: three planes each", *taken))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
