"""What strangers read: the RO-Crate of results/, codecheck.yml, CITATION.cff, the data sheet."""

import json
import re
import shlex

import pytest
import yaml

from lib.__main__ import COMMANDS, main
from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.study import config, schema
from lib.tables import crate, figure4, verify

RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def graph() -> dict:
    """The crate of the committed results: @id -> entity, as a reader of the JSON sees it."""
    return {entity["@id"]: entity for entity in crate.crate(RESULTS).metadata.generate()["@graph"]}


def ids(value) -> set[str]:
    return {one["@id"] for one in (value if isinstance(value, list) else [value])}


def test_every_committed_file_with_provenance_is_the_result_of_one_action(graph):
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    made = [one for action in actions for one in ids(action["result"])]
    known = {str(path.relative_to(RESULTS)).removesuffix(".provenance.json") for path, _ in verify.provenances(RESULTS)}
    assert len(made) == len(set(made)) and set(made) == known > {"table1.csv", "figures/fig4.png", "rows/transfer.csv"}
    assert ids(graph["./"]["mentions"]) == {action["@id"] for action in actions}
    assert {f"{name}.provenance.json" for name in known} | known <= ids(graph["./"]["hasPart"])


def test_an_action_has_inputs_code_time_and_command_as_its_provenance_says(graph):
    value = json.loads(provenance.beside(RESULTS / "claims.csv").read_text())
    action = graph["#make/claims.csv"]
    assert {f"results/{name}" for name in ids(action["object"])} == set(value["inputs"])
    assert graph[action["instrument"]["@id"]]["version"] == value["git"]["commit"]
    assert action["endTime"] == value["finished_utc"] and action["description"] == "make claims"
    assert graph["claims.csv"]["sha256"] == value["sha256"]
    assert graph["./"]["datePublished"] >= value["finished_utc"]


def test_the_crate_says_which_profiles_it_follows(graph):
    assert ids(graph["./"]["conformsTo"]) == {crate.PROFILE}
    assert ids(graph["ro-crate-metadata.json"]["conformsTo"]) == {"https://w3id.org/ro/crate/1.1"}
    assert graph["./"]["license"]["@id"] in graph and graph["./"]["name"] == crate.TITLE


def test_an_input_that_is_not_here_is_named_with_its_digest(tmp_path):
    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / "table.csv"
    path.write_text("a\n1\n")
    provenance.record(path)
    value = json.loads(provenance.beside(path).read_text())
    provenance.write_json(provenance.beside(path), value | {"inputs": {"results/gone.csv": "ab" * 32}})
    found = {e["@id"]: e for e in crate.crate(tmp_path / "results").metadata.generate()["@graph"]}
    (source,) = ids(found["#make/table.csv"]["object"])
    assert found[source]["name"] == "results/gone.csv" and found[source]["sha256"] == "ab" * 32
    with pytest.raises(UserError, match="no provenance"):
        crate.crate(tmp_path / "empty")


def test_the_command_writes_it_and_nothing_of_it_is_committed(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    (tmp_path / "a.csv").write_text("1")
    provenance.record(tmp_path / "a.csv")
    assert main(["crate"]) == 0
    assert '"CreateAction"' in (tmp_path / crate.NAME).read_text()
    assert verify.unaccounted(tmp_path) == []
    assert f"results/{crate.NAME}" in (ROOT / ".gitignore").read_text().splitlines(), "it would go stale"


# --- commands that are named must exist ---


def sound(line: str) -> None:
    """Assert that a command line's words are of the Makefile, of the door or of a notebook."""
    if " && " in line:
        for part in line.split(" && "):
            sound(part)
        return
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    variables = {word.split("=")[0] for word in shlex.split(line) if re.match(r"[A-Z_]+=", word)}
    makefile = (ROOT / "Makefile").read_text()
    for name in variables - {"RESULTS_DIR"}:
        assert re.search(rf"^{name} \?=", makefile, re.M), line
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:.*##", makefile, re.M), line
    elif words[0] == "papermill":
        assert (ROOT / words[3]).is_file(), line
    else:
        assert words[:3] == ["python", "-m", "lib"] and words[3] in COMMANDS, line
        assert words[3] != "study" or schema.load(words[4]).name == words[4]


def test_the_command_beside_each_file_exists():
    names = [path.relative_to(RESULTS).as_posix() for path in crate.files(RESULTS)]
    for line in {crate.command(name) for name in names if not name.endswith(".provenance.json")} - {""}:
        sound(line)
    used = {next(p for p in crate.MADE_BY if crate.fnmatch(name, p)) for name in names}
    assert used == set(crate.MADE_BY), "a pattern that fits nothing"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fig4.csv", "make claims CLAIM=C6"),
        ("fig4_long.csv", figure4.COMMAND),
        ("fig4_trials.csv", figure4.COMMAND),
        ("figures/fig4.png", f"{figure4.COMMAND} && make claims CLAIM=C6"),
        ("agents/heart/judged.json", "python -m lib calibrate --experiment heart"),
        ("agents/spine/trust.json", "python -m lib calibrate --experiment spine"),
        ("agents/MODEL_CARD.md", "python -m lib card"),
        ("agents/DATA_SHEET.md", ""),
        ("agents/spine/dsl_fine.safetensors", "python -m lib release"),
        ("notebooks/spine/split0/10_theory.ipynb", "make claims CLAIM=C7"),
        ("notebooks/spine/split0/05_baselines.ipynb", "make reproduce SPLITS=all"),
    ],
)
def test_the_special_files_have_the_command_that_makes_them(name, line):
    assert crate.command(name) == line


