"""The `smoke` profile is the defaults of the sections' dataclasses; this writes it, their comments included.

`python -m lib.config_smoke > configs/smoke.yaml` after a default has changed (a test says when).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator

from lib import config

HEADER = """# Minutes, for tests: proves the plumbing, claims nothing. These are the defaults of the dataclasses
# that stand beside the code; `python -m lib.config_smoke > configs/smoke.yaml` writes this file.
profile: smoke
"""


def comments(section: type) -> dict[str, str]:
    """Field name -> the comment that stands behind it in the source."""
    lines, first = inspect.getsourcelines(section)
    found = {}
    for node in ast.parse(inspect.cleandoc("".join(lines))).body[0].body:
        if isinstance(node, ast.AnnAssign):
            _, _, comment = lines[node.end_lineno - 1].partition("  # ")
            found[node.target.id] = "" if comment.startswith("fmt") else comment.strip()
    return found


def block(value: object, depth: int) -> Iterator[str]:
    """YAML lines of a dataclass instance."""
    said = comments(type(value))
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        comment = f"  # {said[field.name]}" if said.get(field.name) else ""
        if dataclasses.is_dataclass(inner):
            yield f"{'  ' * depth}{field.name}:{comment}"
            yield from block(inner, depth + 1)
        else:
            yield f"{'  ' * depth}{field.name}: {scalar(inner)}{comment}"


def scalar(value: object) -> str:
    """A value in YAML's flow style, which for these types is JSON with bare words."""
    if isinstance(value, str) and value.replace("_", "").isalpha():
        plain = value.lower() not in {"yes", "no", "on", "off", "true", "false", "null"}
        return value if plain else json.dumps(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {scalar(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return repr(value).replace("e", ".0e")  # YAML takes 1e-05 for a string
    return json.dumps(value)


def text() -> str:
    """The whole of configs/smoke.yaml."""
    lines = [HEADER]
    for name in config.SECTIONS:
        lines += [f"{name}:", *block(config.section_class(name)(), 1), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(text().rstrip() + "\n")
