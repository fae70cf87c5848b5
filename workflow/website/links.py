"""Links that work in the repository work in the site: the site keeps the repository's folders, with two exceptions.

README.md is the front page, and a linked file that is neither a page, nor a notebook, nor a picture becomes a page with
its text under code/. A link to what is not there is an error here, before anything is rendered.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from lib.base.errors import UserError

FRONT = "README.md"
PICTURES = (".png", ".gif", ".jpg", ".svg", ".webp")
DATA = (".csv", ".json")  # offered as they are, to be saved
PAGES = (".md", ".ipynb")
# What a link or a picture may look like; code is skipped, for it may hold brackets of its own.
_CODE = r"(?P<code>(?P<fence>^ *```+).*?^ *(?P=fence) *$|(?P<tick>`+)(?!`).*?(?P=tick)(?!`))"
_LINK = re.compile(_CODE + r"""|(?P<before>\]\(|\bsrc=")(?P<target>[^)\s"]+)(?P<after>[)"])""", re.M | re.S)
_ELSEWHERE = re.compile(r"^([a-z]+:|//)")


class Links:
    """Rewrites the links of pages; keeps in mind which files the site needs beside its pages."""

    def __init__(self, root: Path):
        self.root = root
        self.copied: set[str] = set()  # pictures and data, by their path in the repository
        self.code: set[str] = set()  # files that become pages of text

    def rewritten(self, markdown: str, where: str, page: str | None = None) -> str:
        """The Markdown of the file `where` (path in the repository) for the site's page `page`, by default the one it
        becomes. Raises UserError for a link to nothing."""
        page = page or target_page(where)

        def one(found: re.Match) -> str:
            if found["code"] or _ELSEWHERE.match(found["target"]) or found["target"].startswith("#"):
                return found[0]
            return found["before"] + self._target(found["target"], where, page) + found["after"]

        return _LINK.sub(one, markdown)

    def needs(self, markdown: str, page: str) -> None:
        """The pictures and data that a page of the site itself shows, whose links are already the site's."""
        for found in _LINK.finditer(markdown):
            if found["target"] and found["target"].endswith(PICTURES + DATA):
                path = posixpath.normpath(posixpath.join(posixpath.dirname(page), found["target"]))
                if not (self.root / path).is_file():
                    raise UserError(f"{page} shows {path}, and there is no such file; make it, or take the link away.")
                self.copied.add(path)

    def _target(self, target: str, where: str, page: str) -> str:
        name, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(where), name))
        if not (self.root / path).is_file():
            raise UserError(f"{where} links to {target}, and there is no such file; mend the link, or make the file.")
        if path.endswith(PICTURES + DATA):
            self.copied.add(path)
        elif not path.endswith(PAGES):
            self.code.add(path)
        return os.path.relpath(target_page(path), posixpath.dirname(page) or ".") + hash_ + anchor


def target_page(path: str) -> str:
    """Where a file of the repository stands in the site's source."""
    if path == FRONT:
        return "index.md"
    return path if path.endswith(PAGES + PICTURES + DATA) else f"code/{path}.md"


def as_page(path: str, text: str) -> str:
    """A page with the text of a file."""
    fence = "`" * (3 + max([len(run) for run in re.findall("`{3,}", text)], default=0))
    kind = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml"}.get(posixpath.splitext(path)[1], "text")
    return f"---\norphan: true\n---\n\n# `{path}`\n\n{fence}{kind}\n{text.rstrip()}\n{fence}\n"
