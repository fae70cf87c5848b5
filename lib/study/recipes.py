"""Who trains: a population of patients, an agent and perhaps one change (`lib.study.schema.Recipe`) -> its networks.

`fresh+coarse_8mm` is the population `fresh` with the change `coarse_8mm`: a network that the change does not touch is the
population's own. A finished network is not trained again, an interrupted one goes on.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib import train
from lib.agent import Agent
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.base.sections import build, merge
from lib.network import Stage
from lib.patients import population
from lib.study import config, pairs, populations, train_agent
from lib.study.schema import BOTH, Change, Study


@dataclass(frozen=True)
class Maker:
    """One agent of a recipe. `samples`: its coarse network alone, trained with so many; 0: both, as the profile says.
    `seed` is added to the profile's."""

    experiment: str
    population: str
    agent: str
    change_name: str = ""
    change: Change | None = field(default=None, compare=False)
    samples: int = 0
    seed: int = 0
    # Whose networks it walks with, where the change borrows them.
    lent: Change | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """`fresh`, or `fresh+coarse_8mm`."""
        return "+".join(filter(None, (self.population, self.change_name)))

    @property
    def label(self) -> str:
        """What differs from its population's agent, for the column `change`."""
        samples, seed = (f"{word}_{n}" if n else "" for word, n in (("samples", self.samples), ("seed", self.seed)))
        return "_".join(filter(None, (self.change_name, samples, seed)))

    def without(self) -> Maker:
        """The same without the change."""
        return dataclasses.replace(self, change_name="", change=None)

    def trainer(self) -> Maker:
        """Who trains the networks: itself, or the change that lends them."""
        if self.lent is None:
            return self
        return dataclasses.replace(self, change_name=self.change.networks, change=self.lent, lent=None)


def makers(study: Study, experiment: str) -> list[Maker]:
    """All agents of a study's recipes for an experiment."""
    found = []
    for recipe in study.recipe:
        if experiment not in recipe.experiments:
            continue
        parts = (recipe.population, recipe.agents, recipe.changes or {"": None}, recipe.samples or (0,), recipe.seeds)
        for name, agent, change, samples, seed in itertools.product(*parts):
            made = recipe.changes.get(change)
            lent = recipe.changes[made.networks] if made and made.networks else None
            found.append(Maker(experiment, name, agent, change, made, samples, seed, lent))
    return found


def study_of(studies: Iterable[Study], experiment: str, population: str, agents: Sequence[str]) -> Study:
    """The first study that tries all these agents of a population. Raises UserError, with all there are, if none does."""
    studies, asked = list(studies), {Maker(experiment, population, agent) for agent in agents}
    for study in studies:
        if asked and asked <= set(makers(study, experiment)):
            return study
    some = (maker for study in studies for e in config.EXPERIMENTS for maker in makers(study, e))
    there = dict.fromkeys(f"{one.experiment} {one.population} {one.agent}" for one in some if not one.label)
    raise UserError(
        f"No study tries {experiment} {population} {', '.join(agents) or 'without agents'}; "
        f"there are: {'; '.join(there)}."
    )


def folder(cfg, maker: Maker) -> Path:
    """Where the networks of an agent are."""
    if maker.population == "released":
        return folders.results_root() / "agents" / maker.experiment
    if maker.population != "reproduce":
        name = f"{maker.name}_seed_{maker.seed}" if maker.seed else maker.name
        return folders.results_root() / "runs" / cfg.profile / maker.experiment / "transfer" / name / "agents"
    if maker.samples in (0, cfg.training.samples) and not maker.seed and maker.change is None:
        return config.agents_dir(cfg)
    return config.run_dir(cfg) / "curve" / f"{maker.agent}_{maker.label.removeprefix('samples_')}"


def networks(cfg, maker: Maker) -> dict[str, Path]:
    """Stage -> the weights that an agent walks with: its own, or, of a stage that its change does not touch, those of the
    population without it."""
    maker = maker.trainer()
    own = maker.change.stages if maker.change else BOTH
    stages = BOTH[:1] if _alone(maker) else BOTH
    return {s: folder(cfg, maker if s in own else maker.without()) / f"{maker.agent}_{s}.safetensors" for s in stages}


