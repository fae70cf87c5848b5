"""Numbers of docs/at_first.md: the paper's agent and the starts of the hearts as Table 1 has them, and what Eq. 5 weighs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, metrics
from lib.baselines.methods import label, learnt_on, order
from lib.metrics import PAPER
from lib.study import rows as study_rows
from lib.study import schema
from lib.tables import evidence
from lib.tables.limits import ALIGNED
from lib.tables.rows import main_methods
from lib.tables.words import number, percent, table


def _line(folder: Path, experiment: str, method: str) -> dict:
    """The simulated patients' line of table1.csv. Raises KeyError where the method was not run."""
    rows = pd.read_csv(folder / "table1.csv")
    mine = rows[(rows["experiment"] == experiment) & (rows["method"] == method)]
    mine = mine[mine["dataset"] == f"virtual_{experiment}"].to_dict("records")
    if not mine:
        raise KeyError(f"table1.csv has no line of {method} on virtual_{experiment}")
    return mine[0]


def _cells(line: dict) -> list[str]:
    """Success with its interval, and the three percentiles."""
    interval = f"[{100 * line['success_low']:.0f}, {100 * line['success_high']:.0f}]"
    return [f"{percent(line['success'])} {interval}", " / ".join(number(line[name]) for name in ("p10", "p50", "p90"))]


def _of_paper(experiment: str, method: str) -> list[str]:
    """The same of the paper's Table 1."""
    success, *errors = PAPER[experiment][method]
    return ["" if success is None else percent(success), " / ".join(number(error) for error in errors)]


def papers_agent(folder: Path) -> str:
    """The paper's agent on the spine: the studies `papers_agent`, `with_additions` and `mirrored`, the paper."""
    new, old, mirrored = (study_rows.read(folder, name) for name in ("papers_agent", "with_additions", "mirrored"))
    new, lines = new[new["experiment"] == "spine"], []
    stages = {
        "dsl_coarse": "coarse alone",
        "dsl": "coarse and fine",
        "dsl_object": "the fine window at the true vertebra",
    }
    for method, stage in stages.items():
        for rows, words in ((old, "with additions"), (new, "as the paper"), (mirrored, "as the paper, but mirrored")):
            mine = rows[rows["method"] == method]
            if not len(mine):
                continue
            splits, seeds = sorted(set(mine["split"])), mine["seed"].nunique() if "seed" in mine else 1
            what = f"{words}, {stage}, " + (f"split {splits[0]}" if len(splits) == 1 else f"{len(splits)} splits")
            what += f", {seeds} trainings" if seeds > 1 else ""
            lines.append([what, *_cells(_summary(mine)), len(mine)])
    head = ["`dsl`, E1 spine", "success", "TRE, 10th / 50th / 90th (mm)", "n"]
    return table(head, [*lines, ["the paper", *_of_paper("spine", "dsl"), 250]])


def _summary(rows: pd.DataFrame) -> dict:
    """Case rows as `_line` gives a line: success with its interval (over patients) and percentiles."""
    low, high = metrics.success_interval(rows["success"], rows["case"])
    spread = dict(zip(("p10", "p50", "p90"), metrics.percentiles(rows["final_error_mm"]), strict=True))
    return {"success": rows["success"].mean(), "success_low": low, "success_high": high, **spread}


def hearts(folder: Path) -> str:
    """The hearts as they are now: their starts, unmoved, what is left at the truth, the paper's rivals and its agent."""
    head = ["E2 heart", "success", "MME, 10th / 50th / 90th (mm)", "the paper: success", "10th / 50th / 90th (mm)"]
    methods = {
        "initial": "the starts, unmoved",
        "ground_truth": "annotation alone",
        "itk": "ITK, as published",
        "quasi_global": "Quasi-global",
        "semantic": "Semantic",
        "dsl": "`dsl`",
    }
    lines = [[words, *_cells(_line(folder, "heart", m)), *_of_paper("heart", m)] for m, words in methods.items()]
    all_of_it = evidence.load(folder).of("heart", "dsl")
    if (trainings := evidence.trained(all_of_it)) > all_of_it["split"].nunique():
        lines.append([f"`dsl`, all {trainings} trainings", *_cells(_summary(all_of_it)), *_of_paper("heart", "dsl")])
    return table(head, lines)


def hearts_turned(folder: Path) -> str:
    """E2 by the paper's criterion, and by one that sees rotation, a line a method."""
    rows = cases.read_rows(folder / "cases.csv")
    rows, lines = rows[rows["dataset"] == "virtual_heart"], []
    for method in order(main_methods(rows)["method"].unique()):
        mine = rows[rows["method"] == method]
        if learnt_on(method) or method == "human":
            continue
        off = cases.displaced(mine)
        low, high = metrics.success_interval(off <= ALIGNED, mine["case"])
        aligned = f"{percent((off <= ALIGNED).mean())} [{100 * low:.0f}, {100 * high:.0f}]"
        lines.append([label(method), percent(mine["success"].mean()), aligned, number(np.median(off)), len(mine)])
    return table(["E2 heart", "MME ≤ 20 mm", f"pose within {ALIGNED:.0f} mm", "median, mm", "n"], lines)


def eq5(folder: Path) -> str:
    """What the twelve values of a state share, and what tells them apart (`lib.theory.conditioning`)."""
    found = json.loads((folder / "theory.json").read_text(encoding="utf-8")).get("eq5", {})
    head = ["starts of", "variance that all actions share", "variance between them", "how many times as much"]
    lines = [
        [name, number(v["shared"], 2), number(v["between"], 2), number(v["shared"] / v["between"])]
        for name, v in found.items()
    ]
    return table(head, lines)


def eq5_trained(folder: Path) -> str:
    """The coarse network of the spine with what all actions share weighted, as printed, and weighted first (study `eq5`)."""
    rows, changes = study_rows.read(folder, "eq5"), schema.load("eq5").changes()
    lines = []
    for name, change in changes.items():
        mine = rows[rows["change"].str.startswith(f"{name}_")]
        lines.append([change.what, *_cells(_summary(mine)), len(mine)])
    return table(["the loss", "success", "TRE, 10th / 50th / 90th (mm)", "n"], lines)
