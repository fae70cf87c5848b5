"""A browser before JupyterLab, one for all tests of a file."""

from pathlib import Path

import pytest
from lab import CHROMIUM, FLAGS, PATIENCE, PYTHON, ROOT, Lab, jupyter

SHOTS = ROOT / ".test" / "browser"


@pytest.fixture(scope="session")
def driver():
    """What drives a browser; skipped where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs what drives a browser")
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium here: tests/browser/install.sh installs Debian's")
    with sync.sync_playwright() as play:
        yield play


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots go."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS


@pytest.fixture(scope="session")
def browser(driver):
    """Debian's Chromium, without a window."""
    opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """JupyterLab in a window of a laptop's size; what a script raised is in `page.failures`."""
    folder = tmp_path_factory.mktemp("lab")
    with jupyter(folder, PYTHON) as (address, server):
        page = browser.new_page(viewport={"width": 1500, "height": 1050})
        page.set_default_timeout(30_000 * PATIENCE)
        page.failures = []
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        yield Lab(page, address, folder, server)
        page.close()
