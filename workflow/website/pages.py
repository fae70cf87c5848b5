"""Pages that the site has and the repository has not: how to read it, whose data it shows, and all figures."""

from __future__ import annotations

import re
from pathlib import Path

from lib.base.errors import UserError
from lib.patients.scans import manifest
from lib.tables.words import table

PATIENTS = "(*simulated* unless marked REAL)"
CAPTIONS = {  # of figures that no document shows; the others are captioned there
    "capture_range_heart": "Capture range of each method, heart, simulated patients",
    "errors": "Final errors of every case, simulated patients",
    "figure1_virtual_spine": "How alike right and one vertebra off look (the paper's Figure 1): a simulated patient",
    "figure5_heart": "Difference images before and after registration, heart, a simulated patient",
    "patients_cbct_heart": f"Cone-beam CTs, heart {PATIENTS}",
    "patients_cbct_spine": f"Cone-beam CTs, spine {PATIENTS}",
    "patients_ct_heart": f"CTs, heart {PATIENTS}",
    "agent_walks_home": "The agent walks home on the real pair: real CT, real cone-beam CT",
}
_SHOWN = re.compile(r"!\[([^\]]+)\]\(\.\./results/figures/([\w.-]+)\.\w+\)")
_REAL = re.compile(r"^(real_(?P<experiment>spine|heart)|figure1)_(?P<scan>.+?)(?P<worst>_worst)?$")


def how_to_read(profile: str, executed: int, missing: list[str]) -> str:
    """The page that says whose data and whose scanner this is, and what was executed."""
    text = (Path(__file__).parent / "read.md").read_text(encoding="utf-8")
    return text.replace("{{ notebooks }}", notebooks_said(profile, executed, missing))


def notebooks_said(profile: str, executed: int, missing: list[str]) -> str:
    """What the site's notebooks are worth, in words."""
    if not executed:
        return (
            "They were **not executed here**: their pages show text and code, no results."
            " `make reproduce`, then `make site`, fills them."
        )
    said = f"They were executed with profile `{profile}`, and show split 0."
    if profile == "smoke":
        said += " **That is a smoke run: toy sizes that show that everything runs. Numbers and pictures in the notebooks mean nothing.**"
    without = ", ".join(missing)
    return said + (f" Not executed here, so without results: {without}." if missing else "")


def whose_data() -> str:
    """Every data set of `data_manifests/`: what it is, who gave it, under which licence, and whose its CBCT is."""
    kinds = {"scan": [], "collection": []}
    for name in manifest.names():
        found = manifest.load(name)
        doi = f" [doi:{found.doi}](https://doi.org/{found.doi})" if found.doi else ""
        cbct = ["CBCT simulated from this CT", "**real CT and real CBCT**"][manifest.real_cbct(name)]
        source = re.sub(r", commit [0-9a-f]{40}", "", found.source).split("; github.com")[0]
        cells = [f"`{name}`", found.title, f"{source}{doi}", found.licence]
        kinds[found.kind].append([*cells, cbct] if found.kind == "scan" else cells)
    heads = ("data set", "what it is", "given by", "licence")
    return "\n\n".join(
        [
            "# Whose data",
            "The patients called *virtual* or *drawn* are nobody: a program drew them. The scans below are of people, given to"
            " the public by those who are named; pictures of them on this site are cut and coloured by us.",
            "## Scans",
            table((*heads, "cone-beam CT"), kinds["scan"]),
            "## Collections that the project can read",
            "The project reads them from your own download.",
            table(heads, kinds["collection"]),
        ]
    )


def figures(folder: Path, docs: Path) -> str:
    """All figures of a folder with their captions. Raises UserError for one that nobody has said a word about."""
    said = {
        name: words
        for page in sorted(docs.glob("*.md"))
        for words, name in _SHOWN.findall(page.read_text(encoding="utf-8"))
    }
    parts = {False: [], True: []}
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.gif")]):
        real = _REAL.match(path.stem) if path.stem not in CAPTIONS else None
        words = said.get(path.stem) or CAPTIONS.get(path.stem) or (_of_scan(real) if real else "")
        if not words:
            raise UserError(
                f"results/figures/{path.name} has no caption: show it in docs/, or add one in workflow/website/pages.py."
            )
        parts[bool(real)].append(f"![{words}](results/figures/{path.name})\n\n*{words}.* `{path.name}`")
    scans = ["## Scan by scan", "Titles say which CBCT is simulated.", *parts[True]] if parts[True] else []
    lead = (
        "Patients are simulated, or the CT is real and its CBCT simulated, but for the real pair: titles and captions say"
        " which. No figure shows a clinical result."
    )
    return "\n\n".join(["# All figures", lead, *parts[False], *scans]) + "\n"


def _of_scan(found: re.Match) -> str:
    """The caption of a real scan's picture, which says what of it is real."""
    if found["scan"] not in manifest.names():
        return ""
    cbct = "its real cone-beam CT" if manifest.real_cbct(found["scan"]) else "a cone-beam CT simulated from it"
    if found["experiment"] is None:
        return f"How alike right and one vertebra off look: a real CT and {cbct}, {found['scan']}"
    which = "worst end" if found["worst"] else "start and end"
    return f"{found['experiment'].capitalize()}, real CT {found['scan']} and {cbct}: {which}"


def front(readme: str, toctree: str) -> str:
    """README.md as the front page, with a line that leads new readers, and the table of contents of the site."""
    head, _, rest = readme.partition("\n")
    lead = "*New here? [How to read this site](read.md): whose data, whose scanner, what is simulated.*"
    return f"{head}\n\n{lead}\n{rest.rstrip()}\n\n{toctree}"
