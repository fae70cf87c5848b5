"""What a finished site must keep: every link and picture is there, and nothing is loaded from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

WIDGET = "application/vnd.jupyter.widget"
_FOREIGN = re.compile(r"^\s*(https?:)?//", re.I)
_CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])\s*((?:https?:)?//[^'")\s]+)""", re.I)
_LOADED = {"src", "srcset", "poster", "data"}  # attributes that make a browser load something by itself


class _Reader(HTMLParser):
    """What one page loads and links to, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {""}

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            value = value or ""
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name == "href":
                known = tag == "link" and ("rel", "canonical") not in attributes
                (self.loads if known else self.links).append(value)
            elif name == "style":
                self.loads += _CSS.findall(value)
            elif name in _LOADED and not value.startswith("data:"):
                self.loads.append(value)


def problems(folder: Path) -> list[str]:
    """Sentences on what is wrong with the pages in a folder. Empty: nothing."""
    read = {path: _read(path) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in read.items():
        name = path.relative_to(folder)
        for target in page.loads:
            if _FOREIGN.match(target):
                found.append(f"{name} loads {target} from another host; the site must stand alone.")
            elif not _there(path, target, folder):
                found.append(f"{name} shows {target}, which is not there.")
        found += [
            f"{name} links to {target}, which is not there." for target in page.links if _dead(path, target, read)
        ]
        if WIDGET in path.read_text(encoding="utf-8"):
            found.append(f"{name} holds a widget, which would load its code from another host.")
    for path in sorted(folder.rglob("*.css")):
        for target in _CSS.findall(path.read_text(encoding="utf-8", errors="replace")):
            found.append(f"{path.relative_to(folder)} loads {target} from another host; the site must stand alone.")
    return found


def _read(path: Path) -> _Reader:
    page = _Reader()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _there(page: Path, target: str, folder: Path) -> bool:
    name = unquote(re.split("[?#]", target)[0])
    return not name or (page.parent / name).resolve().is_relative_to(folder.resolve()) and (page.parent / name).exists()


def _dead(page: Path, target: str, read: dict[Path, _Reader]) -> bool:
    """Whether a link leads nowhere; what leads to another host is the reader's to follow."""
    if re.match(r"^([a-z]+:|//)", target, re.I):
        return False
    name, _, anchor = unquote(target).partition("#")
    path = (page.parent / name.split("?")[0]).resolve() if name else page
    found = next((reader for other, reader in read.items() if other.resolve() == path), None)
    return anchor not in found.anchors if found else not path.exists()
