"""The site, from README, docs, studies, figures and notebooks: pages are gathered, Sphinx renders them, the result is
checked. Any fault ends in one sentence, and the site that stood there before stays.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT
from workflow.website import check, executed, pages, studies
from workflow.website.links import FRONT, Links, as_page, target_page

HERE = Path(__file__).parent
# The order of the documents in the table of contents; one that is not named stands at the end.
PARTS = {
    "Findings": ("read", "docs/claims", "docs/table1", "docs/real_scans", "docs/ablations", "studies/index", "figures"),
    "Use it": (
        "docs/register",
        "docs/inputs",
        "docs/by_hand",
        "results/agents/MODEL_CARD",
        "results/agents/DATA_SHEET",
    ),
    "Notebooks": (),
    "Behind it": (
        "docs/at_first",
        "docs/deviations",
        "docs/history",
        "docs/develop",
        "docs/scaling",
        "docs/words",
        "data",
    ),
}


# Where the numbers of notebooks stand that `make reproduce` does not execute.
NUMBERS = {
    "07_real_scans": "[real scans](../docs/real_scans.md)",
    "09_dsl_versus_drl": "[the claims](../docs/claims.md), C6",
    "11_register_your_own": "[the command](../docs/register.md)",
    "12_registration_by_hand": "[registration by hand](../docs/by_hand.md)",
}


def build(run: Path, profile: str, out: Path, root: Path = ROOT) -> dict:
    """The site in the folder `out`, of what stands in `root` and of the executed notebooks in the folder `run`.

    Returns how many notebooks are shown with results (`executed`), the names of those without (`missing`) and the size
    (`mb`). Raises UserError, and leaves `out` as it was.
    """
    with tempfile.TemporaryDirectory(prefix="site-") as temporary:
        source = Path(temporary) / "source"
        shown = gather(source, run, profile, root)
        html = Path(temporary) / "html"  # not at its place: Sphinx leaves folders beside it
        render(source, html)
        wrong = check.problems(html)
        if wrong:
            raise UserError(_first(wrong))
        with provenance.atomic(out) as made:
            shutil.copytree(html, made)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return {**shown, "mb": size}


def _first(wrong: list[str]) -> str:
    more = f" ({len(wrong) - 1} more faults like it)" if len(wrong) > 1 else ""
    return f"The site was not built: {wrong[0].rstrip('.')}{more}."


def gather(source: Path, run: Path, profile: str, root: Path = ROOT) -> dict:
    """Every page as Sphinx reads it, in the folder `source`; returns what is executed and what is missing."""
    links, results = Links(root), root / "results"
    kept = results / "notebooks" if profile == "cpu" else None
    books = executed.pages(run, root / "notebooks", kept)
    ran = sum(page.executed is not None for page in books)
    missing = [page.name for page in books if not page.executed and not executed.has_results(page.committed)]
    documents = [*sorted((root / "docs").glob("*.md")), *sorted(results.glob("agents/*.md"))]
    names = {path.relative_to(root).as_posix(): path for path in documents}
    texts = {name: links.rewritten(path.read_text(encoding="utf-8"), name) for name, path in names.items()}
    made = studies.pages(results, root)
    made["figures.md"] = pages.figures(results / "figures", root / "docs")
    made["read.md"] = pages.how_to_read(profile, ran, missing)
    made["data.md"] = pages.whose_data()
    toctree = _toctree({*texts, *made}, books)
    front = links.rewritten((root / FRONT).read_text(encoding="utf-8"), FRONT)
    made["index.md"] = pages.front(front, toctree)
    for name, text in made.items():
        links.needs(text, name)
    for page in books:
        _write(source / f"notebooks/{page.name}.ipynb", json.dumps(_notebook(page, books, profile, links, source)))
    for name, text in {**texts, **made}.items():
        _write(source / name, text)
    for name in sorted(links.code):
        _write(source / target_page(name), as_page(name, (root / name).read_text(encoding="utf-8")))
    for name in sorted(links.copied):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, source / name)
    return {"executed": ran, "missing": missing}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _toctree(names: set[str], books: list[executed.Page]) -> str:
    """The table of contents: every page that there is, in the order of `PARTS`."""
    there = {name.removesuffix(".md") for name in names if "studies/" not in name or name == "studies/index.md"}
    parts = {title: [name for name in some if name in there] for title, some in PARTS.items()}
    parts["Notebooks"] = [f"notebooks/{page.name}" for page in books if not _under(page, books)]
    parts["Behind it"] += sorted(there - {name for some in parts.values() for name in some})
    return "\n".join(
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *some, "```", ""])
        for title, some in parts.items()
        if some
    )


def _under(page: executed.Page, books: list[executed.Page]) -> str:
    """The name of the page under which this one stands; "" for the first of its notebook."""
    first = next(book for book in books if book.committed == page.committed)
    return "" if first == page else first.name


def _notebook(page: executed.Page, books: list[executed.Page], profile: str, links: Links, source: Path) -> dict:
    """A notebook as the site shows it: how it was executed at its top, links of the site, pictures as files."""
    if page.executed:
        executed.check(page.executed, page.committed, profile)
    found = executed.slim(executed.read(page.executed or page.committed))
    where, name = f"notebooks/{page.committed.name}", f"notebooks/{page.name}.ipynb"
    heading = ""
    for cell in found["cells"]:
        text = executed.text(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = links.rewritten(text, where, name)
            heading = next(iter(re.findall(r"^#+ (.+)", text, re.M)), heading)
        else:
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
            _pictures_as_files(cell, heading, source / "notebooks", posixpath.dirname(name))
    title = executed.text(found["cells"][0]["source"])
    head, _, rest = title.partition("\n")
    suffix = f" ({page.words})" if _under(page, books) else ""
    found["cells"][0]["source"] = f"{head}{suffix}\n\n{_how(page, books, profile, found)}\n{rest}"
    return found


def _how(page: executed.Page, books: list[executed.Page], profile: str, notebook: dict) -> str:
    """How the notebook was executed, where else it was, and a smoke run's warning."""
    if page.executed is None and any(cell.get("outputs") for cell in notebook["cells"]):
        return (
            "```{note}\nIts results are committed with it, and `make test` compares them. Code is folded away.\n```\n"
        )
    if page.executed is None:
        numbers = f" What came of it: {NUMBERS[page.name]}." if page.name in NUMBERS else ""
        return (
            f"```{{admonition}} Not executed here\n:class: warning\nText and code, no results.{numbers}"
            " In a clone, `make reproduce` executes what the tables need, and `make lab` opens any notebook.\n```\n"
        )
    when = notebook["metadata"]["papermill"].get("end_time", "")[:10]
    on = f" on {page.words}" if page.words else ""
    lines = [f"Executed{on} with profile `{profile}`{', ' + when if when else ''}. Code is folded away."]
    if profile == "smoke":
        lines.append("**A smoke run: toy sizes, its numbers and pictures mean nothing.**")
    elif page.executed.parent.name in (profile, executed.KEPT.name):  # over all splits that this run had
        lines.append(
            "It counts the cases of that one run (n), with agents trained for it; [the claims](../docs/claims.md) count those "
            "of all splits, and Table 1's `dsl` was [trained otherwise](../docs/at_first.md#the-papers-agent)."
        )
    others = [book for book in books if book.committed == page.committed and book != page]
    folder = posixpath.dirname(page.name) or "."
    named = [f"[{book.words}]({os.path.relpath(book.name, folder)}.ipynb)" for book in others]
    lines += [f"The same notebook elsewhere: {', '.join(named)}."] if named else []
    tree = [os.path.relpath(book.name, folder) for book in others] if not _under(page, books) else []
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *tree, "```"]) if tree else ""
    kind = "warning" if profile == "smoke" else "note"
    return "\n".join([f"```{{admonition}} Executed\n:class: {kind}", " ".join(lines), "```", "", toctree, ""])


