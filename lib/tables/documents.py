"""What README.md and docs/ show of results/: every generated block, by one registry; written and compared.

A block stands between `<!-- NAME -->` and `<!-- /NAME -->` in the file that `BLOCKS` names; a sentence on a variant stands
between `<!-- v:NAME -->` and `<!-- / -->`, in any page; so do the counts of verdicts. `python -m lib tables documents` fills all of them.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.baselines.methods import OURS
from lib.study import rows as study_rows
from lib.tables import ablations, evidence, facts
from lib.tables.rows import beyond_reach
from lib.tables.words import extract, inject, percent


class Block(NamedTuple):
    """Where a block stands, the files of results/ that it needs, and the function (folder) -> Markdown that makes it."""

    file: str
    needs: tuple[str, ...]
    made_by: str  # module:function


BLOCKS = {
    "TABLE1": Block("README.md", ("table1.csv",), "lib.tables.documents:table1"),
    "TABLE1_TODAY": Block("docs/table1.md", ("table1_today.csv",), "lib.tables.documents:today"),
    "CLAIMS": Block("docs/claims.md", ("claims.csv",), "lib.tables.documents:claims"),
    "EXTENSIONS": Block("docs/claims.md", ("claims.csv",), "lib.tables.documents:extensions"),
    "AT_FIRST": Block(
        "docs/at_first.md",
        ("rows/papers_agent.csv", "rows/with_additions.csv", "rows/mirrored.csv"),
        "lib.tables.at_first:papers_agent",
    ),
    "QUASI_GLOBAL": Block("docs/table1.md", ("rows/quasi_global.csv",), "lib.tables.registration:quasi_global"),
    "HEARTS": Block("docs/at_first.md", ("table1.csv",), "lib.tables.at_first:hearts"),
    "HEARTS_TURNED": Block("docs/claims.md", ("cases.csv",), "lib.tables.at_first:hearts_turned"),
    "EQ5": Block("docs/at_first.md", ("theory.json",), "lib.tables.at_first:eq5"),
    "EQ5_TRAINED": Block("docs/at_first.md", ("rows/eq5.csv",), "lib.tables.at_first:eq5_trained"),
    "FIG4": Block("docs/claims.md", ("fig4.csv",), "lib.tables.figure4:block"),
    "TABLE_REAL": Block("docs/real_scans.md", ("table_real.csv",), "lib.tables.documents:real_scans"),
    "CARRIES_OVER": Block("docs/real_scans.md", ("transfer.csv",), "lib.tables.documents:carries_over"),
    "ORGANS_MOVED": Block(
        "docs/real_scans.md",
        ("rows/beyond_training.csv", "rows/organs_moved.csv"),
        "lib.tables.registration:with_organs_moved",
    ),
    "SECOND_SCANNER": Block(
        "docs/real_scans.md", ("rows/second_scanner.csv",), "lib.tables.registration:through_the_second_scanner"
    ),
    "EVERY_LEVEL": Block("docs/real_scans.md", ("rows/every_level.csv",), "lib.tables.levels:at_every_level"),
    "WIDER_TRAINING": Block("docs/real_scans.md", ("rows/wider_training.csv",), "lib.tables.levels:wider_training"),
    "WHICH_TO_RELEASE": Block(
        "docs/real_scans.md",
        ("rows/which_to_release.csv", "rows/every_level.csv"),
        "lib.tables.levels:which_to_release",
    ),
    "REAL_PAIRS": Block("docs/real_scans.md", ("rows/real_pairs.csv",), "lib.tables.registration:real_pairs"),
    "FAR_AND_NARROW": Block("docs/register.md", ("rows/far_and_narrow.csv",), "lib.tables.registration:far_and_narrow"),
    "HEADER_SLIPS": Block("docs/register.md", ("rows/header_slips.csv",), "lib.tables.registration:header_slips"),
    "REGISTER_PAIR": Block("docs/register.md", ("rows/register_pair.csv",), "lib.tables.registration:on_the_pair"),
    "REGISTER_REAL": Block("docs/register.md", ("rows/register_real.csv",), "lib.tables.registration:on_real_scans"),
    "TRUST_SPINE": Block(
        "docs/register.md", ("rows/trust_calibration.csv", "agents/spine/trust.json"), "lib.tables.calibration:block"
    ),
    "JUDGED_SPINE": Block(
        "docs/register.md",
        ("rows/judged_calibration.csv", "agents/spine/judged.json"),
        "lib.tables.calibration:judged_block",
    ),
    "JUDGED_HEART": Block(
        "docs/register.md",
        ("rows/heart_calibration.csv", "agents/heart/judged.json"),
        "lib.tables.calibration:heart_block",
    ),
    "ABLATIONS": Block("docs/ablations.md", ("cases.csv",), "lib.tables.documents:changed"),
    "PAPERS_CHANGES": Block(
        "docs/ablations.md", ("cases.csv", "rows/papers_changes.csv"), "lib.tables.documents:of_the_paper"
    ),
    "FUTURE": Block("docs/ablations.md", ("cases.csv",), "lib.tables.documents:future"),
}
SENTENCE = re.compile(r"<!-- v:(\w+) -->(.*?)<!-- / -->", re.S)


def table1(folder: Path) -> str:
    """The paper's Table 1, with ours on simulated patients."""
    from lib.tables import table1 as made

    return made.markdown(made.virtual(pd.read_csv(folder / "table1.csv")))


