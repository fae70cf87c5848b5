"""The house stands as docs/develop.md says: rooms, sizes, arrows that point downwards only."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "lib").rglob("*.py")) + sorted((ROOT / "workflow").rglob("*.py"))
TOP = set(
    [
        "rigid",
        "mdp",
        "network",
        "augment",
        "train",
        "saliency",
        "agent",
        "metrics",
        "cases",
        "theory",
        "loss",
        "__main__",
        "__init__",
    ]
)
ROOMS = set(["base", "images", "patients", "baselines", "registration", "figures", "study", "tables"])
LONGEST_FILE, LONGEST_FUNCTION = 300, 60  # lines


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_paper_is_on_top_and_eight_rooms_under_it():
    assert {path.stem for path in (ROOT / "lib").glob("*.py")} == TOP
    rooms = {path.name for path in (ROOT / "lib").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == ROOMS


def test_a_room_is_entered_for_nothing():
    """Snakemake makes an `__init__` an input of every notebook that enters its room."""
    inits = [path for path in FILES if path.name == "__init__.py" and path.parent != ROOT / "lib"]
    assert len(inits) >= len(ROOMS)
    assert [name(path) for path in inits if path.stat().st_size] == []


def test_no_file_repeats_its_room_or_shadows_the_standard_library():
    inner = [path for path in FILES if path.parent not in (ROOT / "lib", ROOT / "workflow")]
    assert [name(p) for p in inner if p.stem.startswith((f"{p.parent.name}_", f"{p.parent.name.rstrip('s')}_"))] == []
    assert [name(p) for p in FILES if p.stem in sys.stdlib_module_names - {"__main__", "__init__"}] == []


def test_files_and_functions_fit():
    long_files = {name(p): n for p in FILES if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    long_functions = {
        f"{name(path)}:{node.name}": n
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (n := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert long_files == {} and long_functions == {}


def contracts(folder: Path) -> subprocess.CompletedProcess:
    words = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "line", "word"),
    [
        ("base/errors.py", "from lib import rigid", "downwards"),
        ("figures/charts.py", "from lib.study import config", "downwards"),
        ("images/volume.py", "from lib.images import read", "circle"),
    ],
)
def test_the_contract_fails_on_an_upward_arrow_and_on_a_circle(tmp_path, file, line, word):
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert contracts(tmp_path).returncode == 0
    with open(tmp_path / "lib" / file, "a") as stream:
        stream.write(f"\n{line}\n")
    done = contracts(tmp_path)
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert done.returncode == 1 and any(word in text for text in broken)


def test_one_door(capsys):
    """Every command is in its table and has help; only one module of lib can be run."""
    from lib.__main__ import COMMANDS, main

    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0 and f"python -m lib {command}" in capsys.readouterr().out
    doors = [
        name(p) for p in FILES if p.parts[-2:] != ("lib", "__main__.py") and '__name__ == "__main__"' in p.read_text()
    ]
    assert [door for door in doors if door.startswith("lib/")] == []