def _pictures_as_files(cell: dict, heading: str, folder: Path, beside: str) -> None:
    """Pictures of a cell's outputs as files in `folder`/pictures, which the output then shows by their heading."""
    for output in cell["outputs"]:
        if executed.WEBP in output.get("data", {}):
            content = base64.b64decode(output["data"].pop(executed.WEBP))
            name = f"{hashlib.sha256(content).hexdigest()[:16]}.webp"
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            (folder / "pictures" / name).write_bytes(content)
            path = os.path.relpath(f"notebooks/pictures/{name}", beside)
            words = re.sub(r"[\[\]]", "", heading)
            output["data"] = {"text/markdown": f"![{words}]({path})"}


def render(source: Path, made: Path) -> None:
    """Sphinx, with warnings as errors. Raises UserError with the first of them."""
    words = ["-b", "html", "-q", "-W", "--keep-going", "-E", "-c", str(HERE), "-d", str(source.parent / "trees")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "sphinx", *words, str(source), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.search(r"WARNING|ERROR|rror:", line)]
        lines = [re.sub(r"\x1b\[[\d;]*m", "", line).replace(f"{source}/", "") for line in lines]
        raise UserError(_first(lines or [f"Sphinx ended with status {done.returncode}: {done.stderr[-300:]}"]))
    for path in (
        made / ".buildinfo",
        made / "objects.inv",
        *made.glob("_static/*.html"),
        *made.rglob("*.map"),
    ):  # no reader needs them
        path.unlink(missing_ok=True)
