"""The web site in a real browser, from its files, at the width of a laptop and of a phone."""

import os
import subprocess

import pytest
from lab import PYTHON, ROOT

PHONE, LAPTOP = 390, 1280


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as `make site` builds it."""
    out = tmp_path_factory.mktemp("site") / "site"
    words = [PYTHON, "-m", "workflow.website", "--out", str(out)]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    return out


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_pages_fit_and_load_nothing_from_elsewhere(site, browser, width):
    asked, wide = [], []
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.on("request", lambda request: asked.append(request.url))
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(path.name)
        assert page.evaluate("[...document.images].every(i => !i.complete || i.naturalWidth > 0)"), path.name
    page.close()
    assert wide == [] and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len(asked) > 100


def test_search_finds_a_word_without_a_server(site, browser):
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=saliency")
    page.wait_for_selector("#search-results li a", timeout=20000)
    assert page.locator("#search-results li a").count() >= 3
    page.close()
