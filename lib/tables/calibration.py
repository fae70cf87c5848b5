"""`python -m lib calibrate`: the verdicts' limits, beside the agent as trust.json and judged.json, and the figure that tells
what the first is worth; docs/register.md shows the numbers.

They are found from the rows of the studies `trust_calibration` (the agent alone) and `judged_calibration` (search and
agent), of the heart both from `heart_calibration`.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base import folders
from lib.base.errors import UserError
from lib.figures import charts, studies
from lib.registration import judged, trust
from lib.registration.register import RegisterSettings
from lib.study import config
from lib.study import rows as study_rows
from lib.tables import limits
from lib.tables.words import table as as_markdown

LIMITS = {"spine": (10.0, "TRE"), "heart": (limits.ALIGNED, "the displacement of points 50 mm from the middle")}
MEANING = {
    "min_overlap": "share of the CBCT inside the CT, at least",
    "min_agreement": "share of the starts that end at one place, at least",
    "max_wander": "reach of the last 20 steps, mm, at most",
    "min_margin": "margin of the action values at the end, at least",
    "min_likeness": "correlation of local contrast, at least",
    "max_shift": "shift along the body to the best likeness, mm, at most",
    "min_lead": "likeness less that of the best other place, at least",
}
WHERE = {"trust_calibration": "field of view"}  # of the others: what is registered
KINDS = {"spine": (limits.AGENT, limits.BOTH), "heart": (limits.HEART, limits.HEART_BOTH)}


def markdown(rows: pd.DataFrame, c: trust.Calibration, kind: limits.Kind = limits.AGENT) -> str:
    """Counts and limits."""
    limit, measure = LIMITS[kind.experiment]
    grown = rows["case"].str.startswith("grown")
    n_good, lines = round(c.n * c.called_good), []
    for word, n, share in (("good", n_good, c.right_when_good), ("do not trust", c.n - n_good, c.right_when_not)):
        right = round(n * share) if n else 0
        lines.append([word, n, f"{right}{f' ({share:.0%})' if n else ''}", n - right])
    values, bone = dataclasses.asdict(c.limits), kind.experiment == "spine"
    meaning = MEANING | (_of_the_judge(bone) if kind.limits is judged.JudgedLimits else {})
    meaning = {name: meaning[name] for name in values if name in meaning}
    parts = [
        f"**{'E1 spine' if kind.experiment == 'spine' else 'E2 heart'}**: {rows['case'].nunique()} patients "
        f"({rows['case'][grown].nunique()} of them grown from real CTs), {len(rows)} registrations; right is "
        f"{measure} ≤ {limit:.0f} mm.",
        as_markdown(["verdict", "cases", "right", "wrong"], lines),
        as_markdown(
            [WHERE.get(kind.study, "what is registered"), "cases", "right", "called good", "of these right"],
            _by_view(rows, kind),
        ),
        "Each patient's cases are judged by limits found without them. The limits from all cases:",
        as_markdown(["limit", ""], [[text, f"{values[name]:g}"] for name, text in meaning.items()]),
    ]
    return "\n\n".join(parts)


def _of_the_judge(bone: bool) -> dict[str, str]:
    """What the judge's limits mean, of the spine (at bone) or the heart."""
    return {
        "min_likeness": f"likeness{judged.AT_BONE[bone]}, at least",
        "min_lead": "lead over any other place that was found, at least",
        "min_lead_alone": "the same where one scout alone found it",
        "min_beside": f"lead over {judged.NEXT[bone]}, at least",
    }


def _by_view(rows: pd.DataFrame, kind: limits.Kind) -> list[list]:
    """A line a condition: cases, right, called good, right of these."""
    rows, lines = rows.assign(good=limits.left_out(rows, kind)), []
    for view in dict.fromkeys(["whole", *rows["condition"]]):
        some = rows[rows["condition"] == view]
        counts = some["success"].sum(), some["good"].sum(), some.loc[some["good"], "success"].sum()
        lines.append([view, len(some), *counts])
    return lines


def block(folder, kind: limits.Kind = limits.AGENT) -> str:
    """What docs/register.md shows of a verdict, from the rows and the limits in a folder of results."""
    agent = Path(folder) / "agents" / kind.experiment
    network = agent / f"{RegisterSettings().agent}_coarse.safetensors"
    found = trust.load(agent, network, kind.file, kind.limits)
    return markdown(limits.read(folder, kind), found, kind)


def heart_block(folder) -> str:
    """The same of the heart: search and agent under one judge."""
    return block(folder, limits.HEART_BOTH)


def judged_block(folder) -> str:
    """The same of search and agent under one judge."""
    return block(folder, limits.BOTH)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--experiment", default="spine", choices=tuple(KINDS))


def run(options) -> None:
    """Limits beside the released agent, and the figure. Raises UserError without rows."""
    experiment, results = options.experiment, config.results_dir("cpu")
    folder = folders.results_root() / "agents" / experiment
    network = folder / f"{RegisterSettings().agent}_coarse.safetensors"
    for kind in KINDS[experiment]:
        rows, judges = limits.read(results, kind), kind.limits is judged.JudgedLimits
        if rows.empty and judges:
            print(f"{kind.file}: not written, there are no rows; run `python -m lib study {kind.study}` first")
            continue
        if rows.empty:
            raise UserError(f"There are no rows to find limits on; run `python -m lib study {kind.study}` first.")
        found = limits.calibrate(rows, network, kind)
        trust.save(found, folder, kind.file)
        if judges:
            for study in judged_again(results, found.limits, kind):
                print(f"rows/{study}.csv: judged again by the limits found")
        if kind is limits.AGENT:
            _draw(rows, found, experiment, results)
        print(
            f"{kind.file}: {found.called_good:.0%} of {found.n} called good, {found.right_when_good:.0%} of these right; "
            f"{found.limits}"
        )


def judged_again(results, after, kind: limits.Kind) -> list[str]:
    """Verdicts of the released command in the rows of all studies of the kind's experiment, from the numbers that stand in
    them, by the limits `after`. Returns the studies changed."""
    changed = []
    for path in sorted((Path(results) / "rows").glob("*.csv")):
        rows = study_rows.read(results, path.stem)
        mine = (
            rows["method"].isin(kind.methods) & (rows["recipe"] == "released") & rows["numbers"].str.contains("beside=")
        )
        mine &= rows["experiment"] == kind.experiment
        if not mine.any():
            continue
        some = pd.concat([rows[mine], study_rows.numbers(rows[mine])], axis=1)
        verdicts = np.where(limits.called_good(some, after, kind), "good", "do not trust")
        if (verdicts != some["verdict"]).any():
            study_rows.judge_again(
                path, rows, rows["verdict"].mask(mine, pd.Series(verdicts, rows.index[mine])), asdict(after)
            )
            changed.append(path.stem)
    return changed


def _draw(rows, found, experiment: str, results) -> None:
    limit, measure = LIMITS[experiment]
    picture = studies.calibration(rows, limits.called_good(rows, found.limits), found.limits, limit, measure)
    source = [Path(results) / "rows" / "trust_calibration.csv"]
    charts.save(picture, results / "figures" / "trust_calibration.png", {"cfg": None, "inputs": source})
