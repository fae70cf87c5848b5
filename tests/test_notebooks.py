"""The rules that every notebook keeps, and that its parameters are the smoke profile's."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lib.study import config
from workflow import graph

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = (
    *("01_data_preparation", "02_augmentation", "03_agent_training", "04_saliency_attention"),
    *("05_baselines", "06_table1", "07_real_scans", "08_claims"),
    *("09_dsl_versus_drl", "10_theory", "11_register_your_own", "12_registration_by_hand"),
)
KEEPS_OUTPUTS = "10_theory"  # text only, compared by `pytest --nbval`


def test_all_are_there():
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def cells(path) -> list:
    return nbformat.read(path, 4).cells


def code(cells) -> list[str]:
    return [graph.source(cell) for cell in cells if cell.cell_type == "code"]


def parameters(cells) -> list:
    return [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]


def test_valid_and_any_python_kernel(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_size(cells):
    assert 10 <= len(cells) <= 25
    assert max(len(cell.source.splitlines()) for cell in cells) <= 40


def test_tells_and_does_not_do(cells):
    """At most one `def`, no class: what does something belongs into lib."""
    nodes = [node for text in code(cells) for node in ast.walk(ast.parse(text))]
    assert sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes) <= 1
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)


def test_opens_and_closes(cells):
    opening = "".join(cell.source for cell in cells[:2] if cell.cell_type == "markdown")
    for words in ("What the paper says", "What we do", "What differs"):
        assert words in opening
    closing = "".join(cell.source for cell in cells[-3:]).lower()
    assert re.search(r"\bpaper\b", closing) and re.search(r"\bours?\b", closing)  # not "hour"


def test_outputs_are_stripped(path, cells):
    for cell in cells:
        if cell.cell_type == "code" and path.stem != KEEPS_OUTPUTS:
            assert not cell.outputs and cell.execution_count is None
        for output in cell.get("outputs", []):
            assert set(output.get("data", {})) <= {"text/plain"}, "no pictures in the repository"
            assert output.output_type != "error"


def test_tells_no_secrets_of_the_machine(path):
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


def test_parameters_hold_what_a_reader_changes(cells):
    tagged = parameters(cells)
    assert len(tagged) == 1
    values: dict = {}
    exec(tagged[0].source, values)
    assert values["profile"] == "smoke"
    assert all(values[name] == {} for name in set(values) & set(config.SECTIONS)), "the profile holds the values"
    lines = tagged[0].source.splitlines()
    ends = [node.end_lineno for node in ast.parse(tagged[0].source).body if isinstance(node, ast.Assign)]
    assert all("#" in lines[end - 1] for end in ends), "each parameter has its comment"


def test_checks_its_parameters(path, cells):
    """The cell after the parameters checks them, and asks for the sections that it shows, or more."""
    at = [index for index, cell in enumerate(cells) if parameters([cell])][0]
    following = next(cell for cell in cells[at + 1 :] if cell.cell_type == "code")
    assert re.search(r"config\.check\(\s*globals\(\)", following.source)
    shown: dict = {}
    exec(cells[at].source, shown)
    assert set(shown) & set(config.SECTIONS) <= set(graph.sections(path))


def test_what_it_loads_besides_counts_as_used(path, cells):
    """Or a change of those settings is no reason to run it again: of `stream`, in which notebook 10 draws residuals."""
    calls = [node for text in code(cells) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "config.load"]
    assert {name for call in loads for name in ast.literal_eval(call.args[1])} <= set(graph.sections(path))


def test_lib_files_are_found(path):
    found = graph.lib_files(path)
    assert found and all((ROOT / name).is_file() for name in found)


def test_what_jupyterlab_saves_leaves_the_clone_clean(tmp_path):
    """`make lab` strips before and after: outputs and counts that its autosave wrote are no change for git."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone")

    def said(*words: str) -> str:
        return subprocess.run(words, cwd=tmp_path / "clone", capture_output=True, text=True, check=True).stdout

    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(tmp_path / "clone")], check=True)
    strip = ("make", "strip", f"BIN={Path(sys.executable).parent}")
    said(*strip)
    said("git", "add", "--renormalize", "notebooks")  # what the filters would take out is a change as soon as git looks
    assert said("git", "status", "--porcelain") == "", "committed notebooks are as the filters leave them"
    path = tmp_path / "clone" / "notebooks" / "07_real_scans.ipynb"
    notebook = nbformat.read(path, 4)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count, cell.outputs = count, [nbformat.v4.new_output("stream", text="saved " * 1000)]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.2"}
    nbformat.write(notebook, path)
    said(*strip)
    assert said("git", "status", "--porcelain") == "" and "saved" in path.read_text()
    notebook.cells[0].source += "\nA word of one's own."
    nbformat.write(notebook, path)
    assert said("git", "status", "--porcelain").split() == ["M", "notebooks/07_real_scans.ipynb"]
    change = said("git", "diff")
    assert "A word" in change and "saved" not in change


