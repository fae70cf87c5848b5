"""JupyterLab and a browser for tests: started here, on copies of the notebooks and in a results folder of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("STUDY_PYTHON", str(ROOT / ".venv" / "bin" / "python"))  # has JupyterLab and the study
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE = float(os.environ.get("PATIENCE", 1))  # a machine that is busy with other things needs more
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


@contextlib.contextmanager
def jupyter(folder: Path, python: str):
    """JupyterLab serving copies of the notebooks in `folder`; gives its address and its process. Results go to
    folder/results; the person's home is folder/home, where a CT and a cone-beam CT lie."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    data, home = Path(os.environ.get("DATA_DIR", ROOT / ".test" / "data")), folder / "home"
    home.mkdir()
    for name in ("cbct.nii.gz", "ct.nii.gz"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(data / "smoke" / "virtual_spine" / "virtual_spine_000" / name, home / name)
    kept = Path(os.environ.get("RESULTS_DIR", ROOT / ".test" / "results"))
    if (kept / "runs").exists():
        shutil.copytree(kept / "runs", folder / "results" / "runs", ignore=shutil.ignore_patterns("*.log"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "NBVAL", "MPLBACKEND")}
    env |= {
        "PYTHONPATH": str(ROOT),
        "RESULTS_DIR": str(folder / "results"),
        "DATA_DIR": str(data),
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(_settings(folder)),
        "OMP_NUM_THREADS": "1",
    }
    words = [python, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    words += [
        "--expose-app-in-browser",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        f"--notebook-dir={folder / 'notebooks'}",
    ]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(words, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, server)
            yield address, server
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _settings(folder: Path) -> Path:
    """JupyterLab asks nobody about news, and fetches none."""
    file = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return folder / "settings"


def _wait(address: str, server, seconds: float = 90):
    end = time.time() + PATIENCE * seconds
    while time.time() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api/status", timeout=2)
            return
        time.sleep(0.5)
    raise RuntimeError("JupyterLab did not start; see lab.log.")


NOTEBOOK = "window.jupyterapp.shell.currentWidget"
IDLE = f"() => {NOTEBOOK}?.sessionContext?.session?.kernel?.status === 'idle'"
RAN = f"""() => {{ const cells = {NOTEBOOK}.content.widgets.filter(c => c.model.type === 'code').map(c => c.model);
  const failed = m => Array.from({{ length: m.outputs.length }}, (_, k) => m.outputs.get(k).type).includes('error');
  return cells.every(m => m.executionState === 'idle') && (cells.every(m => m.executionCount !== null) || cells.some(failed)); }}"""


class Lab:
    """A notebook open in JupyterLab: what a person does with it."""

    def __init__(self, page, address: str, folder: Path, server=None):
        self.page, self.address, self.folder, self.server = page, address, folder, server

    def open(self, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        self.name = name
        self.page.goto(f"{self.address}/lab/tree/{name}.ipynb?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000 * PATIENCE)
        self.page.wait_for_function(IDLE, timeout=60_000 * PATIENCE, polling=500)

    def menu(self, *words: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.click(f'.lm-MenuBar-itemLabel:text-is("{words[0]}")')
        self.page.click(f'.lm-Menu-itemLabel:text-is("{words[1]}")')

    def run_all(self, seconds: float = 240) -> None:
        """Run > Run All Cells, to the end. Raises AssertionError where a cell fails."""
        self.menu("Run", "Run All Cells")
        self.ran(seconds)
        assert not self.errors(), self.errors()

    def restart_and_run_all(self, seconds: float = 240) -> None:
        """Kernel > Restart Kernel and Run All Cells…"""
        self.menu("Kernel", "Restart Kernel and Run All Cells…")
        self.page.click(".jp-Dialog button.jp-mod-accept")
        self.ran(seconds)
        assert not self.errors(), self.errors()

    def ran(self, seconds: float) -> None:
        """Wait until the cells are waiting, and then until every code cell has run."""
        self.page.wait_for_function(f"() => !({RAN})()", timeout=90_000 * PATIENCE, polling=100)
        self.page.wait_for_function(RAN, timeout=1000 * seconds * PATIENCE, polling=500)
        self.page.wait_for_timeout(500)

    def run_cell(self, words: str) -> None:
        """Shift+Enter in the cell of code that holds these words."""
        self.find(f'.jp-CodeCell:has-text("{words}")').locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def outputs(self) -> list[dict]:
        """All outputs of the notebook, which is saved for it."""
        path = self.folder / "notebooks" / f"{self.name}.ipynb"
        before, kept = path.stat().st_mtime_ns, None
        self.page.keyboard.press("Control+s")
        for _ in range(int(15 * PATIENCE)):  # nothing is written where nothing changed
            self.page.wait_for_timeout(200)
            with contextlib.suppress(ValueError):  # half of it is there
                kept = [out for cell in json.loads(path.read_text())["cells"] for out in cell.get("outputs", [])]
                if path.stat().st_mtime_ns != before:
                    break
        return kept

    def errors(self) -> list[str]:
        """What failed, from the notebook as saved."""
        return [f"{out['ename']}: {out['evalue']}" for out in self.outputs() if out["output_type"] == "error"]

    def said(self) -> str:
        """All that the notebook printed, from the notebook as saved."""
        return "\n".join("".join(out["text"]) for out in self.outputs() if out["output_type"] == "stream")

    def find(self, selector: str):
        """The element, scrolled into view: JupyterLab attaches only the cells that are in sight."""
        panel = self.page.locator(".jp-WindowedPanel-outer").first
        panel.evaluate("e => e.scrollTop = 0")
        for _ in range(60):
            found = self.page.locator(selector)
            if found.count() and found.first.is_visible():
                found.first.scroll_into_view_if_needed()
                return found.first
            panel.evaluate("e => e.scrollTop += 500")
            self.page.wait_for_timeout(250)
        raise AssertionError(f"{selector} is not on the page")


# What a tool says of itself, for tests: it writes it into its own attributes.


def data(tool, name):
    """The value of `data-<name>`."""
    return json.loads(tool.get_attribute(f"data-{name}"))


def press(tool, title: str) -> None:
    """The button with this title."""
    tool.locator(f'button[title="{title}"]').click()


def knob(tool, label: str):
    """The slider, list or box with this label."""
    return tool.get_by_label(label, exact=True)


def wait(lab: Lab, true, seconds: float = 20) -> None:
    """Until `true()`. Raises AssertionError after `seconds`."""
    for _ in range(int(seconds * 10 * PATIENCE)):
        if true():
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError("nothing happened")


PIXELS = """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const out = []; for (let i = 0; i < d.length; i += 16) out.push(d[i], d[i + 1], d[i + 2]); return out; }"""


def pixels(canvas) -> list[int]:
    """Every fourth pixel of a canvas."""
    return canvas.evaluate(PIXELS)


def spread(values: list[int]) -> float:
    """Standard deviation: 0 for a uniform picture."""
    mean = sum(values) / len(values)
    return (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


def differ(first: list[int], second: list[int]) -> float:
    """Share of pixels that differ clearly."""
    return sum(abs(a - b) > 20 for a, b in zip(first, second, strict=True)) / len(first)


SHOT = """async text => { const i = new Image(); i.src = 'data:image/png;base64,' + text; await i.decode();
  const c = document.createElement('canvas'); c.width = i.width; c.height = i.height;
  const g = c.getContext('2d'); g.drawImage(i, 0, 0);
  const d = g.getImageData(0, 0, c.width, c.height).data, n = (size) => [...Array(size >> 1).keys()];
  return n(c.height).map(y => n(c.width).map(x => d[8 * (y * c.width + x)])); }"""


def screen(lab: Lab, element) -> list[list[int]]:
    """Red of every second pixel of what a person sees of an element, row by row: for canvases of WebGL."""
    return lab.page.evaluate(SHOT, base64.b64encode(element.screenshot()).decode())
