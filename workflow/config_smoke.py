"""The `smoke` profile is the defaults of the sections' dataclasses.

`python -m workflow.config_smoke`, after a default has changed, writes them to configs/smoke.yaml, with comments,
and to the parameters cells of the notebooks. Tests say when it is due.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator

from lib.base import provenance, sections
from lib.study import config

HEADER = """# Minutes, for tests: proves the plumbing, claims nothing. These are the defaults of the sections'
# dataclasses, beside the code; `python -m workflow.config_smoke` writes this file.
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
        elif isinstance(inner, dict) and inner and dataclasses.is_dataclass(next(iter(inner.values()))):
            yield f"{'  ' * depth}{field.name}:{comment}"
            for key, one in inner.items():
                yield f"{'  ' * (depth + 1)}{key}: {scalar(changed(one))}"
        else:
            yield f"{'  ' * depth}{field.name}: {scalar(inner)}{comment}"


def changed(value: object) -> dict:
    """The fields of a dataclass instance that are not at their defaults."""
    found = {}
    for field in dataclasses.fields(value):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if getattr(value, field.name) != default:
            found[field.name] = getattr(value, field.name)
    return found


def scalar(value: object) -> str:
    """A value in YAML's flow style, which for these types is JSON with bare words."""
    if isinstance(value, str) and value.replace("_", "").isalpha():
        plain = value.lower() not in {"yes", "no", "on", "off", "true", "false", "null"}
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {scalar(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return repr(value).replace("e", ".0e")  # YAML takes 1e-05 for a string
    return json.dumps(value, ensure_ascii=False)


def text() -> str:
    """The whole of configs/smoke.yaml."""
    lines = [HEADER]
    for name in config.SECTIONS:
        lines += [f"{name}:", *block(sections.section_class(name)(), 1), ""]
    return "\n".join(lines).rstrip() + "\n"


def refresh(cell: str) -> str:
    """A parameters cell with the values of its sections replaced by the defaults; its comments stay."""
    lines = cell.splitlines()
    for node in reversed(ast.parse(cell).body):
        name = node.targets[0].id if isinstance(node, ast.Assign) else ""
        if name not in config.SECTIONS:
            continue
        default, given = sections.section_class(name)(), ast.literal_eval(node.value)
        values = json.loads(json.dumps(dataclasses.asdict(default)))
        shown = {key: values[key] for key in given if key in values}
        if len(shown) == len(given) and config.build(name, given) == default:
            continue
        comment = lines[node.end_lineno - 1][node.end_col_offset :]
        items = ", ".join(f'"{key}": {value!r}' for key, value in shown.items())
        wrapped = textwrap.wrap(items, 100, break_long_words=False, break_on_hyphens=False)
        written = [f"{name} = {{", *(f"    {line}" for line in wrapped), f"}}{comment}"]
        written[-2] += ","
        lines[node.lineno - 1 : node.end_lineno] = written
    return "\n".join(lines)


def main() -> None:
    """Write configs/smoke.yaml and the parameters cells."""
    with provenance.atomic(config.ROOT / "configs" / "smoke.yaml") as temporary:
        temporary.write_text(text(), encoding="utf-8")
    for path in sorted((config.ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                old = "".join(cell["source"])
                cell["source"] = refresh(old).splitlines(keepends=True)
                if old != "".join(cell["source"]):
                    with provenance.atomic(path) as temporary:
                        written = json.dumps(notebook, indent=1, ensure_ascii=False)
                        temporary.write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
