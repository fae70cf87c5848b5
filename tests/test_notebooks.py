"""The rules that every notebook keeps, and that its parameters are the smoke profile's."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

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
    assert "paper" in closing and "our" in closing


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


def test_lib_files_are_found(path):
    found = graph.lib_files(path)
    assert found and all((ROOT / name).is_file() for name in found)


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
