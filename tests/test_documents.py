"""The front page and docs/: short, true to the commands, files and headings that they name; and the animation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lib.__main__ import COMMANDS
from lib.base import provenance
from lib.figures import animation
from lib.tables import documents, front_page

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*documents.pages(), ROOT / "CONTRIBUTING.md"]
QUESTIONS = {
    "claims",
    "table1",
    "real_scans",
    "register",
    "deviations",
    "ablations",
    "history",
    "words",
    "develop",
    "reliability",
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def tables(text: str) -> int:
    """How many Markdown tables: lines of dashes under a head."""
    return len(re.findall(r"^\|(?:---\|)+$", text, re.M))


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_the_front_page_is_one_page():
    """At most 12 KB and two tables; picture, findings and the two commands come before all else."""
    text = read(ROOT / "README.md")
    assert len(text.encode()) <= 12 * 1024 and tables(text) <= 2
    places = [
        text.index(part)
        for part in (front_page.NAME, "\n1. **", "\n```\nmake reproduce", "lib register", "<!-- TABLE1 -->")
    ]
    assert places == sorted(places) and places[2] < 4000, "the first code block stands at 40 KB no more"
    assert text.index("```") == places[2] + 1, "the two commands are the first code block"
    assert len(re.findall(r"^\d\. \*\*", text, re.M)) == 5


def test_a_finding_has_its_n_and_its_scanner():
    text = read(ROOT / "README.md")
    findings = re.split(r"^\d\. ", text.split("## Run it")[0], flags=re.M)[1:]
    for finding in findings:
        assert "%" not in finding or re.search(
            r"\b\d+ (?:near |far )?(?:starts|of)|of (?:the same )?\d+|\d+ starts", finding
        ), finding
    assert "scanner that training never imitated" in findings[2] and "our own scanner" in findings[4]


def test_docs_has_one_page_a_question():
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages >= QUESTIONS
    front = read(ROOT / "README.md")
    assert [page for page in sorted(pages) if f"docs/{page}.md" not in front] == [], "the front page leads to each"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    text = read(page)
    named = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in [name for name in named if not name.startswith("http")]:
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(read(there)), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_is_named_is_there(page):
    """Commands of make and of the one door, notebooks by number, files and folders in backticks."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", read(page), flags=re.S)
    makefile = read(ROOT / "Makefile")
    for command in re.findall(
        r"(?<![\w-])make ([a-z]+)(?=[`\s])", " ".join(re.findall(r"`[^`]+`|```.*?```", text, re.S))
    ):
        assert re.search(rf"^{command}:", makefile, re.M), command
    for command in re.findall(r"python -m lib ([a-z]+)", text):
        assert command in COMMANDS, command
    assert "python -m lib." not in text, "there is one door"
    for number in re.findall(r"[Nn]otebook (\d\d)", text):
        assert list((ROOT / "notebooks").glob(f"{number}_*.ipynb")), number
    for name in re.findall(r"`((?:lib|tests|configs|results|workflow|data_manifests|notebooks)/[\w./*]+)`", text):
        assert name.startswith("results/runs") or list(ROOT.glob(name.rstrip("/"))), name


def test_the_map_names_every_room_and_every_file_of_the_paper():
    text = read(ROOT / "docs/develop.md")
    rooms = [path.name for path in (ROOT / "lib").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert [room for room in rooms if f"`{room}/`" not in text] == []
    paper = ("rigid", "mdp", "network", "augment", "train", "saliency", "agent", "metrics", "theory")
    assert [name for name in paper if f"`lib/{name}.py`" not in text] == []


def test_the_map_tells_the_columns_of_a_study_as_the_schema_has_them():
    """The example is a study that the schema accepts."""
    import yaml

    from lib.study import schema

    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", read(ROOT / "docs/develop.md"), re.S)[1])
    assert set(example) <= set(schema.Study.__dataclass_fields__)
    assert set(example["cases"]) <= set(schema.Cases.__dataclass_fields__)
    for condition in example["cases"]["conditions"].values():
        assert set(condition) <= set(schema.Condition.__dataclass_fields__)


def test_the_committed_animation_is_small_and_says_what_it_is():
    from PIL import Image

    path = ROOT / "results" / "figures" / front_page.NAME
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as picture:
        assert picture.n_frames >= 25 and picture.info["loop"] == 0
    made = json.loads(provenance.beside(path).read_text())
    assert made["sha256"] == provenance.sha256(path)
    assert made["case"]["scan"] == front_page.PAIR and made["case"]["start_mm"] > 10 > made["case"]["end_mm"]
    assert "real CT, real cone-beam CT" in read(ROOT / "README.md"), "in words, for those who do not see it"
    assert all(word in front_page.TITLE for word in ("Real CBCT", "real CT", "estimate"))


def test_frames_follow_the_way_and_do_not_dwell():
    errors = np.concatenate([np.linspace(100, 0, 101), 1 + np.tile([0.0, 1.0], 100)])
    shown = animation.which(errors, 21, 50)
    assert shown[0] == 0 and shown[-1] == 300
    assert np.diff(errors[shown[shown <= 100]]).min() >= -5.5, "five millimetres a frame, no jump"
    assert shown[shown > 100].tolist() == [150, 200, 250, 300], "no time is spent where it dithers"


def test_an_animation_is_written_whole(tmp_path):
    import torch
    from PIL import Image

    from lib import rigid
    from lib.images.volume import Volume

    body = torch.full((40, 40, 40), -1000.0)
    body[10:30, 15:25, 15:25] = 400.0
    volume = Volume(body, 5.0, (-100, -100, -100))
    poses = np.stack([rigid.translation([0, 0, z]) for z in (40.0, 20.0, 0.0)])
    path = animation.write(tmp_path / "a.gif", volume, volume, poses, [40, 20, 0], np.zeros(3), "simulated CBCT")
    with Image.open(path) as picture:
        assert picture.n_frames == 3 and [p.name for p in tmp_path.iterdir()] == ["a.gif"]
