"""Run methods over cases: the clock, the processes, and what happens when a tool is missing, refuses or crashes.

Seconds are those of one core (`time.process_time`; every method has one thread): a machine that is busy with
something else does not make a method slower in the tables.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np

from lib.base import pools
from lib.baselines import common
from lib.baselines.methods import METHODS, base, check, load
from lib.cases import Case, Result
from lib.images import normalise, values


def run_case(name: str, case: Case, settings, model=None, mask=None) -> Result:
    """One method on one case, never raising for the method's sake: a missing package, a refusal or a
    crash becomes a `Result` with the initial pose and a `note` that says what happened.

    `model`: what `semantic.train` gave. `mask`: the fixed field of view, if already known. Methods get the CBCT in HU, as
    the command reads it: whoever cuts values at some HU would see half of the scanners' scans as one grey.
    """
    settings = replace(settings, anatomy=case.patient.experiment)
    begin = time.process_time()
    try:
        register = load(name)
        mask = normalise.field_of_view(case.patient.fixed) if mask is None else mask
        extra = {"model": model} if base(name) == "semantic" else {}
        fixed, _ = values.settle(case.patient.fixed, "cbct")
        rng = common.case_generator(settings, case.id, case.start)
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = register(fixed, case.patient.moving, case.initial, settings, mask, rng, **extra)
        if not np.isfinite(result.pose).all():
            raise RuntimeError("the pose is not finite")
        return result
    except ImportError as problem:
        note = f"not installed: pip install {METHODS[base(name)].package} ({problem})"
    except Exception as problem:  # a tool's refusal is a result, not the end of the run
        said = str(problem).strip().splitlines() or [""]
        note = f"{type(problem).__name__}: {said[-1]}"
    return Result(case.initial, time.process_time() - begin, note[:200])


def run_methods(
    names: Sequence[str], cases: Sequence[Case], settings, models=None, known=None, keep=None
) -> Iterator[tuple[str, list[Result]]]:
    """Several methods over the same cases, in `settings.workers` processes of one thread; yields (name,
    results in the order of `cases`) as each method ends.

    A patient's starts go to one process. A tool that takes its process down (a segmentation fault cannot
    be caught) is tried once more alone, case by case; the case that does it again is noted as a crash.
    Raises UserError for an unknown method.

    models: name -> what `semantic.train` gave. known: name -> {case number: Result} of an earlier run.
    keep(name, case numbers, results) is called after each patient.
    """
    check(names)
    models, known = models or {}, known or {}
    results: dict[str, dict[int, Result]] = {name: dict(known.get(name, {})) for name in names}
    by_patient: dict[tuple[str, str], list[int]] = {}
    for name in names:
        for n, case in enumerate(cases):
            if n not in results[name]:
                by_patient.setdefault((name, case.id), []).append(n)
    for name in names:
        if len(results[name]) == len(cases):
            yield name, [results[name][n] for n in range(len(cases))]
    jobs = [(name, tuple(group)) for (name, _), group in by_patient.items()]
    for (name, group), done in _in_processes(jobs, cases, settings, models):
        results[name].update(zip(group, done, strict=True))
        if keep is not None:
            keep(name, group, done)
        if len(results[name]) == len(cases):
            yield name, [results[name][n] for n in range(len(cases))]


def _in_processes(jobs, cases, settings, models):
    """Yield (job, results), job = (method, case numbers); what a dead process left undone is run alone
    afterwards.
    """
    broken, finished = [], set()
    with pools.pool(settings.workers, pools.one_thread) as pool:
        sent = {
            pool.submit(run_group, job[0], [cases[n] for n in job[1]], settings, models.get(job[0])): job
            for job in jobs
        }
        try:
            for future in as_completed(sent):
                yield sent[future], future.result()
                finished.add(sent[future])
        except BrokenProcessPool:
            broken = [job for job in jobs if job not in finished]
    for name, group in broken:
        yield (name, group), [_alone(name, cases[n], settings, models.get(name)) for n in group]


def _alone(name, case, settings, model) -> Result:
    begin = time.perf_counter()  # the time of a process that died is not known otherwise
    with pools.pool(1, pools.one_thread) as pool:
        try:
            return pool.submit(run_group, name, [case], settings, model).result()[0]
        except BrokenProcessPool:
            return Result(case.initial, time.perf_counter() - begin, "crashed: the tool ended its process")


def run_group(name: str, cases: Sequence[Case], settings, model=None) -> list[Result]:
    """One method on cases of one patient, whose field of view is found once."""
    mask = normalise.field_of_view(cases[0].patient.fixed)
    return [run_case(name, case, settings, model, mask) for case in cases]
