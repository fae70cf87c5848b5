"""Case rows of a study: collected, and what they say beyond Table 1 (failures by kind, paired differences, capture range)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import cases, metrics, rigid
from lib.baselines.methods import learnt_on, order
from lib.study import variants


def failures(rows: pd.DataFrame) -> pd.DataFrame:
    """Failures by kind: experiment, dataset, method, n, then a count for each of `metrics.FAILURES`."""
    kept = rows[rows["method"] != "initial"].copy()
    kept["kind"] = [kind(s, n) for s, n in zip(kept["success"], kept["note"], strict=True)]
    lines = []
    for key, some in kept.groupby(["experiment", "dataset", "method"]):
        counts = some["kind"].value_counts()
        lines.append((*key, len(some), *(int(counts.get(k, 0)) for k in metrics.FAILURES)))
    return pd.DataFrame(lines, columns=["experiment", "dataset", "method", "n", *metrics.FAILURES])


def kind(ok: bool, note: str) -> str:
    """The kind of failure a row records: "" for a success; a note that is no kind is a refusal."""
    if ok:
        return ""
    return next((k for k in metrics.FAILURES if note.startswith(k)), "refused")


def paired(rows: pd.DataFrame, agent: str) -> pd.DataFrame:
    """The agent against each method on the same cases: difference of success (agent minus method) and of
    the error (mm), with 95 % intervals clustered by patient."""
    lines = []
    for (experiment, dataset), some in rows.groupby(["experiment", "dataset"]):
        mine = some[some["method"] == agent].set_index(cases.KEY)
        for method in order(set(some["method"]) - {agent, "initial", "ground_truth"}):
            both = mine.join(some[some["method"] == method].set_index(cases.KEY), rsuffix="_other", how="inner")
            if both.empty:
                continue
            who = both.index.get_level_values("case")
            ok = metrics.paired(both["success"], both["success_other"], who)
            mm = metrics.paired(both["final_error_mm"], both["final_error_mm_other"], who)
            lines.append(
                (
                    experiment,
                    dataset,
                    agent,
                    method,
                    len(both),
                    *list(ok.values())[:3],
                    *list(mm.values())[:3],
                )
            )
    names = (
        "experiment",
        "dataset",
        "agent",
        "method",
        "n",
        "success_difference",
        "success_low",
        "success_high",
    )
    return pd.DataFrame(lines, columns=[*names, "error_difference_mm", "error_low", "error_high"]).round(3)


def starvation(rows: pd.DataFrame) -> pd.DataFrame:
    """Semantic registration against the number of its training patients: from the rows `semantic_<n>` of simulated
    patients and, of the same splits, `semantic` (`all`). Empty where there are no `semantic_<n>`."""
    lines = []
    some = rows[rows["dataset"].str.startswith("virtual_")]
    for experiment, mine in some.groupby("experiment", sort=False):
        small = [m for m in order(mine["method"]) if learnt_on(m)]
        split = mine.loc[mine["method"].isin(small), "split"].unique()
        for method in [*small, "semantic"] if small else []:
            part = mine[(mine["method"] == method) & mine["split"].isin(split)]
            low, high = metrics.success_interval(part["success"], part["case"])
            p10, p50, p90 = metrics.percentiles(part["final_error_mm"])
            trained = str(learnt_on(method) or "all")
            lines.append((experiment, trained, len(part), part["success"].mean(), low, high, p10, p50, p90))
    names = ("experiment", "training_patients", "n", "success", "success_low", "success_high", "p10", "p50", "p90")
    return pd.DataFrame(lines, columns=names).round(3)


def capture(rows: pd.DataFrame, share: float = 0.95) -> pd.DataFrame:
    """The capture range of each method: the largest initial error (mm) such that `share` of all starts up
    to it succeed; 0 where not even the nearest do."""
    lines = []
    for key, some in rows[rows["method"] != "initial"].groupby(["experiment", "dataset", "method"]):
        reach, _ = metrics.capture_range(some["initial_error_mm"], some["success"], share)
        lines.append((*key, len(some), round(reach, 1)))
    return pd.DataFrame(lines, columns=["experiment", "dataset", "method", "n", "capture_mm"])


def beyond_reach(rows: pd.DataFrame) -> pd.DataFrame:
    """Starts that the paper's greedy path (Eq. 2) does not undo in 200 steps of one unit, and success on both sides."""
    import torch  # late: tables are read without it

    from lib import theory

    start = rows[rows["method"] == "initial"]
    if start.empty:
        return pd.DataFrame()
    states = rigid.params_to_matrix(torch.as_tensor(start[list(cases.STATE)].to_numpy(np.float64, copy=True)))
    taken = theory.follow(states, "greedy", metrics.COARSE_STEPS + 1)["steps"]
    far = start.assign(far=taken > metrics.COARSE_STEPS)
    both = rows.merge(far[[*cases.KEY, "far"]], on=cases.KEY)
    lines = []
    for (experiment, method), some in both.groupby(["experiment", "method"]):
        share = [some.loc[some["far"] == side, "success"].mean() for side in (False, True)]
        lines.append((experiment, method, len(some), int(some["far"].sum()), *share))
    table = pd.DataFrame(lines, columns=["experiment", "method", "n", "beyond", "success_within", "success_beyond"])
    rank = {m: i for i, m in enumerate(order(table["method"]))}
    place = table["method"].map(rank)
    return table.assign(_m=place).sort_values(["experiment", "_m"]).drop(columns="_m").round(2)


def collect(run_root, profile: str) -> pd.DataFrame:
    """All case rows of a profile below its run folder: every experiment, split, method and data set, once each; several
    people may have done the same case, whom the note tells apart."""
    rows = cases.read_rows(*cases.find_rows(run_root))
    rows = rows[rows["profile"] == profile]
    rows = rows.assign(_person=rows["note"].where(rows["method"] == "human", ""))
    rows = rows.drop_duplicates([*cases.KEY, "method", "_person"], keep="last").drop(columns="_person")
    known = {m: i for i, m in enumerate(order(rows["method"]))}
    place = rows["method"].map(known)
    names = ["experiment", "dataset", "split", "case", "start"]
    return rows.assign(_m=place).sort_values([*names, "_m"]).drop(columns="_m").reset_index(drop=True)


def main_methods(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of variants, which have a budget and a table of their own."""
    return rows[[not variants.name_of(method) for method in rows["method"]]]
