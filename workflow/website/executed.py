"""The notebooks of the site: executed ones where a run left them, else the committed ones, which have no results.

An executed notebook is shown only if it is whole and its source cells are those of the committed one. It is slimmed:
pictures become WebP (a quarter of the size, no banding), widgets go, whose code would be loaded from elsewhere, and of
the paths of the machine that ran it only what lies in the project stays.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT

INJECTED = "injected-parameters"  # the tag of papermill's own cell
NOT_SHOWN = ("variants", "site", "report", "slurm")  # folders of a run: its logs, and what is made of it
PICTURE, WEBP = "image/png", "image/webp"
# What a page can show without a kernel and without another host. The rest, widgets and scripts, is left out.
SHOWN = ("text/plain", "text/html", "text/markdown", "text/latex", "image/jpeg", "image/svg+xml", PICTURE, WEBP)
KEPT = ROOT / "results" / "notebooks"  # executed notebooks of profile `cpu`, slimmed, for a clone without a run
MOST_MB = 25.0
_ELSEWHERE = re.compile(r"(?<![\w./:])(?:/[\w.+-]+)+/(?=(?:results|data|lib|notebooks)/)")  # where a clone lay


class Page(NamedTuple):
    """A notebook of the site."""

    name: str  # of the page, under notebooks/: 01_data_preparation, heart/01_data_preparation
    committed: Path
    executed: Path | None  # None: no run left it
    words: str  # what it was executed on, "heart"; "" for the first, which stands under the committed name


def pages(run: Path, notebooks: Path, kept: Path | None = None) -> list[Page]:
    """A page or more for every committed notebook in a folder, in reading order; those of a notebook stand together, and
    the first has its name. `run`: the folder of a profile's run; `kept`: where else an executed notebook may be."""
    found = {**dict(_executed(kept)), **dict(_executed(run))} if kept else dict(_executed(run))
    made = []
    for committed in sorted(notebooks.glob("*.ipynb")):
        mine = [place for place in found if place.name.startswith(committed.stem)]
        mine.sort(key=lambda place: (len(place.parts), "heart" in place.parts, place.as_posix()))
        made += [_page(committed, place, found[place], not k) for k, place in enumerate(mine)]
        made += [] if mine else [Page(committed.stem, committed, None, "")]
    return made


