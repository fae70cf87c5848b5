"""Variants: the agent with one thing changed, same small budget, same test cases. What `make claims` runs.

They are the changes of the study `variants` (configs/studies/variants.yaml). Notebooks 03 and 04 take a name as the
parameter `variant`; networks, rows and paths land in `<run folder>/variants/<name>/`, rows under the method
`<agent>_<name>` in cases.csv. Each is compared with `<agent>_reference`, never with the agent of Table 1.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from lib.base.errors import UserError
from lib.base.limits import AgentName, Count, Experiment
from lib.base.sections import build, hint, merge
from lib.study import schema, sound
from lib.study.schema import Change

REFERENCE = "reference"
FUTURE = ("stop", "boosted", "long_steps")  # the authors' future work
KNOWN = schema.load("variants").changes()


@dataclass(frozen=True)
class VariantSettings:
    """The agent that is varied, on one experiment, and the budget of each variant."""

    agent: AgentName = "dsl_two_channel"
    experiment: Experiment = "spine"  # one is enough for an ablation
    samples: Count = 320  # training samples of a variant's coarse network
    fine_samples: Count = 320  # and of its fine network
    known: dict[str, Change] = field(default_factory=lambda: dict(KNOWN))  # name: what is changed

    def disagree(self) -> str:
        """Whether every variant that another one names is there."""
        return sound.misnamed(self.known)


def resolve(cfg, settings: VariantSettings):
    """`cfg` with the overrides of `cfg.variant` in the sections that it has, the variant itself as `change`.

    Raises UserError for a name or an override that is none.
    """
    if cfg.variant not in settings.known:
        raise UserError(f"There is no variant {cfg.variant!r}; {hint(str(cfg.variant), settings.known)}")
    if cfg.experiment != settings.experiment:
        raise UserError(f"Variants run on {settings.experiment} only (variants.experiment), not on {cfg.experiment}.")
    change = settings.known[cfg.variant]
    budget = {"samples": settings.samples, "fine_samples": settings.fine_samples}
    if change.stages == ("coarse",):
        budget["samples"] += settings.fine_samples
    wanted = {"stream": change.stream, "training": budget | change.training, "agent": change.agent}
    changed = {}
    for section, values in wanted.items():
        now = getattr(cfg, section)
        if now is not None:
            merged = merge(dataclasses.asdict(now), values)
            changed[section] = build(section, merged, f"variants.known.{cfg.variant}")
    return dataclasses.replace(cfg, change=change, **changed)


def method(cfg, agent: str) -> str:
    """Name of the agent's rows: its own, or `<agent>_<variant>`."""
    return agent if cfg.variant is None else f"{agent}_{cfg.variant}"


def name_of(method: str) -> str:
    """The variant behind a method's name, "" for none: dsl_two_channel_no_affine_coarse -> no_affine."""
    for agent in ("dsl_two_channel_", "dsl_"):
        name = method.removeprefix(agent).removesuffix("_coarse")
        if method.startswith(agent) and name in KNOWN:
            return name
    return ""
