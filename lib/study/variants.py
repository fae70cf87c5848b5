"""Variants: the agent with one thing changed, same small budget, same test cases. What `make claims` runs.

A variant is a named set of overrides of the sections `stream`, `training` and `agent`, and little else. Notebooks 03
and 04 take its name as the parameter `variant`; its networks, rows and paths land in
`<run folder>/variants/<name>/`, its rows under the method `<agent>_<name>` in the common case-row CSV. Each is
compared with `<agent>_reference`, which has the same budget and nothing changed, never with the agent of Table 1.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lib.base.errors import UserError
from lib.study import config

REFERENCE = "reference"
BOTH = ("coarse", "fine")


@dataclass(frozen=True)
class Variant:
    """One thing changed. What is left empty is as in the reference."""

    what: str  # in words, for the tables
    stream: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    pairs: int = 0  # train on so many patients only; 0: all
    stages: tuple[str, ...] = BOTH  # networks trained; the whole budget is theirs
    learns: str = "actions"  # actions | parameters (one-shot regression) | stop (a 13th output)
    boost: float = 0.0  # share of samples from where the reference fails on training patients
    networks: str = ""  # walks with the networks of this variant; empty: with its own


PLAIN = {"affine": 0.0, "mirror": False, "perturb": False}  # de-alignment alone, which is no sample's choice
KNOWN = {
    "reference": Variant("nothing changed"),
    "again": Variant("nothing changed, another seed: how much two trainings differ", training={"seed": 1}),
    # How it is trained
    "no_affine": Variant("no affine co-deformation", {"affine": 0.0}),
    "affine25": Variant("co-deformation within ±0.25, as the paper", {"affine": 0.25}),
    "fixed30": Variant("fixed window moved by ±30 mm, ±30°, as the paper", {"fixed_shift": 30.0, "fixed_turn": 30.0}),
    "gain25": Variant("each image's own gain within ±25 %, as this study once had it", {"gain": 0.25}),
    "no_dense": Variant("no denser sampling near the truth", {"dense_share": 0.0}),
    "eq5": Variant("Eq. 5 as printed: value_weight 1", training={"value_weight": 1.0}),
    "pairs5": Variant("5 patients", pairs=5),
    "pairs10": Variant("10 patients", pairs=10),
    "pairs20": Variant("20 patients", pairs=20),
    "plain": Variant("no augmentation (co-deformation, mirroring, noise)", PLAIN),
    "pairs5_plain": Variant("5 patients, no augmentation", PLAIN, pairs=5),
    "pairs10_plain": Variant("10 patients, no augmentation", PLAIN, pairs=10),
    "pairs20_plain": Variant("20 patients, no augmentation", PLAIN, pairs=20),
    "one_network": Variant(
        "one coarse network with the budget of both", agent={"coarse_steps": 300}, stages=("coarse",)
    ),
    "one_network_200": Variant(
        "one coarse network, 200 steps instead of 300", stages=("coarse",), networks="one_network"
    ),
    # One-shot regression of the six parameters
    "regression": Variant(
        "one-shot regression of the six parameters",
        agent={"moves": "jumps", "coarse_steps": 1, "fine_steps": 1},
        learns="parameters",
    ),
    "regression_iterated": Variant(
        "the same regression, asked ten times a network",
        agent={"moves": "jumps", "coarse_steps": 10, "fine_steps": 10},
        networks="regression",
    ),
    "regression_steps": Variant("the same regression, followed in steps of one unit", networks="regression"),
    # Roll-outs of the reference's own networks
    "roi_centre": Variant("region of interest at the image's centre", agent={"refine": "centre"}, networks=REFERENCE),
    "roi_object": Variant("region of interest at the true vertebra", agent={"refine": "object"}, networks=REFERENCE),
    "saliency_first": Variant("saliency at the first state", agent={"refine": "saliency_first"}, networks=REFERENCE),
    "best_three": Variant(
        "one of the best three actions with probability 0.3", agent={"best_three": 0.3}, networks=REFERENCE
    ),
    # The authors' future work
    "stop": Variant("a 13th action, stop", agent={"stop": 0.5}, learns="stop"),
    "boosted": Variant("more samples from where it fails (training patients)", boost=0.25),
    "long_steps": Variant("step lengths 1 to 8: long far away, ±1 near", agent={"adaptive": True}, networks=REFERENCE),
}
FUTURE = ("stop", "boosted", "long_steps")


@dataclass(frozen=True)
class VariantSettings:
    """The agent that is varied, on one experiment, and the budget of each variant."""

    agent: str = "dsl_two_channel"  # dsl | dsl_two_channel
    experiment: str = "spine"  # one is enough for an ablation
    samples: int = 320  # training samples of a variant's coarse network
    fine_samples: int = 320  # and of its fine network
    known: dict[str, Variant] = field(default_factory=lambda: dict(KNOWN))  # name: what is changed


def resolve(cfg: config.Profile, settings: VariantSettings) -> config.Profile:
    """`cfg` with the overrides of `cfg.variant` in the sections that it has, the variant itself as `change`.

    Raises UserError for a name or an override that is none.
    """
    if cfg.variant not in settings.known:
        raise UserError(f"There is no variant {cfg.variant!r}; {config.hint(str(cfg.variant), settings.known)}")
    if cfg.experiment != settings.experiment:
        raise UserError(f"Variants run on {settings.experiment} only (variants.experiment), not on {cfg.experiment}.")
    change = settings.known[cfg.variant]
    budget = {"samples": settings.samples, "fine_samples": settings.fine_samples}
    if change.stages == ("coarse",):
        budget = {"samples": settings.samples + settings.fine_samples, "fine_samples": 0}
    wanted = {"stream": change.stream, "training": budget | change.training, "agent": change.agent}
    changed = {}
    for section, values in wanted.items():
        now = getattr(cfg, section)
        if now is not None:
            merged = config.merge(dataclasses.asdict(now), values)
            changed[section] = config.build(section, merged, f"variants.known.{cfg.variant}")
    return dataclasses.replace(cfg, change=change, **changed)


def source(cfg: config.Profile) -> config.Profile:
    """The profile whose networks `cfg` walks with: `cfg` itself, or that of the variant it names."""
    if cfg.change is None or not cfg.change.networks:
        return cfg
    base = {"experiment": cfg.experiment, "split": cfg.split, "variant": cfg.change.networks}
    return config.load(cfg.profile, ("patients", "stream", "training", "agent", "evaluation"), **base)


def method(cfg: config.Profile, agent: str) -> str:
    """Name of the agent's rows: its own, or `<agent>_<variant>`."""
    return agent if cfg.variant is None else f"{agent}_{cfg.variant}"


def name_of(method: str) -> str:
    """The variant behind a method's name, "" for none: dsl_two_channel_no_affine_coarse -> no_affine."""
    for agent in ("dsl_two_channel_", "dsl_"):
        name = method.removeprefix(agent).removesuffix("_coarse")
        if method.startswith(agent) and name in KNOWN:
            return name
    return ""
