"""How a study's methods are run on cases: the start itself, an agent's walk, the command `register`, a baseline.

Each gives a `Found` a case; what decides a result besides its start is its `depends`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lib import cases, network
from lib.base import provenance
from lib.base.sections import build, merge
from lib.baselines import methods as registry
from lib.baselines import run
from lib.baselines.settings import BaselineSettings
from lib.cases import Case, Result
from lib.registration import judged, register, trust
from lib.registration.judge import JudgeSettings
from lib.study import recipes, walk
from lib.study.schema import Method


@dataclass
class Found:
    """A result; of the command also its verdict and the numbers behind it."""

    result: Result
    verdict: str = ""
    numbers: str = ""


def depends(cfg, method: Method, maker: recipes.Maker | None, real: bool) -> list:
    """What decides a method's result besides the case."""
    networks = []
    if maker is not None:
        networks = [provenance.sha256(p) for p in recipes.networks(cfg, maker).values() if p.exists()]
    if method.walks():
        polish = dataclasses.asdict(cfg.baselines.polish) if method.then else None
        return [method.stage, networks, dataclasses.asdict(agent_settings(cfg, method, real, maker)), polish]
    if method.trained():
        settings = dataclasses.asdict(register_settings(cfg, method))
        if settings.pop("scouts") == "agent":
            return [method.label(maker.agent), networks, settings]
        found = BaselineSettings(anatomy=cfg.experiment).of("fft_search")
        searched = [dataclasses.asdict(found), dataclasses.asdict(JudgeSettings())]
        return [method.label(maker.agent), networks, settings, searched]
    settings = dataclasses.asdict(settings_of(cfg, method)) | {"anatomy": cfg.experiment}
    return [method.method, settings["seed"], registry.settings_of(method.method, settings)]


def agent_settings(cfg, method: Method, real: bool, maker: recipes.Maker | None = None):
    """How an agent walks. On real scans a fine path that leads far away is not followed; what its change says of walking
    has the last word but for the method's own."""
    usual = dataclasses.replace(cfg.agent, fine_limit=cfg.transfer.fine_limit) if real else cfg.agent
    if maker is not None and maker.change is not None and maker.change.agent:
        usual = build("agent", merge(dataclasses.asdict(usual), maker.change.agent), f"the change {maker.change_name}")
    if method.refine == "object":
        usual = dataclasses.replace(usual, refine=method.refine)
    if method.steps == "one":
        return usual
    usual = dataclasses.replace(usual, adaptive=True)
    few = {k: round(getattr(usual, k) / 3) for k in ("coarse_steps", "fine_steps")}
    return dataclasses.replace(usual, **few) if method.steps == "third" else usual


def settings_of(cfg, method: Method):
    """The settings of the baselines, with those that the study changes."""
    if not method.settings:
        return cfg.baselines
    merged = merge(dataclasses.asdict(cfg.baselines), method.settings)
    return build("baselines", merged, f"the settings {method.change or method.method}")


def walks(cfg, agent, todo: Sequence[Case], method: Method, real: bool, maker: recipes.Maker | None) -> list[Found]:
    """The agent of `maker` from each case's start; of both networks or of the coarse one alone."""
    if method.stage == "coarse":
        agent = dataclasses.replace(agent, fine=None)
    device = str(network.device_for())
    ends = walk.walk(cfg, agent, todo, agent_settings(cfg, method, real, maker))
    return [Found(Result(end.pose, end.seconds, device=device)) for end in ends]


def polished(cfg, todo: Sequence[Case], before, method: Method) -> list[Found]:
    """Tuned mutual information from where the agent ended: `before`, its rows (DataFrame)."""
    ends = {(row["case"], row["start"]): row for row in before.to_dict("records")}
    rows = [ends[case.id, case.start] for case in todo]
    begun = [dataclasses.replace(c, initial=cases.pose_of(r, c.patient)) for c, r in zip(todo, rows, strict=True)]
    ((_, results),) = run.run_methods(["dsl_polish"], begun, cfg.baselines)
    taken = [result.seconds + row["seconds"] for result, row in zip(results, rows, strict=True)]
    return [Found(dataclasses.replace(r, seconds=s)) for r, s in zip(results, taken, strict=True)]


