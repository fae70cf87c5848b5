"""`python -m lib calibrate`: the verdict's limits from the rows of the study `trust_calibration`, written beside the agent as
trust.json, with the figure and docs/trust.md that tell what the verdict is worth."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pandas as pd

from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.figures import charts, studies
from lib.registration import trust
from lib.registration.register import RegisterSettings
from lib.study import config
from lib.tables import limits

LIMITS = {"spine": (10.0, "TRE"), "heart": (20.0, "MME")}
MEANING = {
    "min_overlap": "share of the CBCT inside the CT, at least",
    "min_agreement": "share of the starts that end at one place, at least",
    "max_wander": "reach of the last 20 steps, mm, at most",
    "min_margin": "margin of the action values at the end, at least",
    "min_likeness": "correlation of local contrast, at least",
    "max_shift": "shift along the body to the best likeness, mm, at most",
    "min_lead": "likeness less that of the best other place, at least",
}


def markdown(rows: pd.DataFrame, c: trust.Calibration, experiment: str) -> str:
    """Counts and limits."""
    limit, measure = LIMITS[experiment]
    grown = rows["case"].str.startswith("grown")
    lines = [
        f"**{'E1 spine' if experiment == 'spine' else 'E2 heart'}**: {rows['case'].nunique()} patients "
        f"({rows['case'][grown].nunique()} of them grown from real CTs), {len(rows)} registrations; right is "
        f"{measure} ≤ {limit:.0f} mm.",
        "",
        "| verdict | cases | right | wrong |",
        "|---|---|---|---|",
    ]
    n_good = round(c.n * c.called_good)
    for word, n, share in (("good", n_good, c.right_when_good), ("do not trust", c.n - n_good, c.right_when_not)):
        right = round(n * share) if n else 0
        lines.append(f"| {word} | {n} | {right}{f' ({share:.0%})' if n else ''} | {n - right} |")
    lines += [
        "",
        *_by_view(rows),
        "Each patient's cases are judged by limits found without them. The limits from all cases:",
        "",
    ]
    lines += ["| limit | |", "|---|---|"]
    values = dataclasses.asdict(c.limits)
    return "\n".join(lines + [f"| {text} | {values[name]:g} |" for name, text in MEANING.items()])


def _by_view(rows: pd.DataFrame) -> list[str]:
    """The same by how much of the field of view there was."""
    lines = ["| field of view | cases | right | called good | of these right |", "|---|---|---|---|---|"]
    rows = rows.assign(good=limits.left_out(rows))
    for view in dict.fromkeys(["whole", *rows["condition"]]):
        some = rows[rows["condition"] == view]
        counts = (len(some), some["success"].sum(), some["good"].sum(), some.loc[some["good"], "success"].sum())
        lines.append(f"| {view} | " + " | ".join(str(n) for n in counts) + " |")
    return [*lines, ""]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--experiment", default="spine", choices=("spine",))


def run(options) -> None:
    """Limits beside the released agent, the figure, and the numbers in docs/trust.md. Raises UserError without rows."""
    from lib.tables.table1 import inject

    experiment, results = options.experiment, config.results_dir("cpu")
    rows = limits.read(results)
    if rows.empty:
        raise UserError("There are no rows to find limits on; run `python -m lib study trust_calibration` first.")
    folder = folders.results_root() / "agents" / experiment
    found = limits.calibrate(rows, folder / f"{RegisterSettings().agent}_coarse.safetensors")
    trust.save(found, folder)
    limit, measure = LIMITS[experiment]
    picture = studies.calibration(rows, limits.called_good(rows, found.limits), found.limits, limit, measure)
    source = [Path(results) / "rows" / "trust_calibration.csv"]
    charts.save(picture, results / "figures" / "trust_calibration.png", {"cfg": None, "inputs": source})
    page = config.ROOT / "docs" / "trust.md"
    text = inject(page.read_text(encoding="utf-8"), f"TRUST_{experiment.upper()}", markdown(rows, found, experiment))
    with provenance.atomic(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(
        f"{found.called_good:.0%} of {found.n} called good, {found.right_when_good:.0%} of these right; {found.limits}"
    )
