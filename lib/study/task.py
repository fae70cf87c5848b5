"""A part of a study: one way to register, over all people of a block of cases, under one condition, from one range of starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from lib.study import recipes, sources
from lib.study.schema import Cases, Method


@dataclass
class Task:
    """Who is to be registered how, and what is missing of it."""

    block: Cases
    experiment: str
    split: int
    reach: str
    condition: str
    methods: tuple[Method, ...]  # that share their work
    maker: recipes.Maker | None
    people: list[sources.Person]
    missing: dict[str, list[int]] = field(default_factory=dict)  # person -> numbers of starts
    made_by: dict[Method, str] = field(default_factory=dict)  # what would make their rows here

    @property
    def size(self) -> int:
        """Registrations to do."""
        return sum(len(starts) for starts in self.missing.values()) * len(self.methods)
