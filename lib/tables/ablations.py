"""Every variant (lib.study.variants) beside its reference, from the case rows: `ablations.csv`, tables and sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import metrics
from lib.baselines.methods import OURS
from lib.study import schema
from lib.study.variants import FUTURE, KNOWN, REFERENCE
from lib.tables import claims_variants, intervals
from lib.tables.evidence import pairs_in, pairs_of
from lib.tables.words import number, percent
from lib.tables.words import table as as_markdown

COLUMNS = (
    *("variant", "what", "experiment", "agent", "n", "success", "success_low", "success_high", "p50_mm"),
    *("difference", "difference_low", "difference_high", "settled", "actions", "window_mm"),
)
REFINED = ("dsl_refined", "DRL refines the policy of DSL: 2-D, second half of the steps (notebook 09)")


def table(data) -> pd.DataFrame:
    """A line a variant that was run (`COLUMNS`); `data`: lib.tables.claims.Evidence.

    difference: success minus the reference's, same cases, 95 % interval clustered by patient. settled: median
    number of actions until the path stays within 3 units of its end. actions: median number taken. window_mm:
    median distance of the fine window's centre from the nearest true vertebra.
    """
    lines = []
    for experiment in ("spine", "heart"):
        for agent in OURS:
            for name, variant in KNOWN.items():
                some = data.of(experiment, f"{agent}_{name}")
                if len(some):
                    lines.append(_line(data, experiment, agent, name, variant.what, some))
    lines += _refined(data.tables.get("fig4", pd.DataFrame()))
    return pd.DataFrame(lines, columns=COLUMNS).round(3)


def _line(data, experiment, agent, name, what, some) -> tuple:
    method = f"{agent}_{name}"
    low, high = metrics.success_interval(some["success"], some["case"])
    both = pairs_of(data, experiment, method, f"{agent}_{REFERENCE}")
    d = metrics.paired(both["success"], both["success_other"], both["case"])
    against = (np.nan,) * 3 if name == REFERENCE else (d["difference"], d["low"], d["high"])
    walks, look = (_of(data.tables.get(t), experiment, method) for t in ("walks", "attention"))
    return (
        *(name, what, experiment, agent, len(some), some["success"].mean(), low, high),
        *(some["final_error_mm"].median(), *against),
        *(walks[c].median() if c in walks else np.nan for c in ("settled", "actions")),
        look["saliency"].median() if len(look) else np.nan,
    )


def _of(some, experiment: str, method: str) -> pd.DataFrame:
    if some is None or some.empty:
        return pd.DataFrame()
    return some[(some["experiment"] == experiment) & (some["agent"] == method)]


def _refined(curves) -> list[tuple]:
    """Figure 4's refined curves at their last step, each against DSL's; n: seeds, whose range stands for an interval."""
    lines = []
    for end in ("", "_two_channel"):
        name = REFINED[0] + end
        if curves.empty or not {name, f"dsl{end}"} <= set(curves["method"]):
            continue
        last = curves[curves["step"] == curves["step"].max()]
        mine, other = (last[last["method"] == m] for m in (name, f"dsl{end}"))
        rate = mine["success"].mean()
        lines.append(
            (
                *(name, REFINED[1] + ", both images" * bool(end), "spine", f"dsl{end}", len(mine), rate),
                *(mine["success"].min(), mine["success"].max(), mine["median_mm"].mean()),
                *(rate - other["success"].mean(), np.nan, np.nan, np.nan, np.nan, np.nan),
            )
        )
    return lines


def write(data, folder) -> Path:
    """ablations.csv into `folder`; atomically."""
    from lib.base import provenance

    path = Path(folder) / "ablations.csv"
    with provenance.atomic(path) as temporary:
        table(data).to_csv(temporary, index=False)
    return path


def _interval(line, name: str, scale: float = 100) -> str:
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return "" if pd.isna(low) else f" [{scale * low:.0f}, {scale * high:.0f}]"


def parts(made: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table's lines in two: what was changed, and the authors' future work (with the reference, where it was run)."""
    future = made["variant"].isin(FUTURE) | made["variant"].str.startswith(REFINED[0])
    return made[~future], made[future | (made["variant"] == REFERENCE)] if future.any() else made[future]


def markdown(made: pd.DataFrame) -> str:
    """The table as Markdown; "not run yet" where it is empty."""
    if made.empty:
        return "Not run yet: `make claims`."
    head = ["what is changed", "success % [95 % CI]", "against the reference, points", "median mm"]
    lines = []
    for line in made.to_dict("records"):
        points = "" if pd.isna(line["difference"]) else f"{100 * line['difference']:+.0f}"
        known = f"{line['what']} (`{line['agent']}_{line['variant']}`)" if line["variant"] in KNOWN else line["what"]
        rate = f"{100 * line['success']:.0f}{_interval(line, 'success')}"
        cells = [known, rate, points + _interval(line, "difference"), f"{line['p50_mm']:.1f}"]
        lines.append([*cells, *(number(line[c], 0) for c in ("settled", "actions")), line["n"]])
    return as_markdown([*head, "settled after", "actions", "n"], lines)


def of_the_paper(data) -> str:
    """The arms of the paper's own agent (the study `papers_changes`) as Markdown: a line each, beside what it is against."""
    rows, lines = data.asked(claims_variants.OF_THE_PAPER, "spine"), []
    rows = claims_variants.arms(rows) if len(rows) else rows.assign(arm="")
    for name, change in schema.load(claims_variants.OF_THE_PAPER).changes().items():
        mine = rows[rows["arm"] == name]
        if mine.empty:
            continue
        k, spread = mine["split"].nunique(), data.spread("spine")["points"]
        rate = intervals.rate(mine["success"], mine["case"]).widened(spread, k)
        each = ", ".join(f"{100 * some:.0f}" for some in mine.groupby("split")["success"].mean())
        both, against = pairs_in(rows, "arm", name, change.against), ""
        if len(both):
            d = intervals.difference(both["success"], both["success_other"], both["case"]).widened(spread, k, k)
            against = f"{100 * d.value:+.0f} {_bounds(d)} (`{change.against}`)"
        median = number(mine["final_error_mm"].median(), 1)
        shown = f"{100 * rate.value:.0f} {_bounds(rate)}"
        lines.append([f"{change.what} (`{name}`)", shown, each, against, median, len(mine)])
    head = [
        "what is changed",
        "success % [95 %: patients, trainings]",
        "each training",
        "against, points",
        "median mm",
        "n",
    ]
    return as_markdown(head, lines)


def _bounds(found: intervals.Interval) -> str:
    return f"[{100 * found.low:.0f}, {100 * found.high:.0f}]"


def sentence(made: pd.DataFrame, name: str) -> str:
    """What the variant `name` showed, for a row of the open points; that it was not run, where it was not."""
    some, reference = (made[made["variant"] == n].to_dict("records") for n in (name, REFERENCE))
    if not some or not reference:
        return "not measured yet (`make claims`)"
    one, base = some[0], reference[0]
    return (
        f"{one['what']}: success {percent(one['success'])}{_interval(one, 'success')} against "
        f"{percent(base['success'])}, median {one['p50_mm']:.1f} against {base['p50_mm']:.1f} mm "
        f"(n = {one['n']}, small budget)"
    )
