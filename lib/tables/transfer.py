"""What carries over to real scans: `transfer.csv`, a line for every population's agent, and what is shown of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import metrics
from lib.study import schema
from lib.tables.shares import NUMBERS, numbers, rounded
from lib.tables.words import table as as_markdown

CHANGES = schema.load("transfer_changes").changes()
GAIN = ("gain", "gain_low", "gain_high")  # of a change: success less that of its `reference`, from the same starts
TRANSFER = ("experiment", "range", "population", "method", "scans", *NUMBERS, *GAIN, "command")
# What docs/real_scans.md shows: population, agent, words.
FRESH = "drawn patients and 8 grown from one real CT, 120,000 samples"
SHOWN = (
    ("drawn", "dsl_two_channel", "drawn patients alone, 120,000 samples"),
    ("fresh", "dsl_two_channel", FRESH),
    ("fresh", "dsl", "input: the difference image alone (the paper)"),
    ("fresh", "dsl_three_channel", "input: both images and their difference"),
    *((f"fresh+{name}", "dsl_two_channel", CHANGES[name].what) for name in CHANGES if not name.startswith("scans")),
    ("without_0", "dsl_two_channel", "drawn patients and 8 from each of five real CTs, 360,000 samples"),
    *((f"without_0+{name}", "dsl_two_channel", CHANGES[name].what) for name in CHANGES if name.startswith("scans")),
)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """`TRANSFER`: a line for every population's agent and range, over all scans it may be tried on."""
    lines, mine = [], rows[rows["population"] != ""]
    for (experiment, reach, population, method), found in mine.groupby(["experiment", "range", "population", "method"]):
        study = found["study"].iloc[0]
        command = f"make reproduce && python -m lib study {study}" if population == "reproduce" else None
        command = command or f"python -m lib study {study} --only {population}"
        same = mine[(mine["experiment"] == experiment) & (mine["range"] == reach) & (mine["method"] == method)]
        compared = gain(found, same[same["population"] == reference(population)])
        values = numbers(found, found["dataset"])
        lines.append((experiment, reach, population, method, found["dataset"].nunique(), *values, *compared, command))
    return rounded(pd.DataFrame(lines, columns=TRANSFER)).round(dict.fromkeys(GAIN, 3))


def reference(population: str) -> str:
    """The population that one with a change is compared with; itself where there is no change."""
    base, plus, name = population.partition("+")
    against = CHANGES[name].against if plus else ""
    return f"{base}+{against}" if against else base


def gain(changed: pd.DataFrame, without: pd.DataFrame) -> tuple[float, float, float]:
    """`GAIN` of case rows over those of the population that it is compared with, on the starts of both, with its 95 % interval
    (over scans); NaN where there is nothing to compare."""
    key = ["dataset", "case", "start"]
    both = changed.merge(without, on=key, suffixes=("", "_without"))
    if not len(both) or changed["population"].iloc[0] == without["population"].iloc[0]:
        return np.nan, np.nan, np.nan
    found = metrics.paired(both["success"], both["success_without"], both["dataset"])
    return found["difference"], found["low"], found["high"]


def _bounds(line) -> str:
    """The interval of a gain; nothing where no start ended otherwise."""
    low, high = line["gain_low"], line["gain_high"]
    return "" if pd.isna(low) else f" [{100 * low:+.0f}, {100 * high:+.0f}]"


def markdown(lines: pd.DataFrame) -> str:
    """docs/real_scans.md's table from `transfer.csv`: success of the coarse network alone and of both, near and far starts."""
    spine = lines[lines["experiment"] == "spine"].set_index(["population", "method", "range"])
    head = ["population", "what is changed", "scans, starts", "coarse alone: near, far", "both, near", "both, far"]
    head += ["difference that the change makes: near, far (points)"]
    out = []
    for population, agent, words in SHOWN:
        both = [spine.loc[(population, agent, r)] for r in ("near", "full") if (population, agent, r) in spine.index]
        if len(both) < 2:
            continue
        coarse = [spine.loc[(population, f"{agent}_coarse", reach)] for reach in ("near", "full")]
        cells = [f"`{population}`", words, f"{both[0]['scans']}, {both[0]['n']}"]
        cells += [", ".join(f"{100 * line['success']:.0f} %" for line in coarse)]
        cells += [
            f"{100 * line['success']:.0f} % [{100 * line['success_low']:.0f}, {100 * line['success_high']:.0f}]"
            for line in both
        ]
        compared = [f"{100 * x['gain']:+.0f}{_bounds(x)}" for x in both if pd.notna(x["gain"])]
        out.append([*cells, ", ".join(compared)])
    return as_markdown(head, out)
