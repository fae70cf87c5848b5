"""What a setting may be, written where it is declared: `batch: Count = 32` is a whole number from 1 on.

A limit is a type with a rule (`Annotated`); names that may be chosen are a `Literal`. `wrong` holds a filled dataclass
against them, without pydantic, which a bare GPU box has not. What no field alone can say (five test patients of four) a
dataclass says itself, in a method `disagree() -> str`, empty where all is well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints


class Rule(NamedTuple):
    """A test, and in words what passes it: "1 or more"."""

    holds: Callable[[Any], bool]
    words: str


class Wrong(NamedTuple):
    """What its limits do not allow: a sentence is made of `name`, where it stands, and `says`."""

    name: str  # training.batch
    says: str  # is 0; it must be 1 or more.


def _are(n: int, holds: Callable[[float], bool]) -> Callable[[tuple], bool]:
    return lambda values: len(values) == n and all(map(holds, values))


FURTHEST = (300.0, 300.0, 300.0, 180.0, 180.0, 180.0)  # half ranges of poses: mm x 3, degrees x 3
RANGES = Rule(
    lambda half: len(half) == 6 and all(0 <= x <= most for x, most in zip(half, FURTHEST, strict=True)),
    "six numbers, 0 to 300 mm and 0 to 180 degrees",
)

ONCE = Rule(lambda some: some and len(set(some)) == len(some), "a list of at least one, each once")

Number = Annotated[int, Rule(lambda n: n >= 0, "0 or more")]
Count = Annotated[int, Rule(lambda n: n >= 1, "1 or more")]
Size = Annotated[float, Rule(lambda x: x >= 0, "0 or more")]
Positive = Annotated[float, Rule(lambda x: x > 0, "more than 0")]
Share = Annotated[float, Rule(lambda x: 0 <= x <= 1, "a share from 0 to 1")]
PartShare = Annotated[float, Rule(lambda x: 0 <= x < 1, "a share from 0 to less than 1")]
Rate = Annotated[float, Rule(lambda x: 0 < x <= 1, "more than 0 and at most 1")]  # a learning rate
Spacing = Annotated[float, Rule(lambda x: 0.2 <= x <= 10, "from 0.2 to 10 mm")]  # of an image's grid
Percent = Annotated[float, Rule(lambda x: 0 <= x <= 100, "a percentage from 0 to 100")]
Turn = Annotated[float, Rule(lambda x: 0 <= x <= 180, "an angle from 0 to 180 degrees")]
HalfRanges = Annotated[tuple[float, ...], RANGES]  # +- mm x 3, degrees x 3
Reach = Annotated[tuple[float, ...], Rule(_are(3, lambda x: 0 <= x <= 300), "three numbers from 0 to 300 mm")]
Interval = Annotated[tuple[float, float], Rule(lambda pair: pair[0] < pair[1], "two numbers, the smaller one first")]
Counts = Annotated[tuple[Count, ...], Rule(len, "a list of at least one")]
Experiment = Literal["spine", "heart"]  # E1, E2 in the paper
AgentName = Literal["dsl", "dsl_two_channel", "dsl_three_channel"]  # lib.train.AGENTS

KINDS = {
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "a word"),
    bool: (bool, "true or false"),
}


def wrong(settings: Any, name: str) -> Iterator[Wrong]:
    """Every value of a dataclass called `name`, and of those within, that is not what its field declares; where all are,
    what does not go together."""
    hints = get_type_hints(type(settings), include_extras=True)
    found = [w for field, hint in hints.items() for w in _against(hint, getattr(settings, field), f"{name}.{field}")]
    if not found and hasattr(settings, "disagree") and settings.disagree():
        found = [Wrong(name, settings.disagree())]
    yield from found


def _not(name: str, value: Any, allowed: str) -> Wrong:
    return Wrong(name, f"is {list(value) if isinstance(value, tuple) else repr(value)}; it must be {allowed}.")


def _against(hint: Any, value: Any, name: str) -> Iterator[Wrong]:
    """`value` against one hint: a kind, a kind with rules, a choice, a tuple or a dict of such, a dataclass."""
    origin, of = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(value):
        yield from wrong(value, name)
    elif origin is Annotated:
        found = list(_against(of[0], value, name))
        yield from found or (_not(name, value, rule.words) for rule in of[1:] if not rule.holds(value))
    elif origin is Literal:
        if value not in of:
            yield _not(name, value, " or ".join(map(str, of)))
    elif origin is tuple:
        if not isinstance(value, tuple) or (of[-1] is not ... and len(value) != len(of)):
            yield _not(name, value, "a list" if of[-1] is ... else f"a list of {len(of)}")
        else:
            for k, one in enumerate(value):
                yield from _against(of[0] if of[-1] is ... else of[k], one, f"{name}[{k}]")
    elif origin is dict and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _against(of[1], one, f"{name}.{key}")
    elif hint in KINDS:
        kind, words = KINDS[hint]
        # Python counts True as 1; who writes `batch: yes` does not mean that.
        sound = isinstance(value, kind) and isinstance(value, bool) == (hint is bool)
        if not sound or (hint is float and not math.isfinite(value)):
            yield _not(name, value, words)
