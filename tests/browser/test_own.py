"""Notebook 11 in a real browser: the walk is watched, and a pair of one's own is chosen. One test follows the other."""

import statistics

import pytest
from lab import data, differ, knob, pixels, screen, spread, wait

OWN = "11_register_your_own"


def go(lab, walk, tick: int) -> None:
    walk.locator("input[type=range]").first.fill(str(tick))
    wait(lab, lambda: data(walk, "tick") == tick)


def glow(lab, walk, canvas, tick: int) -> list[bool]:
    """Where a picture changes with *where it looks*."""
    go(lab, walk, tick)
    seen = []
    for _ in range(2):
        seen.append(pixels(canvas))
        answers = data(walk, "answers")
        knob(walk, "where it looks").click()
        wait(lab, lambda n=answers: data(walk, "answers") > n)
    return [abs(a - b) > 20 for a, b in zip(*seen, strict=True)]


def test_the_agents_walk_is_scrubbed_and_played(lab, shots):
    lab.open(OWN)
    lab.run_all(400)
    lab.run_all(400)
    assert "No file chosen: the simulated patient" in lab.said() and "verdict:" in lab.said()
    walk = lab.find(".walk")
    wait(lab, lambda: walk.get_attribute("data-answers"))
    last = int(walk.locator("input[type=range]").first.get_attribute("max"))
    canvases = [walk.locator(f"canvas.{name}") for name in ("axial", "coronal", "sagittal", "curve", "values")]
    first = [pixels(c) for c in canvases]
    assert all(spread(picture) > 20 for picture in first[:3])
    go(lab, walk, last)
    for before, canvas in zip(first, canvases, strict=True):
        assert differ(before, pixels(canvas)) > 0.001
    lab.page.screenshot(path=shots / "own_end.png")
    walk.locator("input[type=range]").first.press("ArrowLeft")  # a key that JupyterLab has, too
    wait(lab, lambda: data(walk, "tick") == last - 1)
    walk.locator('button[title="play"]').click()
    wait(lab, lambda: data(walk, "tick") == last)  # it plays to the end, and from the end once more
    walk.locator('button[title="play"]').click()
    wait(lab, lambda: data(walk, "tick") < last / 2)
    wait(lab, lambda: data(walk, "tick") > min(20, last / 2))
    walk.locator('button[title="play"]').click()
    taken = data(walk, "ms")[-20:]
    print(f"\nplaying: {statistics.median(taken):.0f} ms a step, of it {data(walk, 'kernel'):.0f} in the kernel")


def test_where_it_looks_moves_with_the_walk(lab, shots):
    walk = lab.find(".walk")
    last = int(walk.locator("input[type=range]").first.get_attribute("max"))
    maps = [glow(lab, walk, walk.locator("canvas.axial"), tick) for tick in (0, last)]
    assert all(sum(where) > 0.01 * len(where) for where in maps)
    assert sum(a != b for a, b in zip(*maps, strict=True)) > 0.002 * len(maps[0])
    knob(walk, "where it looks").check()
    lab.page.wait_for_timeout(500)
    lab.page.screenshot(path=shots / "own_attention.png")


def test_a_click_in_niivue_moves_its_other_planes(lab, shots):
    view = lab.find(".jp-OutputArea-output canvas:not(.walk canvas)")
    wait(lab, lambda: spread(sum(screen(lab, view), [])) > 20, 60)
    before, box = screen(lab, view), view.bounding_box()
    lab.page.screenshot(path=shots / "own_niivue.png")
    view.click(position={"x": 0.12 * box["width"], "y": 0.4 * box["height"]})
    half = len(before[0]) // 2

    def right(rows):
        return sum((row[half:] for row in rows), [])

    wait(lab, lambda: differ(right(before), right(screen(lab, view))) > 0.002, 30)
    lab.page.screenshot(path=shots / "own_niivue_clicked.png")


def choose(lab, title: str, name: str) -> None:
    """Choose the file `name` of the person's home in the chooser of this title."""
    box = lab.find(f'.widget-vbox:has-text("{title}")')
    box.get_by_role("button", name="Select").click()
    box.locator(".widget-select select").select_option(label=name)
    wait(lab, lambda: box.locator(".widget-text input").input_value() == name)
    box.get_by_role("button", name="Select").click()
    wait(lab, lambda: box.get_by_role("button", name="Change").count())


def test_files_are_chosen_and_a_missing_one_is_asked_for(lab, shots):
    if not (lab.folder / "home" / "ct.nii.gz").exists():
        pytest.skip("no smoke run here: `make test-browser` does one")
    choose(lab, "Your cone-beam CT", "cbct.nii.gz")
    lab.run_cell("live.chosen")
    asked = lab.page.get_by_text("The CT is missing: choose a file for it above")
    wait(lab, lambda: asked.count())
    choose(lab, "Your CT", "ct.nii.gz")
    lab.page.screenshot(path=shots / "own_chosen.png")
    lab.run_all(400)  # what was chosen stays chosen
    said = lab.said()
    assert "No file chosen" not in said and "your images carry no truth" in said and "verdict:" in said
    assert not lab.page.failures
