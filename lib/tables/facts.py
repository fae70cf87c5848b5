"""Single numbers in running text, computed from the rows: what stands at `<!-- v:NAME -->` in README.md and docs/ where it
is no variant (`lib.tables.ablations`). `python -m lib tables documents` fills them in, `make verify` compares them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from lib import cases
from lib.registration.trust import at_most
from lib.study import rows as study_rows
from lib.tables import evidence, limits
from lib.tables.registration import RIGHT, interval
from lib.tables.words import percent

# Conditions of `judged_calibration` that were made to have no answer in reach; a few of them had one.
HOPELESS = ("other patient", "feet first", "prone", "not in the CT")


def success(rows: pd.DataFrame, clusters: str = "case") -> str:
    """`93 % [89, 97]`; over `clusters`."""
    return percent(rows["success"].mean()) + interval(rows["success"], rows[clusters])


def of_study(study: str, method: str, folder: Path, **only) -> str:
    """Success of a method in a study."""
    rows = study_rows.read(folder, study)
    for column, value in {"method": method, **only}.items():
        rows = rows[rows[column] == value]
    return success(rows)


def _line(experiment: str, method: str, folder: Path) -> pd.Series:
    """A method's line in Table 1, or in that of today's tools, on simulated patients."""
    lines = pd.concat([pd.read_csv(folder / name) for name in ("table1.csv", "table1_today.csv")])
    return lines[(lines["dataset"] == f"virtual_{experiment}") & (lines["method"] == method)].iloc[0]


def simulated(experiment: str, method: str, folder: Path) -> str:
    """Success of a method on simulated patients, as the tables have it."""
    line = _line(experiment, method, folder)
    return f"{percent(line['success'])} [{100 * line['success_low']:.0f}, {100 * line['success_high']:.0f}]"


def aligned(method: str, folder: Path) -> str:
    """Hearts whose pose a method finds, rotation and all."""
    rows = cases.read_rows(folder / "cases.csv")
    return success(_by_pose(rows[(rows["dataset"] == "virtual_heart") & (rows["method"] == method)]))


def _by_pose(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, successes where the pose is right."""
    return rows.assign(success=cases.displaced(rows) <= limits.ALIGNED)


def papers_agent_on_hearts(by_pose: bool, folder: Path) -> str:
    """Success of the paper's agent on simulated hearts, from all its trainings; by the paper's criterion or by the pose."""
    rows = evidence.load(folder).of("heart", "dsl")
    return success(_by_pose(rows) if by_pose else rows)


def errors(experiment: str, method: str, folder: Path) -> str:
    """10th, 50th and 90th percentile of a method's errors on simulated patients: `8.8 / 14.5 / 19.9`."""
    line = _line(experiment, method, folder)
    return " / ".join(f"{line[name]:.1f}" for name in ("p10", "p50", "p90"))


def at_every_level(method: str, fat: bool, folder: Path) -> str:
    """Success of a method of `every_level`, bodies as they are or with fat; over CTs."""
    rows = study_rows.read(folder, "every_level")
    rows = rows[(rows["method"] == method) & (rows["case"].str.contains("_fat") == fat)]
    return f"{success(rows, 'dataset')} of {len(rows)}"


def register_at_every_level(folder: Path) -> str:
    """What `register` did at every level of the spine, and what its verdict was worth there."""
    rows = study_rows.read(folder, "every_level")
    mine = rows[rows["method"] == "register_both"]
    right, good = mine["final_error_mm"] <= RIGHT, mine["verdict"] == "good"
    wrong = int((good & ~right).sum())
    counted = f"{right.sum()} of {len(mine)} starts of the paper's range"
    mm = f"median {mine['final_error_mm'].median():.1f} mm, at most {mine['final_error_mm'].max():.1f}"
    by_scans = f"{mine['dataset'].nunique()} CTs, which are few:{interval(right, mine['dataset'])} %"
    return f"{counted}, {mm} ({by_scans}). Called good: {good.sum()}, {wrong or 'none'} of them wrong"


def on_real_scans(method: str, folder: Path) -> str:
    """Success of a method on all real scans, near and far starts together: `420 of 420, median 0.3 mm`."""
    rows = study_rows.read(folder, "real_scans")
    mine = rows[(rows["experiment"] == "spine") & (rows["method"] == method)]
    return f"{mine['success'].sum()} of {len(mine)}, median {mine['final_error_mm'].median():.1f} mm"


def real_hearts(folder: Path) -> str:
    """Agent and search on the real hearts, far starts, by the paper's criterion and by the pose; the search also with the
    narrower shifts that it had at first (study `hearts_reach`)."""
    rows, before = (study_rows.read(folder, name) for name in ("real_scans", "hearts_reach"))
    mine = rows[(rows["experiment"] == "heart") & (rows["range"] == "full")]
    parts = [mine[mine["method"] == name] for name in ("dsl_two_channel", "fft_search")]
    parts.append(before[before["change"].str.contains(" 40 mm")])
    (a, a_pose), (s, s_pose), (b, _) = (
        (int(part["success"].sum()), int((cases.displaced(part) <= limits.ALIGNED).sum())) for part in parts
    )
    n = len(parts[1])
    return (
        f"the agent finds {a} of {n} (by the pose {a_pose}), the search {s} ({s_pose}), {b} before its losses had made us "
        "widen its shifts"
    )