def register_settings(cfg, method: Method):
    """The command's settings, with the scouts that a method of `schema.COMMANDS` names."""
    scouts = {"register_both": "both", "register_search": "search"}.get(method.method, "agent")
    return dataclasses.replace(cfg.register, scouts=scouts)


def command(cfg, agent, case: Case, methods: Sequence[Method]) -> list[Found]:
    """The command as a user gives it, with `case.initial` as its initial pose: all `methods` from one run."""
    who, settings = case.patient, register_settings(cfg, methods[0])
    words = {"initial": case.initial, "agent": agent, "settings": settings}
    one = register.register(who.fixed, who.moving, who.experiment, **words)
    taken, found = one.seconds, []
    words = " ".join(f"{name}={round(value, 4):g}" for name, value in _numbers(one.trust).items())
    for method in methods:
        if method.method == "register_once":
            found.append(Found(Result(one.ends[0], taken["agent"] / len(one.ends))))
        else:
            found.append(Found(Result(one.pose, taken["total"]), one.trust.verdict, words))
    return found


def _numbers(verdict: trust.Trust | judged.Judged) -> dict[str, float]:
    """The numbers behind a verdict and, where there are some, how many `doubts` it has besides what the limits say."""
    numbers, module = verdict.numbers(), judged if isinstance(verdict, judged.Judged) else trust
    doubts = len(verdict.reasons) - sum(map(bool, module.failed(numbers, verdict.calibration.limits).values()))
    return numbers | ({"doubts": doubts} if doubts else {})


def taught(cfg, people: Sequence, missing: Sequence, method: Method) -> Iterator[tuple[Sequence, dict | None]]:
    """(people that are `missing`, what the method has learnt before it registers them). Semantic registration learns from
    the other half of all `people`, each half in its turn; no other baseline learns anything."""
    if registry.base(method.method) != "semantic":
        yield missing, None
        return
    from lib.baselines import semantic

    for mine, others in ((people[::2], people[1::2]), (people[1::2], people[::2])):
        some = [one for one in mine if one in missing]
        if some and others:
            yield some, {method.method: semantic.train((one.load() for one in others), settings_of(cfg, method))}


def baselines(
    cfg, todo: Sequence[Case], method: Method, keep: Callable[[Sequence[int], list[Found]], None], models=None
):
    """A baseline on all cases, patients side by side; keep(case numbers, results) after each patient. models: what `taught`
    gave."""

    def kept(name, numbers, results):
        keep(numbers, [Found(result) for result in results])

    for _ in run.run_methods([method.method], todo, settings_of(cfg, method), models, keep=kept):
        pass


def row(study: str, reach: str, condition: str, person, case: Case, method: Method, maker, found: Found, cfg) -> dict:
    """The row of a result (`lib.study.rows.COLUMNS`), but for what made it."""
    new = {"study": study, "range": reach, "condition": condition, "group": person.group, "change": method.change}
    new |= {"then": method.then, "verdict": found.verdict, "numbers": found.numbers}
    if maker is None:
        return new | cases.row(case, method.label(""), found.result, cfg)
    steps = method.steps if method.walks() else "adaptive" if cfg.register.adaptive else "one"
    new |= {"recipe": maker.population, "change": maker.label, "agent": maker.agent}
    new |= {"stage": method.stage, "steps": steps}
    if maker.population != "released":
        training = recipes.applied(cfg, maker).training
        new |= {"seed": str(training.seed), "samples": str(training.samples)}
    return new | cases.row(case, method.label(maker.agent), found.result, cfg)