def wanted(cfg, maker: Maker) -> list[str]:
    """The stages that an agent has: E2 walks with the coarse network alone, unless the profile says otherwise."""
    fine = maker.experiment == "spine" or (cfg.training.heart_fine and maker.population == "reproduce")
    return list(BOTH if fine and not _alone(maker) else BOTH[:1])


def _alone(maker: Maker) -> bool:
    """Whether it has the coarse network alone: by its number of samples, or by its change."""
    return bool(maker.samples) or (maker.change is not None and maker.change.alone)


def there(cfg, maker: Maker) -> bool:
    """Whether every network of an agent is on this machine."""
    paths = networks(cfg, maker)
    return all(paths[stage].exists() for stage in wanted(cfg, maker))


def load(cfg, maker: Maker) -> Agent:
    """The agent, ready to walk."""
    paths = networks(cfg, maker)
    fine = paths.get("fine")
    return Agent(maker.agent, Stage.load(paths["coarse"]), Stage.load(fine) if fine and fine.exists() else None)


def applied(cfg, maker: Maker):
    """`cfg` with the change of an agent, and its budget, in the sections that it trains by."""
    maker = maker.trainer()
    if maker.population == "reproduce":
        budget = {"samples": maker.samples or cfg.training.samples}
    else:
        budget = populations.budget(cfg.transfer, maker.population, maker.change)
    seed = cfg.training.seed + maker.seed
    changed = {"training": dataclasses.replace(cfg.training, seed=seed, **budget)}
    for section in ("patients", "stream", "training"):
        values = getattr(maker.change, section, None)
        if values:
            merged = merge(dataclasses.asdict(changed.get(section, getattr(cfg, section))), values)
            changed[section] = build(section, merged, f"the change of {maker.name}")
    changed = dataclasses.replace(cfg, **changed)
    # What carries over to real scans is asked of both agents trained alike; Table 1's have settings of their own, over
    # which a change has the last word.
    if maker.population != "reproduce":
        return changed
    own = train_agent.own(dataclasses.replace(changed, change=maker.change), maker.agent)
    return dataclasses.replace(own, change=None)


def patients_root(cfg, maker: Maker) -> Path | None:
    """Where the patients of an agent are made: None, the usual place, unless its change makes other ones. Changes that
    make the same patients share them."""
    if maker.change is None or not maker.change.patients:
        return None
    return config.data_dir(cfg.profile).parent / "changed" / provenance.fingerprint(maker.change.patients)[:12]


def make(cfg, maker: Maker, stages=None, say=print) -> None:
    """Patients, pairs and networks of an agent, each made where it is missing."""
    maker = maker.trainer()
    if maker.population == "released":
        raise UserError(f"{folder(cfg, maker)}: no released agent {maker.agent} here; run `make reproduce` for one.")
    grown = populations.tasks(
        cfg.transfer, maker.experiment, maker.population, maker.change
    )  # first: names are checked
    own = maker.change.stages if maker.change else BOTH
    stages = stages or wanted(cfg, maker)
    kept = [stage for stage in stages if stage not in own]
    if kept:
        make(cfg, maker.without(), kept, say)
    changed, root = applied(cfg, maker), patients_root(cfg, maker)
    population.build(changed.patients, maker.experiment, cfg.profile, root, progress=say)
    if maker.population == "reproduce" and not maker.label:
        train_agent.agent(changed, maker.agent, say)  # as notebook 03
        return
    sides = pairs.split_folders(changed, root)
    sides["train"] = sides["train"][: (maker.change and maker.change.pairs) or None]
    sides["train"] += population.build_tasks(grown, changed.patients, cfg.profile, root, progress=say)
    for stage in [stage for stage in stages if stage in own]:
        started = time.time()
        data = [pairs.load_pairs(pairs.prepare_pairs(sides[s], stage, changed.stream)) for s in ("train", "validation")]
        what = dataclasses.replace(changed, change=maker.change)
        objective = train_agent.objective(what, maker.agent, stage, data[0], say)
        lesson = train.Lesson(changed.stream, changed.training, maker.experiment, stage, maker.agent, objective)
        path = train.train(lesson, *data, folder(cfg, maker), say=say)
        more = {"population": maker.name, "grown_from": sorted({task.source for task in grown})}
        provenance.record(path, changed, seeds={"training": changed.training.seed}, started=started, **more)
