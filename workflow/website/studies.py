"""A page for each study, from its file and its rows: what it asks, whether it was run, who trained, who was tried on
what, and what came of it. Nothing is computed here but counts and percentiles; intervals stand in the documents' tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib import metrics
from lib.base import provenance
from lib.base.folders import ROOT
from lib.baselines.methods import label
from lib.figures.charts import EXPERIMENTS
from lib.study import listing, schema
from lib.study import rows as study_rows
from lib.tables import documents, figure4
from lib.tables.words import extract, percent, table

RANGES = {"near": "near", "full": "far"}  # as docs/words.md calls them
POPULATIONS = {
    "released": "the released agents of `results/agents/`",
    "reproduce": "the agents that `make reproduce` trains on drawn patients",
    "drawn": "drawn patients alone",
    "fresh": "drawn patients and patients grown from one real CT",
    "without_0": "drawn patients and patients grown from real CTs, those of the first fold left out",
    "without_1": "drawn patients and patients grown from real CTs, those of the second fold left out",
}
SOURCES = {
    "real_scans": "real CTs, whose CBCT is simulated but for the real pair `pancreatic_ct_cbct_001`",
    "split": "the test patients of the split: simulated, CT and CBCT",
    "untested": "simulated patients that are in no split's test",
    "real_pairs": "real CTs with a real CBCT of the same patient; the pose is a consensus, not clinical truth",
    "new": "patients made for this study: simulated, CT and CBCT",
}
SCANNERS = {
    "first": "",
    "second": ", the CBCT made by the second scanner, which never makes a training patient",
    "tuning": ", the CBCT made by the second scanner, with other settings than any test scan",
}
PLANAR = "image pairs cut from simulated test patients: the paper's 2-D problem"
ALSO = {
    "variants": ("ABLATIONS", "FUTURE"),
    "figure4": ("FIG4",),
}  # blocks of studies whose rows are not in rows/<study>.csv
GROUP = ["experiment", "range", "recipe", "change", "condition", "method"]


def pages(results: Path, root: Path = ROOT) -> dict[str, str]:
    """Page of the site -> its Markdown: `studies/index.md` and a page for each study of `configs/studies/`."""
    found = [schema.load(name, root / "configs" / "studies") for name in _names(root)]
    made = {f"studies/{study.name}.md": page(study, results, root) for study in found}
    return {"studies/index.md": _index(found, results), **made} if found else {}


def _names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "configs" / "studies").glob("*.yaml"))


def _index(found: list[schema.Study], results: Path) -> str:
    """The list of all studies."""
    lines = [(f"[{_title(s)}]({s.name}.md)", s.question, _state(s, results)) for s in found]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *(s.name for s in found), "```"])
    said = (
        "A study is a file of some ten lines: who trained, who was tried on what, by which methods. Every case leaves a row;"
        " the tables and the documents are computed from those rows."
    )
    return f"# The studies\n\n{said}\n\n{table(('study', 'what it asks', 'rows'), lines)}\n\n{toctree}\n"


def _state(study: schema.Study, results: Path) -> str:
    found = listing.state(study, results)
    return "none yet" if found == "not" else found


def _title(study: schema.Study) -> str:
    return study.name.replace("_", " ").capitalize()


def page(study: schema.Study, results: Path, root: Path = ROOT) -> str:
    """One study's page."""
    rows = study_rows.read(results, study.name)
    parts = [f"# {_title(study)}", f"**{study.question}**", _facts(study, rows, results)]
    shown = list(_read_by(study, results, root))
    if shown:
        parts.append("## As the documents show it")
    for where, block in shown:
        name = where.removesuffix(".md").removeprefix("docs/").replace("_", " ")
        parts += [f"From [{name}](../{where}), which says what it means.", block]
    if len(rows):
        said = (
            "Counts and percentiles, nothing resampled. *Right*: within 10 mm (spine, TRE) or 20 mm (heart, MME)."
            " *Near* and *far* starts: see [words](../docs/words.md)."
        )
        parts += ["## All rows, grouped", said, grouped(rows, study)]
    file = (root / "configs" / "studies" / f"{study.name}.yaml").read_text(encoding="utf-8").rstrip()
    parts += ["## Its file", f"`configs/studies/{study.name}.yaml`", f"```yaml\n{file}\n```"]
    return "\n\n".join(parts) + "\n"