def papers_agent_on_real_scans(folder: Path) -> str:
    """The paper's agent, as `make reproduce` trains it, on real scans."""
    rows = cases.read_rows(folder / "cases.csv")
    mine = rows[
        (rows["experiment"] == "spine") & (rows["method"] == "dsl") & ~rows["dataset"].str.startswith("virtual")
    ]
    return f"{mine['success'].sum()} of {len(mine)} starts on {mine['dataset'].nunique()} real scans"


def attention(failed: bool, folder: Path) -> str:
    """How far (mm) the paper's agent's attention is from the nearest vertebra: medians of the splits, of all walks or of
    those that failed."""
    seen, rows = pd.read_csv(folder / "attention.csv", dtype={"case": str}), cases.read_rows(folder / "cases.csv")
    mine = seen[(seen["agent"] == "dsl") & (seen["experiment"] == "spine")].rename(columns={"agent": "method"})
    key = ["experiment", "split", "case", "start", "method"]
    mine = mine.merge(rows[[*key, "success"]], on=key)
    medians = (mine[~mine["success"]] if failed else mine).groupby("split")["saliency"].median()
    return f"{medians.min():.0f} to {medians.max():.0f} mm"


def judged(folder: Path) -> str:
    """What the verdict of `register` is worth on the cases made to tell it."""
    rows = limits.read(folder, limits.BOTH)
    good, right = limits.left_out(rows, limits.BOTH), rows["success"].to_numpy(bool)
    hopeless = rows["condition"].isin(HOPELESS).to_numpy(bool)
    wrong, failed = int((good & ~right).sum()), ~right & ~hopeless
    missed, scans = int((good & failed).sum()), rows.loc[rows["case"].str.contains("_second_"), "dataset"].nunique()
    bodies = rows.loc[failed, "group"].nunique()
    bound = at_most(rows.loc[good & failed, "group"].nunique(), bodies)  # failures of one body are not independent
    return (
        f"On {len(rows)} spine cases ({rows['group'].nunique()} bodies, {scans} of them real CTs at ten levels, both simulated "
        f"scanners), {hopeless.sum()} of them meant to be hopeless ({(hopeless & right).sum()} were solved), "
        f"{wrong or 'none'} of {good.sum()} called good {'was' if wrong < 2 else 'were'} wrong; of the {failed.sum()} failures among the "
        f"other {(~hopeless).sum()} {missed or 'none'} was called good (exact bound over their {bodies} bodies {percent(bound)})"
    )


def judged_hearts(folder: Path) -> str:
    """The same of hearts, in short."""
    rows = limits.read(folder, limits.HEART_BOTH)
    good, right = limits.left_out(rows, limits.HEART_BOTH), rows["success"].to_numpy(bool)
    other = int((good & ~right & (rows["condition"] == "other patient").to_numpy(bool)).sum())
    return f"{(good & ~right).sum()} of {good.sum()} called good were wrong by the pose, {other} of them another patient's heart"


def heart_by_agent(folder: Path) -> str:
    """What the verdict of the heart's agent alone is worth, on the same hearts."""
    rows = limits.read(folder, limits.HEART)
    good, right = limits.left_out(rows, limits.HEART), rows["success"].to_numpy(bool)
    return (
        f"of {len(rows)} registrations {right.sum()} are right, and {(good & right).sum()} of {good.sum()} called good"
    )


FACTS: dict[str, Callable[[Path], str]] = {
    "papers_coarse": partial(of_study, "papers_agent", "dsl_coarse", experiment="spine"),
    "papers_both": partial(of_study, "papers_agent", "dsl", experiment="spine"),
    "papers_window": partial(of_study, "papers_agent", "dsl_object", experiment="spine"),
    "two_channel_spine": partial(simulated, "spine", "dsl_two_channel"),
    "searched_spine": partial(simulated, "spine", "itk_search"),
    "fft_spine": partial(simulated, "spine", "fft_search"),
    "fft_spine_mm": partial(errors, "spine", "fft_search"),
    "fft_real": partial(on_real_scans, "fft_search"),
    "real_hearts": real_hearts,
    "dsl_real": papers_agent_on_real_scans,
    "fft_hearts_pose": partial(aligned, "fft_search"),
    "hearts_unmoved": partial(simulated, "heart", "initial"),
    "hearts_start": partial(errors, "heart", "initial"),
    "hearts_dsl": partial(papers_agent_on_hearts, False),
    "hearts_itk": partial(simulated, "heart", "itk"),
    "hearts_semantic": partial(simulated, "heart", "semantic"),
    "hearts_dsl_pose": partial(papers_agent_on_hearts, True),
    "every_level": register_at_every_level,
    "agent_slim": partial(at_every_level, "register", False),
    "agent_fat": partial(at_every_level, "register", True),
    "attention": partial(attention, False),
    "attention_failed": partial(attention, True),
    "judged": judged,
    "judged_hearts": judged_hearts,
    "heart_by_agent": heart_by_agent,
}