@pytest.mark.parametrize("name", ["11_register_your_own", "12_registration_by_hand"])
def test_a_notebook_that_no_run_needs_is_executed_with_the_parameters_that_it_kept(name):
    path = RESULTS / f"notebooks/spine/split0/{name}.ipynb"
    kept = json.loads(path.read_text())["metadata"]["papermill"]["parameters"]
    words = shlex.split(crate.command(path.relative_to(RESULTS).as_posix()))
    given = {words[n + 1]: words[n + 2] for n, word in enumerate(words) if word in ("-r", "-p")}
    assert words[3] == f"notebooks/{name}.ipynb" and given == {key: str(value) for key, value in kept.items()}


def test_codecheck_names_what_is_there_and_commands_that_exist():
    listed = yaml.safe_load((ROOT / "codecheck.yml").read_text())["manifest"]
    for entry in listed:
        name = entry["file"].removeprefix("results/")
        assert (ROOT / entry["file"]).is_file(), name
        sound(entry["command"])
        place = 'RESULTS_DIR="$PWD/codecheck" '
        assert entry["command"] == " && ".join(place + part for part in crate.command(name).split(" && ")), name
    said = " ".join(entry["comment"] for entry in listed)
    for part in ("Table 1", "Figure 1", "Figure 3", "Figure 4", "Figure 5", "Appendix A"):
        assert part in said
    assert "codecheck/" in (ROOT / ".gitignore").read_text().splitlines()


def test_citation_names_the_same_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = yaml.safe_load((ROOT / "codecheck.yml").read_text())["paper"]
    assert cited["cff-version"] == "1.2.0" and {"title", "message", "authors", "license"} <= set(cited)
    assert cited["preferred-citation"]["title"] == paper["title"]
    names = [f"{a['given-names']} {a['family-names']}" for a in cited["preferred-citation"]["authors"]]
    assert names == [author["name"] for author in paper["authors"]]


def test_the_data_sheet_says_what_the_settings_and_manifests_say():
    text = (RESULTS / "agents/DATA_SHEET.md").read_text()
    cpu, paper = (config.load(name, ("patients",)).patients for name in ("cpu", "paper"))
    assert f"`cpu` has {cpu.spine} patients of each, on grids of {cpu.spacing} mm" in text and cpu.spine == cpu.heart
    assert f"{cpu.n_splits} x {cpu.n_test} of them are test patients" in text
    assert f"and {cpu.n_validation} of a split" in text and f"`patients.seed` {cpu.seed}" in text
    assert f"`paper` has {paper.spine} and {paper.heart}, on {paper.spacing:g} mm" in text
    assert f"{cpu.landmark_error} mm an axis on landmarks, {cpu.mesh_error} mm on meshes" in text
    rows = dict(re.findall(r"^\| `(\w[\w-]+)` \| ([^|]+) \|$", text, re.M))
    value = json.loads(provenance.beside(RESULTS / "agents/spine/dsl_two_channel_coarse.safetensors").read_text())
    assert sorted(rows) == value["grown_from"]
    for name, licence in rows.items():
        said = yaml.safe_load((ROOT / f"data_manifests/{name}.yaml").read_text())["licence"]
        assert said.startswith(licence.split(",")[0]), name


def test_the_data_sheet_is_a_page():
    assert len((RESULTS / "agents/DATA_SHEET.md").read_text().split()) < 900
