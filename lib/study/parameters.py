"""What a reader set in a notebook: the names that its parameters cell and papermill assign, found among its globals.

A kernel keeps everything that a first *Run All* left, results too, so on the second one the globals alone cannot tell a
misspelt parameter from a result. IPython remembers the cells that ran: the names are read from those.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping, Sequence
from typing import Any

from lib.base.errors import UserError

CHECK = "config.check("  # stands in the cell that closes the parameters
INJECTED = "# Parameters"  # how papermill's own cell begins
# Put among the globals by IPython and papermill.
_NOT_PARAMETERS = ("In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")


def given(names: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters among a notebook's `globals()`: name -> value.

    Where IPython kept the source of the cells, what they assign from the last parameters cell on, papermill's and any
    other cell behind it, up to the one that calls `config.check`. Else (no notebook) every public global that is no
    module, function or class.
    """
    found = {name: value for name, value in names.items() if _is_parameter(name, value)}
    cells = _parameter_cells(names.get("In") or ())
    if not cells:
        return found
    assigned = {name for cell in cells for name in _assigned(cell)}
    return {name: value for name, value in found.items() if name in assigned}


def _parameter_cells(history: Sequence[str]) -> list[str]:
    """Of the cells that ran, in their order: those from the last parameters cell to the check that followed it."""
    starts = [k for k, cell in enumerate(history) if "profile" in _assigned(cell)]
    if not starts:
        return []
    first = starts[-1]
    if history[first].startswith(INJECTED):  # stands behind the notebook's own
        first = max(0, first - 1)
    ends = [k for k in range(first, len(history)) if CHECK in history[k]]
    return list(history[first : ends[0]]) if ends else list(history[first:])


def _assigned(cell: str) -> set[str]:
    """Names that a cell assigns at its top level; none where it is no Python."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return set()
    targets = [node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)] for node in body]
    return {one.id for several in targets for top in several for one in _names(top)}


def _names(target: ast.AST | None) -> list[ast.Name]:
    """`a` or `a, b` on the left of an equals sign."""
    nodes = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return [node for node in nodes if isinstance(node, ast.Name)]


def _is_parameter(name: str, value: Any) -> bool:
    if name.startswith("_") or name in _NOT_PARAMETERS:
        return False
    if isinstance(value, types.ModuleType) or callable(value):
        return False
    return type(value).__module__ != "__future__"


def quiet_user_errors(get_ipython: Any = None) -> None:
    """From now on a UserError in this notebook shows as one sentence, no traceback; the cell still fails."""
    shell = get_ipython() if callable(get_ipython) else None
    if shell is None:
        return

    def show(shell, kind, error, traceback, tb_offset=None):
        del traceback, tb_offset
        shell._showtraceback(kind, error, [str(error)])  # what JupyterLab shows and papermill reads
        return [str(error)]

    shell.set_custom_exc((UserError,), show)
