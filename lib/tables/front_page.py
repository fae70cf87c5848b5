"""The animation on the front page: the released agent walks home on the real pair, from a start of its committed rows.

`python -m lib animation` writes results/figures/agent_walks_home.gif, with provenance. The pair is a real CT with its
real CBCT; its truth is an estimate, and so is every distance shown.
"""

from __future__ import annotations

import argparse

import numpy as np

from lib import agent as agents
from lib import cases, metrics
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.study import rows as study_rows

PAIR, START, NAME = "pancreatic_ct_cbct_001", 6, "agent_walks_home.gif"
SEED, MIN_OVERLAP, STARTS = 2017, 0.5, 10  # as the study's rows on the pair were drawn
STEPS = agents.AgentSettings(coarse_steps=200, fine_steps=100, fine_limit=25.0)
AGENT = "dsl_two_channel"
TITLE = "Real CBCT and real CT of one patient; home is an estimate"  # on every frame


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("--start", type=int, default=START, help=f"which of its {STARTS} far starts (default: {START})")


def run(options) -> None:
    """Walk, draw, say what was drawn. Raises UserError without the pair, or for a start that is none."""
    from lib.figures import animation
    from lib.figures.scans import object_centre
    from lib.patients import real
    from lib.patients.scans import manifest

    if not 0 <= options.start < STARTS:
        raise UserError(f"--start {options.start}: the starts are numbered 0 to {STARTS - 1}.")
    scan = manifest.scan(PAIR)
    patient = real.of_scan(scan, "spine")[0]
    ranges = metrics.EvaluationSettings().ranges("spine")
    tried = cases.starts(patient, STARTS, ranges, SEED, MIN_OVERLAP)
    networks = folders.ROOT / "results" / "agents" / "spine"
    agent = agents.Agent.load(networks, AGENT)
    walked = agents.run(agent, *_images(patient), np.stack([case.initial for case in tried]), STEPS)
    case, path = tried[options.start], walked[options.start].trajectory
    errors = np.array([cases.error(case, pose) for pose in path])
    out = folders.results_root() / "figures" / NAME
    animation.write(out, patient.fixed, patient.moving, path, errors, object_centre(patient), TITLE)
    first, last = round(float(errors[0]), 1), round(float(errors[-1]), 1)
    provenance.record(
        out,
        seeds={"starts": SEED},
        inputs=[networks / f"{AGENT}_{stage}.safetensors" for stage in ("coarse", "fine")],
        case={"scan": PAIR, "start": options.start, "start_mm": first, "end_mm": last, "row": _row(options.start)},
    )
    print(f"{out}: start {options.start}, from {first} mm to {last} mm, {out.stat().st_size / 1e6:.1f} MB")


def _images(patient) -> tuple[list, list]:
    """Fixed and moving once for each start: all walk together, as in the study."""
    return [patient.fixed] * STARTS, [patient.moving] * STARTS


def _row(start: int) -> float | None:
    """Where the study's committed row of this start ended, mm; None without rows. Another processor may end elsewhere."""
    rows = study_rows.read(folders.ROOT / "results", "real_scans")
    mine = rows.query("dataset == @PAIR and recipe == 'without_1' and range == 'full' and method == @AGENT")
    found = mine.loc[mine["start"] == start, "final_error_mm"]
    return float(found.iloc[0]) if len(found) else None
