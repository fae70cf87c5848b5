"""A section of parameters: a frozen dataclass that stands beside the code it steers (`SECTIONS` says where), filled from
a dict. Unknown names, wrong types and values out of their limits (`lib.base.limits`) raise `UserError`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from lib.base import limits
from lib.base.errors import UserError

SECTIONS = {
    "patients": ("lib.patients.population", "PatientSettings"),
    "stream": ("lib.augment", "StreamSettings"),
    "training": ("lib.train", "TrainSettings"),
    "per_agent": ("lib.study.train_agent", "PerAgentSettings"),
    "agent": ("lib.agent", "AgentSettings"),
    "baselines": ("lib.baselines.settings", "BaselineSettings"),
    "drl": ("lib.study.planar.settings", "DrlSettings"),
    "evaluation": ("lib.metrics", "EvaluationSettings"),
    "theory": ("lib.theory", "TheorySettings"),
    "register": ("lib.registration.register", "RegisterSettings"),
    "transfer": ("lib.study.populations", "TransferSettings"),
    "variants": ("lib.study.variants", "VariantSettings"),
}


def build(section: str, values: Mapping[str, Any], source: str = "the parameters", alone: bool = False) -> Any:
    """The section's dataclass from a dict. Raises UserError naming `source` for a name that is none, a wrong type, a
    value out of its limits, and values that do not go together (a method `disagree` of the dataclass; not where the
    values stand `alone`, to be laid over those of a profile)."""
    settings = section_class(section)
    if not isinstance(values, Mapping):
        raise UserError(f"{section} in {source} must be a list of names and values, not {values!r}.")
    _check_names(settings, values, section, source)
    built = _typed(settings, values, section, source)
    for found in limits.wrong(built, section):
        if alone and found.name == section:
            continue  # each value by itself is sound
        raise UserError(f"{found.name} in {source} {found.says}")
    return built


def _typed(settings: type, values: Mapping[str, Any], section: str, source: str) -> Any:
    """The dataclass filled, its types checked where pydantic is. Raises UserError."""
    try:
        from pydantic import TypeAdapter, ValidationError
    except ModuleNotFoundError:  # a bare GPU box
        return _plain(settings(), values)
    values = merge(dataclasses.asdict(settings()), values)  # defaults of what is nested too
    try:
        return TypeAdapter(settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (section, *first["loc"]))
        what = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{where} in {source} is {first['input']!r}; {what.replace('input', 'it', 1)}.") from None


def section_class(section: str) -> type:
    """The dataclass that defines a section."""
    module, name = SECTIONS[section]
    return getattr(importlib.import_module(module), name)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `override`; dicts within are merged, everything else is replaced."""
    result = dict(base)
    for name, value in override.items():
        both = isinstance(result.get(name), Mapping) and isinstance(value, Mapping)
        result[name] = merge(result[name], value) if both else value
    return result


def _check_names(settings: type, values: Mapping[str, Any], where: str, source: str) -> None:
    """Unknown names, also inside dataclasses within dataclasses."""
    fields = {field.name for field in dataclasses.fields(settings)}
    known(values, fields, f"parameter in {source}", f"{where}.")
    hints = get_type_hints(settings)
    for name, value in values.items():
        inner = {name: (hints[name], value)}
        if get_origin(hints[name]) is dict and isinstance(value, Mapping):  # a dataclass a name
            inner = {f"{name}.{key}": (get_args(hints[name])[1], value[key]) for key in value}
        for place, (hint_, some) in inner.items():
            if isinstance(some, bool) and hint_ in (int, float):  # Python, and YAML's `yes`, would make it 1
                raise UserError(f"{where}.{place} in {source} is {some}; it must be a number.")
            if dataclasses.is_dataclass(hint_) and isinstance(some, Mapping):
                _check_names(hint_, some, f"{where}.{place}", source)


def arguments(call: str) -> dict[str, Any]:
    """`Name(a=1, b=(2, 3))`, a section in Python's notation -> {"a": 1, "b": (2, 3)}."""
    return {word.arg: ast.literal_eval(word.value) for word in ast.parse(call, mode="eval").body.keywords}


def known(names: Iterable[str], allowed: Iterable[str], kind: str, prefix: str = "") -> None:
    """Raises UserError for the first of `names` that is not allowed."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise UserError(f"Unknown {kind}: {prefix}{name}; {hint(str(name), allowed, prefix)}")


def hint(name: str, allowed: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about a misspelt name: the closest right one, or all."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"did you mean {prefix}{close[0]}?" if close else f"choose one of {', '.join(allowed)}."


def _plain(settings: Any, values: Mapping[str, Any]) -> Any:
    """`settings` with `values`, without pydantic: lists become the tuples that the defaults are."""
    changed = {}
    for name, value in values.items():
        default = getattr(settings, name)
        if dataclasses.is_dataclass(default) and isinstance(value, Mapping):
            changed[name] = _plain(default, value)
        else:
            changed[name] = tuple(value) if isinstance(default, tuple) else value
    return dataclasses.replace(settings, **changed)