def today(folder: Path) -> str:
    """Registration tools of today on the same cases, and pose regression."""
    from lib.tables import table1 as made

    lines = made.virtual(pd.read_csv(folder / "table1_today.csv"))
    return made.markdown(made.with_regression(lines, study_rows.read(folder, "pose_regression")), paper=False)


def claims(folder: Path) -> str:
    """Claim by claim: the lines on the paper, of its method and its rivals."""
    return _lines_about(folder, "paper", "rivals")


def extensions(folder: Path) -> str:
    """The lines on our extension."""
    return _lines_about(folder, "extension")


def _lines_about(folder: Path, *what: str) -> str:
    from lib.tables import claims as made

    table = pd.read_csv(folder / "claims.csv")
    return made.markdown(table[table["about"].isin(what)])


def verdicts(folder: Path) -> str:
    """How many lines of the claims have which verdict."""
    from lib.tables import claims as made

    there = (folder / "claims.csv").exists()
    return made.counted(pd.read_csv(folder / "claims.csv")) if there else "not judged yet (`make claims`)"


def real_scans(folder: Path) -> str:
    """Real scans, a line a scan."""
    from lib.tables import real

    return real.markdown(pd.read_csv(folder / "table_real.csv"), real.SHOWN)


def carries_over(folder: Path) -> str:
    """What carries over to real scans, a line a population of training patients."""
    from lib.tables import transfer

    return transfer.markdown(pd.read_csv(folder / "transfer.csv"))


def changed(folder: Path) -> str:
    """One thing changed at a time."""
    return ablations.markdown(ablations.parts(_variants(folder))[0])


def future(folder: Path) -> str:
    """The authors' future work."""
    return ablations.markdown(ablations.parts(_variants(folder))[1])


def of_the_paper(folder: Path) -> str:
    """One thing changed in the paper's own agent."""
    return ablations.of_the_paper(evidence.load(folder))