def _executed(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(place within the run, file) of executed notebooks: of split 0, and of what is over all splits."""
    for path in folder.rglob("[0-9][0-9]_*.ipynb"):
        place = path.relative_to(folder)
        splits = [part for part in place.parts if part.startswith("split")]
        if not set(NOT_SHOWN) & set(place.parts) and splits in ([], ["split0"]) and path.name[0] != ".":
            yield place, path


def _page(committed: Path, place: Path, executed: Path, first: bool) -> Page:
    folders = [part for part in place.parts[:-1] if part not in ("split0", "transfer")]
    more = place.stem.removeprefix(committed.stem).strip("_")
    name = committed.stem if first else "/".join([*folders, place.stem])
    return Page(name, committed, executed, ", ".join(filter(None, [*folders, more])))


def read(path: Path) -> dict:
    """A notebook's JSON. Raises UserError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"{_name(path)} cannot be read ({problem}); `make reproduce` makes it again.") from None


def text(value) -> str:
    """A cell's source, or an output's: notebooks hold a string or a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def check(executed: Path, committed: Path, profile: str) -> None:
    """Raises UserError in one sentence unless the executed notebook is whole, of this profile, and of the same source."""
    found = read(executed)
    mine = [cell for cell in found["cells"] if INJECTED not in _tags(cell)]
    theirs = read(committed)["cells"]
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False), 1):
        if (one["cell_type"], text(one["source"])) != (other["cell_type"], text(other["source"])):
            raise _stale(executed, committed, f"its cell {number} differs")
    if len(mine) != len(theirs):
        raise _stale(executed, committed, f"it has {len(mine)} cells, the other {len(theirs)}")
    if not any(cell.get("outputs") for cell in mine):
        raise UserError(f"{_name(executed)} holds no results; run `make reproduce` again.")
    if any(_failed(cell) for cell in mine):
        raise UserError(
            f"{_name(executed)} did not run to its end; see its last cells, then run `make reproduce` again."
        )
    ran = found["metadata"].get("papermill", {}).get("parameters", {}).get("profile", profile)
    if ran != profile:
        raise UserError(f"{_name(executed)} was executed with profile {ran}, not {profile}; move it away.")


def _stale(executed: Path, committed: Path, how: str) -> UserError:
    return UserError(
        f"{_name(executed)} was executed from another {_name(committed)} ({how}): run `make reproduce` again, so that what"
        " the site shows is what the notebook says."
    )


def _failed(cell: dict) -> bool:
    """Whether a cell of code ended in an error that it does not announce, or never ran."""
    if cell["cell_type"] != "code" or not text(cell["source"]).strip():
        return False
    error = any(output["output_type"] == "error" for output in cell["outputs"])
    return cell.get("execution_count") is None or (error and "raises-exception" not in _tags(cell))


def has_results(notebook: Path) -> bool:
    """Whether a committed notebook holds outputs, as the one does that `make test` compares with them."""
    return any(cell.get("outputs") for cell in read(notebook)["cells"])


def slim(notebook: dict) -> dict:
    """The notebook, changed in place: without widgets and scripts, pictures as WebP, of its metadata what says how it
    ran."""
    ran = notebook["metadata"].get("papermill", {})
    kept = {name: ran[name] for name in ("parameters", "end_time") if name in ran}
    notebook["metadata"] = {"kernelspec": notebook["metadata"].get("kernelspec", {}), "papermill": kept}
    for cell in notebook["cells"]:
        cell["metadata"] = {name: cell["metadata"][name] for name in ("tags",) if name in cell["metadata"]}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in map(_slim, cell["outputs"]) if output]
    return notebook


def _slim(output: dict) -> dict | None:
    if "data" not in output:
        return {**output, "text": _ELSEWHERE.sub("", text(output["text"]))} if "text" in output else output
    data = {kind: text(value) for kind, value in output["data"].items() if kind in SHOWN}
    data |= {kind: _ELSEWHERE.sub("", value) for kind, value in data.items() if kind.startswith("text/")}
    if any("widget" in kind for kind in output["data"]) or not data:
        return None
    if PICTURE in data:
        data[WEBP] = base64.b64encode(_webp(base64.b64decode(data.pop(PICTURE)))).decode()
    if WEBP in data:
        data.pop("text/plain", None)
    return {**output, "data": data, "metadata": {}}


def _webp(picture: bytes) -> bytes:
    """The same picture, a quarter of the size."""
    made = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(made, "WEBP", quality=85, method=4)
    return made.getvalue()


def keep(run: Path, notebooks: Path, target: Path = KEPT) -> list[Path]:
    """The executed notebooks of a run of profile `cpu`, slimmed, into `results/notebooks`: what the site shows in a
    clone without a run. Those that lie there and the run has not (11 and 12, which no run needs) stay. Raises UserError
    where the run has none, one is not sound, or all are over 25 MB."""
    found = [page for page in pages(run, notebooks, target) if page.executed]
    if not any(page.executed.is_relative_to(run) for page in found):
        raise UserError(f"There is no executed notebook in {_name(run)}; run `make reproduce` first.")
    with provenance.atomic(target) as temporary:
        for page in found:
            check(page.executed, page.committed, "cpu")
            path = temporary / page.executed.relative_to(run if page.executed.is_relative_to(run) else target)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(slim(read(page.executed)), indent=1) + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in temporary.rglob("*.ipynb")) / 1e6
        if size > MOST_MB:
            raise UserError(f"The executed notebooks take {size:.0f} MB; {MOST_MB:.0f} are the most that is committed.")
    return sorted(target.rglob("*.ipynb"))


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def _name(path: Path) -> str:
    """As a person would name it: from the project's folder, where it lies there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
