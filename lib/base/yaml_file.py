"""YAML as people write it: a file that cannot be read, or names something twice, is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lib.base.errors import UserError


class _Once(yaml.SafeLoader):
    """YAML in which a name may stand once: the second would silently win."""


def _mapping(loader, node, deep=False):
    seen = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = next((key for key in seen if seen.count(key) > 1), None)
    if twice is not None:
        raise UserError(f"{loader.name}: {twice} stands twice (line {node.start_mark.line + 1} and after); keep one.")
    return loader.construct_mapping(node, deep=True)


_Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path, name: str = "") -> Any:
    """What a YAML file holds; `name` is what sentences call it. Raises UserError where it is none, or names something
    twice."""
    name = name or path.name
    try:
        loader = _Once(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError):
        raise UserError(f"{name} is not plain text in UTF-8; save it as such.") from None
    loader.name = name
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise UserError(f"{name} cannot be read: see line {line}.") from error
    finally:
        loader.dispose()
