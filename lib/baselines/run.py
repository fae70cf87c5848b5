"""Run a method over cases: the registry, the clock, and what happens when a tool is missing, refuses or crashes."""
from __future__ import annotations

import importlib
import time
import warnings
from dataclasses import replace

import numpy as np

from lib import normalise
from lib.baselines import common
from lib.cases import Case, Result

# name in the tables -> (module in lib.baselines, function, the package a reader may lack)
METHODS: dict[str, tuple[str, str, str]] = {
    "itk": ("itk", "register", "SimpleITK"),
    "itk_tuned": ("itk_tuned", "register", "SimpleITK"),
    "itk_search": ("itk_search", "register", "SimpleITK"),
    "quasi_global": ("quasi_global", "register", "SimpleITK"),
    "elastix": ("elastix", "register", "itk-elastix"),
    "ants": ("ants", "register", "antspyx"),
    "ants_search": ("ants", "search", "antspyx"),
    "greedy": ("greedy", "register", "picsl_greedy"),
    "greedy_search": ("greedy", "search", "picsl_greedy"),
}


def load(name: str):
    """The method's `register` function. Raises ImportError where its package is not installed, KeyError for no such name."""
    module, function, _ = METHODS[name]
    return getattr(importlib.import_module(f"lib.baselines.{module}"), function)


def run_case(name: str, case: Case, settings, model=None, mask=None) -> Result:
    """One method on one case, never raising for the method's sake: a missing package, a refusal or a crash becomes a
    `Result` with the initial pose and a `note` that says what happened.

    `model`: what `semantic.train` gave. `mask`: the fixed field of view, if already known.
    """
    settings = replace(settings, anatomy=case.patient.experiment)
    begin = time.perf_counter()
    try:
        register = load(name)
        mask = normalise.field_of_view(case.patient.fixed) if mask is None else mask
        extra = {} if model is None else {"model": model}
        rng = common.case_generator(settings, case.id, case.start)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = register(case.patient.fixed, case.patient.moving, case.initial, settings, mask, rng, **extra)
        if not np.isfinite(result.pose).all():
            raise RuntimeError("the pose is not finite")
        return result
    except ImportError as problem:
        note = f"not installed: pip install {METHODS[name][2]} ({problem})"
    except Exception as problem:  # a tool's refusal is a result, not the end of the run
        note = f"{type(problem).__name__}: {str(problem).strip().splitlines()[-1] if str(problem).strip() else ''}"
    return Result(case.initial, time.perf_counter() - begin, note[:200])
