"""How good registration of one's own pairs is: the verdict calibrated on training patients, starts on a pair."""

from __future__ import annotations

import dataclasses

import numpy as np

from lib import cases, register, trust

# Half ranges of the starts, mm and degrees.
RANGES = {"near": (30.0, 30.0, 30.0, 15.0, 15.0, 15.0), "paper": (30.0, 30.0, 150.0, 30.0, 30.0, 30.0)}  


def starts_table(patient, agent, n: int = 20, seed: int = 0, settings=None) -> list[dict]:
    """The agent alone (one start a case) from `n` random starts in each of `RANGES`: a row a range.

    Starts keep at least half of the field of view inside the CT, or as much of that as the truth has.
    """
    from lib.agent import AgentSettings, run

    best, rows = cases.overlap(patient, patient.truth), []
    for name, ranges in RANGES.items():
        some = cases.starts(patient, n, ranges, seed, 0.5 * min(best / 0.6, 1.0))
        found = run(agent, [patient.fixed] * n, [patient.moving] * n, np.stack([c.initial for c in some]),
                    settings or AgentSettings())  # fmt: skip
        errors = np.array([cases.error(c, r.pose) for c, r in zip(some, found, strict=True)])
        initial = np.array([c.initial_error for c in some])
        rows.append({
            "range": name, "n": n, "start_mm": round(float(np.median(initial)), 1),
            "within_10_mm": int((errors <= 10).sum()), "within_20_mm": int((errors <= 20).sum()),
            "median_mm": round(float(np.median(errors)), 1), "p90_mm": round(float(np.percentile(errors, 90)), 1),
        })  # fmt: skip
    return rows


def calibration(patients, agent, experiment: str, ranges=RANGES["paper"], n: int = 2, seed: int = 0, settings=None):
    """Full registrations (several starts, verdict) of training patients: rows with numbers and error.

    Returns (rows, summary): what `trust.calibrate` counts. Thresholds may then be moved in `TrustThresholds`.
    """
    settings, rows, trusts, errors = settings or register.RegisterSettings(), [], [], []
    for patient in patients:
        for case in cases.starts(patient, n, ranges, seed, 0.25):
            one = register.register(patient.fixed, patient.moving, experiment, case.initial, agent, settings=settings)
            errors.append(cases.error(case, one.pose))
            trusts.append(one.trust)
            numbers = {k: v for k, v in dataclasses.asdict(one.trust).items() if k != "reasons"}
            name = {"case": patient.id, "start": case.start, "verdict": one.trust.verdict}
            rows.append(name | {"error_mm": errors[-1]} | numbers)
    return rows, trust.calibrate(trusts, errors)


def rejudge(rows: list[dict], limits: trust.TrustThresholds) -> dict[str, float]:
    """What other thresholds would have said about the same rows (of `calibration`)."""
    trusts = []
    for row in rows:
        bad = (row["overlap"] < limits.min_overlap or row["agreement"] < limits.min_agreement
               or row["wander"] > limits.max_wander or row["margin"] < limits.min_margin
               or row["similarity"] < limits.min_similarity)  # fmt: skip
        numbers = (row[k] for k in ("overlap", "agreement", "wander", "margin", "similarity"))
        trusts.append(trust.Trust(*numbers, ["bad"] if bad else []))
    return trust.calibrate(trusts, [row["error_mm"] for row in rows])