CHANGES = {  # notebook: a line that a reader adds to its parameters, and what the notebook then knows
    "01": ('experiment = "heart"', "cfg.experiment == 'heart'"),
    "02": ('stream = {"window": 16}', "cfg.stream.window == 16"),
    "03": ('agent_name = "dsl_two_channel"', "agent_name == 'dsl_two_channel' and not hasattr(cfg, 'agent_name')"),
    "04": ('agent = {"coarse_steps": 5}', "cfg.agent.coarse_steps == 5 and cfg.agent.fine_steps == 100"),
    "05": ('baselines = {"methods": ["itk"]}', "methods == ('itk',)"),
    "06": ('evaluation = {"n_starts": 7}', "cfg.evaluation.n_starts == 7"),
    "07": ('population = "reproduce"', "population == 'reproduce'"),
    "08": ('profile = "cpu"', "cfg.profile == 'cpu'"),
    "09": ('drl = {"steps": 10}', "cfg.drl.steps == 10"),
    "10": ('theory = {"states": 100}', "cfg.theory.states == 100 and n == 100"),
    "11": ('register = {"starts": 1}', "cfg.register.starts == 1 and cfg.register.coarse_steps == 200"),
    "12": ('user = "somebody"', "user == 'somebody'"),
}


@pytest.fixture(scope="module")
def left_by_smoke(smoke_run, tmp_path_factory) -> dict[str, str]:
    """Environment of a notebook that works on a copy of what the smoke run left: its own artefacts stay."""
    here, data = tmp_path_factory.mktemp("again"), Path(os.environ.get("DATA_DIR", ROOT / ".test" / "data"))
    shutil.copytree(smoke_run, here / "results")
    shutil.copytree(data, here / "data")
    return os.environ | {"RESULTS_DIR": str(here / "results"), "DATA_DIR": str(here / "data"), "MPLBACKEND": "agg"}


LONG = ("07_real_scans", "09_dsl_versus_drl")
QUICK = {"10_theory": 'theory = {"states": 200}'}  # for both whole runs


def test_runs_again_in_one_kernel(path, left_by_smoke):
    """*Run All* twice, then with a parameter changed as far as the check, then with a misspelt one, which is refused, and
    with that one mended: all in one kernel, as a reader does in JupyterLab."""
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}})
    at = next(i for i, cell in enumerate(notebook.cells) if parameters([cell]))
    check = next(i for i in range(at + 1, len(notebook.cells)) if notebook.cells[i].cell_type == "code")
    shipped = notebook.cells[at].source
    added, then = CHANGES[path.stem[:2]]

    def run(upto: int, more: str = "", first: int = 0) -> None:
        notebook.cells[at].source = f"{shipped}\n{more}"
        for index in range(first, upto):
            client.execute_cell(notebook.cells[index], index)

    with client.setup_kernel(env=left_by_smoke):
        # Of those that register for minutes the whole is run by nbval; here twice as far as the check.
        whole = check + 1 if path.stem in LONG else len(notebook.cells)
        run(whole, QUICK.get(path.stem, ""))
        run(whole, QUICK.get(path.stem, ""))
        run(check + 1, added)
        assert client.execute_cell(nbformat.v4.new_code_cell(f"assert {then}"), 0)
        notebook.cells[0] = nbformat.v4.new_markdown_cell()  # nbclient has put the cell that it executed there
        with pytest.raises(CellExecutionError, match="Unknown parameter: splt; did you mean split"):
            run(check + 1, "splt = 1")
        run(check + 1)


@pytest.mark.parametrize("words", [("-p", "splt", "1"), ("-y", "{stream: {windw: 3}, training: {}}")])
def test_misspelt_parameter_fails_in_one_sentence(tmp_path, words):
    """papermill alone would log a line and exit 0."""
    out = tmp_path / "out.ipynb"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            "-k",
            "python3",
            "--no-progress-bar",
            "notebooks/03_agent_training.ipynb",
            str(out),
            *words,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    outputs = [output for cell in nbformat.read(out, 4).cells for output in cell.get("outputs", [])]
    errors = [output for output in outputs if output.output_type == "error"]
    assert [error.ename for error in errors] == ["UserError"]
    assert len(errors[0].traceback) == 1 and "did you mean" in errors[0].traceback[0]
    assert done.stderr.strip().splitlines()[-1] == errors[0].evalue