def _facts(study: schema.Study, rows: pd.DataFrame, results: Path) -> str:
    """The list at the head of a page."""
    who = [f"{_population(name)}{_changed(recipe)}" for recipe in study.recipe for name in recipe.population]
    cases = dict.fromkeys(SOURCES[block.source] + SCANNERS[block.scanner] for block in study.cases)
    named = [m for block in study.cases for m in block.methods or study.methods]
    methods = dict.fromkeys(label(m.label("dsl_two_channel")) for m in named)
    lines = [("rows", _state(study, results))]
    if len(rows):
        lines.append(("saved as", f"[{study.name}.csv](../results/rows/{study.name}.csv)"))
    lines += [
        ("time", f"{listing.duration(study.cost)} on one core"),
        ("command", f"`{study.command or f'python -m lib study {study.name}'}`"),
    ]
    if study.planar:
        lines += [("who trained", "; ".join(figure4.curve(name) for name in study.planar.curves)), ("tried on", PLANAR)]
        return "\n".join(f"- *{name}*: {words}" for name, words in lines)
    lines += [
        ("who trained", "; ".join(dict.fromkeys(who)) or "nobody: no agent is tried"),
        ("tried on", "; ".join(cases)),
        ("by", "; ".join(methods)),
    ]
    conditions = [f"{condition.what}" for condition in study.conditions().values() if condition.what]
    lines += [("conditions", "; ".join(conditions))] if conditions else []
    return "\n".join(f"- *{name}*: {words}" for name, words in lines)


def _population(name: str) -> str:
    return POPULATIONS.get(name, f"`{name}`")


def _changed(recipe: schema.Recipe) -> str:
    count = len(recipe.changes) or len(recipe.samples)
    what = "changes, one at a time" if recipe.changes else "numbers of training samples"
    return f", with {count} {what}" if count else ""


def _read_by(study: schema.Study, results: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(page, block) of every generated table of README and docs that is made from the study's rows."""
    rows = f"rows/{study.name}.csv"
    for name, block in documents.BLOCKS.items():
        made = any(needed == rows or rows in _made_of(results / needed) for needed in block.needs)
        if made or name in ALSO.get(study.name, ()):
            path = root / block.file
            if path.is_file() and f"<!-- {name} -->" in (text := path.read_text(encoding="utf-8")):
                yield block.file, extract(text, name)


def _made_of(path: Path) -> set[str]:
    """The files under results/ that a table was computed from, as its provenance says."""
    beside = provenance.beside(path)
    found = json.loads(beside.read_text(encoding="utf-8")).get("inputs", {}) if beside.is_file() else {}
    return {name.removeprefix("results/") for name in found}


def grouped(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line for each experiment, range, agent, condition and method; columns that say nothing are left out."""
    said = {
        "experiment": lambda v: EXPERIMENTS[v][0],
        "range": lambda v: RANGES.get(v, v),
        "recipe": lambda v: f"`{v}`" if v else "",
        "change": lambda v: _change(v, study),
        "condition": lambda v: getattr(study.conditions().get(v), "what", v),
        "method": label,
    }
    by = [name for name in GROUP if rows[name].nunique() > 1 or name == "method"]
    lines = []
    for key, some in rows.groupby(by, sort=False):
        words = [said[name](value) for name, value in zip(by, key, strict=True)]
        p10, p50, p90 = metrics.percentiles(some["final_error_mm"])
        right = int(some["success"].sum())
        lines.append([*words, len(some), right, percent(right / len(some)), *(f"{p:.1f}" for p in (p10, p50, p90))])
    heads = {"recipe": "agents of", "range": "starts", "change": "changed"}
    numbers = ["n", "right", "share", "10th mm", "median mm", "90th mm"]
    return table([*(heads.get(name, name) for name in by), *numbers], lines)


def _change(name: str, study: schema.Study) -> str:
    if name.startswith("samples_"):
        return f"{int(name.removeprefix('samples_')):,} training samples"
    return study.changes()[name].what if name in study.changes() else name
