"""JupyterLab as people use it, in a real browser: `make test-browser`. Screenshots go to .test/browser/."""

import csv
import json
import os
import shutil
import statistics
from pathlib import Path

import pytest

sync = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs what drives a browser")
from lab import CHROMIUM, FLAGS, ROOT, Lab, differ, jupyter, pixels, spread  # noqa: E402

if not Path(CHROMIUM).exists():
    pytest.skip("no Chromium here: tests/browser/install.sh installs Debian's", allow_module_level=True)

SHOTS = ROOT / ".test" / "browser"
PYTHON = os.environ.get("STUDY_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
BY_HAND, OWN = "12_registration_by_hand", "11_register_your_own"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with jupyter(folder, PYTHON) as address, sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1050})
        page.failures = []
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        yield Lab(page, address, folder)
        browser.close()


def data(tool, name):
    return json.loads(tool.get_attribute(f"data-{name}"))


def wait(lab, true, seconds=20):
    for _ in range(int(seconds * 10)):
        if true():
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError("nothing happened")


def press(tool, title):
    tool.locator(f'button[title="{title}"]').click()


def knob(tool, label):
    return tool.get_by_label(label, exact=True)


def begin(lab):
    """The tool of notebook 12, its picture there."""
    tool = lab.find(".by-hand")
    wait(lab, lambda: tool.get_attribute("data-answers"))
    return tool


def table(lab):
    file = lab.folder / "results" / "runs" / "smoke" / "spine" / "split0" / "cases_human.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def test_a_person_aligns_a_case(lab):
    lab.open(BY_HAND)
    lab.run_all()
    lab.run_all()  # twice in one kernel
    tool = begin(lab)
    views = {name: tool.locator(f"canvas.{name}") for name in ("axial", "coronal", "sagittal", "volume")}
    for name, canvas in views.items():
        assert spread(pixels(canvas)) > 20, f"the {name} view is uniform"
    before = {name: pixels(canvas) for name, canvas in views.items()}
    assert tool.locator('button[title="tz +"]').is_disabled()  # the clock stands: nothing moves
    press(tool, "start the clock")
    wait(lab, lambda: data(tool, "running"))
    knob(tool, "step (mm, °)").select_option("20")
    press(tool, "tz +")
    wait(lab, lambda: data(tool, "moves") == 1)
    for name in ("axial", "coronal", "sagittal", "volume"):
        assert differ(before[name], pixels(views[name])) > 0.02, f"the {name} view did not change"
    lab.page.screenshot(path=SHOTS / "by_hand.png")


def test_ten_quick_clicks_do_not_queue_ten_pictures(lab):
    tool = begin(lab)
    answers, moves = data(tool, "answers"), data(tool, "moves")
    knob(tool, "step (mm, °)").select_option("1")
    tool.locator('button[title="tx +"]').evaluate("b => { for (let k = 0; k < 10; k++) b.click(); }")
    wait(lab, lambda: data(tool, "moves") == moves + 10)
    assert data(tool, "answers") - answers <= 3
    press(tool, "take the last move back (z)")
    wait(lab, lambda: "+9.0 mm" in tool.locator(".value").first.text_content())


def test_colours_window_and_zoom(lab):
    tool = begin(lab)
    axial, answers = tool.locator("canvas.axial"), data(tool, "answers")
    seen = {"blend": pixels(axial)}
    for mode in ("checkerboard", "difference", "CBCT", "CT"):
        knob(tool, "show").select_option(mode)
        seen[mode] = pixels(axial)
        assert all(differ(seen[mode], other) > 0.02 for name, other in seen.items() if name != mode), mode
        lab.page.screenshot(path=SHOTS / f"by_hand_{mode}.png")
    knob(tool, "show").select_option("blend")
    red, green, blue = (sum(seen["blend"][k::3]) for k in range(3))
    assert red > 0 and blue > 0 and abs(green - (red + blue) / 2) < 0.05 * green  # both images read
    knob(tool, "CT level").fill("600")
    assert differ(seen["blend"], pixels(axial)) > 0.05
    assert data(tool, "answers") == answers  # all of it without asking the kernel
    knob(tool, "CT level").fill("150")
    knob(tool, "zoom").fill("3")
    wait(lab, lambda: data(tool, "answers") > answers)
    assert differ(seen["blend"], pixels(axial)) > 0.1
    lab.page.screenshot(path=SHOTS / "by_hand_zoom.png")
    knob(tool, "zoom").fill("1")
    wait(lab, lambda: data(tool, "answers") > answers + 1)


def drag(lab, canvas, dx, dy, keys=()):
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4
    for key in keys:
        lab.page.keyboard.down(key)
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    for k in range(1, 6):
        lab.page.mouse.move(x + dx * k / 5, y + dy * k / 5)
        lab.page.wait_for_timeout(30)
    lab.page.mouse.up()
    for key in keys:
        lab.page.keyboard.up(key)


def shown(tool):
    return [float(t.split()[0].replace("−", "-")) for t in tool.locator(".value").all_text_contents()]