def _variants(folder: Path) -> pd.DataFrame:
    """The table of the variants; it takes seconds, and three things are made of it."""
    return _table_of(folder, (folder / "cases.csv").stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _table_of(folder: Path, _changed_at: int) -> pd.DataFrame:
    return ablations.table(evidence.load(folder))


def beyond(rows: pd.DataFrame) -> str:
    """How many starts of E1 200 steps cannot undo, and what becomes of them: success there and elsewhere."""
    found = beyond_reach(rows[rows["experiment"] == "spine"])
    if found.empty:
        return "not measured yet (`make reproduce`)"
    start = found[found["method"] == "initial"].iloc[0]
    said = [
        f"`{line['method']}` ends within 10 mm from {percent(line['success_beyond'])} of them and from "
        f"{percent(line['success_within'])} of the others"
        for line in found[found["method"].isin(OURS)].to_dict("records")
    ]
    share = percent(start["beyond"] / start["n"])
    return "; ".join([f"{start['beyond']} of {start['n']} test starts of E1 ({share}) lie beyond", *said])


def blocks(folder) -> dict[str, str]:
    """Marker -> Markdown, of every block whose tables are in `folder`."""
    folder, made = Path(folder), {}
    for name, block in BLOCKS.items():
        if all((folder / needed).exists() for needed in block.needs):
            module, function = block.made_by.split(":")
            made[name] = getattr(importlib.import_module(module), function)(folder).strip()
    return made


def sentence(folder: Path, name: str, made: pd.DataFrame | None = None) -> str:
    """What stands at `<!-- v:name -->`: a variant, a fact, `beyond` or `verdicts`. Raises UserError for another name."""
    known = (*ablations.KNOWN, *facts.FACTS, "beyond", "verdicts")
    if name not in known:
        raise UserError(f"v:{name} is no variant and no fact; use one of {', '.join(known)}.")
    if name in facts.FACTS:
        return facts.FACTS[name](folder)
    if name == "verdicts":
        return verdicts(folder)
    if name == "beyond":
        return beyond(evidence.load(folder).rows)
    return ablations.sentence(_variants(folder) if made is None else made, name)


def pages(root: Path = ROOT) -> list[Path]:
    """README.md and every page of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def filled(folder, root: Path = ROOT) -> Iterator[tuple[Path, str, str]]:
    """(page, its text, the text with every block and sentence as `folder` gives them). Raises UserError for a marker that
    is missing."""
    folder, made, variants = Path(folder), blocks(folder), None
    for page in pages(root):
        text = new = page.read_text(encoding="utf-8")
        for name, block in BLOCKS.items():
            if name in made and root / block.file == page:
                new = inject(new, name, made[name])
        for name in {found[1] for found in SENTENCE.finditer(new)}:
            variants = _variants(folder) if variants is None else variants
            said = sentence(folder, name, variants)
            new = re.sub(
                rf"<!-- v:{name} -->.*?<!-- / -->",
                lambda _, n=name, s=said: f"<!-- v:{n} -->{s}<!-- / -->",
                new,
                flags=re.S,
            )
        yield page, text, new


def write(folder, root: Path = ROOT) -> list[Path]:
    """Fill every page; returns those that changed."""
    changed_pages = []
    for page, text, new in filled(folder, root):
        if new != text:
            with provenance.atomic(page) as temporary:
                temporary.write_text(new, encoding="utf-8")
            changed_pages.append(page)
    return changed_pages


def verify(folder, root: Path = ROOT) -> list[str]:
    """Sentences on blocks that are not what `folder` gives, and on markers in no registry. Empty: all agree."""
    wrong = []
    for page, text, new in filled(folder, root):
        names = [name for name, block in BLOCKS.items() if root / block.file == page]
        shown = page.relative_to(root)
        wrong += [
            f"{shown}: the block {n} is not what the results give" for n in names if extract(text, n) != extract(new, n)
        ]
        said = zip(SENTENCE.findall(text), SENTENCE.findall(new), strict=True)
        wrong += [f"{shown}: the sentence v:{a[0]} is not what the results give" for a, b in said if a != b]
        unknown = set(re.findall(r"^<!-- ([A-Z_0-9]+) -->.*?<!-- /\1 -->", text, re.M | re.S)) - set(names)
        wrong += [f"{shown}: nobody fills the block {n}" for n in sorted(unknown)]
    return wrong