def test_dragging_the_wheel_and_the_crosshair(lab):
    tool = begin(lab)
    coronal, sagittal = tool.locator("canvas.coronal"), tool.locator("canvas.sagittal")
    coronal.scroll_into_view_if_needed()
    first, moves = shown(tool), data(tool, "moves")
    drag(lab, coronal, 40, -30)
    wait(lab, lambda: data(tool, "moves") > moves)
    lab.page.wait_for_timeout(800)
    change = [b - a for a, b in zip(first, shown(tool), strict=True)]
    assert change[0] > 5 and change[2] > 5 and abs(change[1]) < 0.1  # to the right is to L, up is to H
    drag(lab, coronal, 0, 60, ("Shift",))
    lab.page.wait_for_timeout(800)
    assert abs(shown(tool)[4] - first[4]) > 1
    for _ in range(2):
        press(tool, "take the last move back (z)")
    lab.page.wait_for_timeout(800)
    assert shown(tool) == first  # a drag is undone as one
    picture, answers = pixels(coronal), data(tool, "answers")
    coronal.hover()
    lab.page.mouse.wheel(0, -400)
    wait(lab, lambda: data(tool, "answers") > answers)
    assert differ(picture, pixels(coronal)) > 0.001
    picture, answers = pixels(sagittal), data(tool, "answers")
    coronal.click(position={"x": 60, "y": 100})
    wait(lab, lambda: data(tool, "answers") > answers)
    assert differ(picture, pixels(sagittal)) > 0.02  # the crosshair links the views


def test_a_restart_in_mid_case_loses_nothing(lab):
    tool = begin(lab)
    moves, where = data(tool, "moves"), shown(tool)
    assert moves > 10
    lab.restart_and_run_all()
    tool = begin(lab)
    assert data(tool, "moves") == moves and shown(tool) == where
    assert "stopped in mid-case" in tool.locator(".said").text_content()
    lab.page.screenshot(path=SHOTS / "by_hand_resumed.png")
    press(tool, "start the clock")
    wait(lab, lambda: data(tool, "running"))


def test_a_nudge_is_on_the_screen_in_time(lab):
    tool = begin(lab)
    kernel = []
    for k in range(20):
        moves = data(tool, "moves")
        press(tool, "ty +" if k % 2 else "ty −")
        wait(lab, lambda moves=moves: data(tool, "moves") > moves)
        kernel.append(data(tool, "kernel"))
    taken = data(tool, "ms")[-20:]
    print(
        f"\nnudge: {statistics.median(taken):.0f} ms to the picture, of it {statistics.median(kernel):.0f} in the kernel"
    )
    assert statistics.median(taken) < 1000  # a loaded machine's; docs/by_hand.md has an idle one's


def test_a_case_is_finished_and_its_row_is_there(lab):
    tool, rows = begin(lab), len(table(lab))
    for _ in range(2):
        press(tool, "stop the clock: this is your answer")
        lab.page.wait_for_timeout(300)
    wait(lab, lambda: len(table(lab)) == rows + 1)
    assert table(lab)[-1]["method"] == "human" and "user anonymous" in table(lab)[-1]["note"]
    walk = lab.find(".walk")
    assert "You:" in lab.page.locator(".widget-html", has_text="You:").first.text_content()
    wait(lab, lambda: walk.get_attribute("data-answers"))
    for canvas in walk.locator(".pictures canvas").all():
        assert spread(pixels(canvas)) > 20
    walk.locator("input[type=range]").first.fill("200")
    lab.page.wait_for_timeout(1000)
    lab.page.screenshot(path=SHOTS / "by_hand_after.png")
    lab.page.locator("button", has_text="Next case").click()
    lab.page.wait_for_timeout(3000)
    assert "1 of 2 cases done" in begin(lab).locator(".said").text_content()


def test_the_agents_walk_is_scrubbed_and_played(lab):
    lab.open(OWN)
    lab.run_all(400)
    lab.run_all(400)
    walk = lab.find(".walk")
    wait(lab, lambda: walk.get_attribute("data-answers"))
    axial, slider = walk.locator("canvas.axial"), walk.locator("input[type=range]").first
    chart, values = walk.locator("canvas.curve"), walk.locator("canvas.values")
    first = [pixels(c) for c in (axial, chart, values)]
    assert spread(first[0]) > 20
    slider.fill(slider.get_attribute("max"))
    wait(lab, lambda: data(walk, "tick") == int(slider.get_attribute("max")))
    for before, canvas in zip(first, (axial, chart, values), strict=True):
        assert differ(before, pixels(canvas)) > 0.001
    lab.page.screenshot(path=SHOTS / "own_end.png")
    picture, answers = pixels(axial), data(walk, "answers")
    knob(walk, "where it looks").check()
    wait(lab, lambda: data(walk, "answers") > answers)
    assert differ(picture, pixels(axial)) > 0.01
    lab.page.screenshot(path=SHOTS / "own_attention.png")
    walk.locator('button[title="play"]').click()
    wait(lab, lambda: data(walk, "tick") < 50)
    wait(lab, lambda: data(walk, "tick") > 20)
    walk.locator('button[title="play"]').click()
    taken = data(walk, "ms")[-20:]
    print(f"\nplaying: {statistics.median(taken):.0f} ms a step, of it {data(walk, 'kernel'):.0f} in the kernel")
    assert lab.page.locator(".filepicker, .widget-html", has_text="Your cone-beam CT").count() or lab.find(
        ".jupyter-widgets"
    )
    assert not lab.page.failures


def test_a_closed_kernel_is_told(lab):
    lab.open(BY_HAND)
    lab.run_all()
    tool = begin(lab)
    lab.menu("Kernel", "Shut Down Kernel")
    lab.page.wait_for_timeout(2000)
    knob(tool, "zoom").fill("2")
    wait(lab, lambda: "does not answer" in tool.locator(".said").text_content(), 30)


def teardown_module():
    shutil.rmtree(ROOT / "tests" / "browser" / ".pytest_cache", ignore_errors=True)
