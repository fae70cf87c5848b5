"""What the command `register` is worth, from the rows of its studies: on the real pair, on real CTs that its agents never
saw, and with organs that have moved."""

from __future__ import annotations

import pandas as pd

from lib import metrics
from lib.baselines.methods import label
from lib.study import rows as study_rows
from lib.study import schema
from lib.tables.words import table as as_markdown

ALL = "all scans"
RIGHT = 10.0  # mm of TRE
RANGES = {"near": "±30 mm, ±15°", "full": "the paper's range"}
METHODS = {
    "initial": "start",
    "register_once": "agent, this start alone",
    "register": "agent, as `register --only agent`",
    "register_polish": "the same, then mutual information (no longer an option)",
    "register_search": "search, as `register --only search`",
    "register_both": "**`register` as shipped: search, agent, one judge**",
    "itk_tuned": "ITK, tuned",
}
JUDGED = ("register", "register_polish", "register_search", "register_both")  # with a verdict
CASE = ["recipe", "condition", "range", "dataset", "case", "start"]


def interval(right, clusters) -> str:
    """` [low, high]`, percent; over clusters."""
    low, high = metrics.success_interval(right, clusters)
    return f" [{100 * low:.0f}, {100 * high:.0f}]"


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a case of the command, with `alone_mm`, where its first start alone ended, beside `final_error_mm`."""
    once = rows[rows["method"] == "register_once"].set_index(CASE)["final_error_mm"].rename("alone_mm")
    return rows[rows["method"] == "register"].join(once, on=CASE)


def pair(rows: pd.DataFrame) -> str:
    """The real pair (study `register_pair`): a line for each kind of files, range and method."""
    head = ["files", "starts", "method", "n", "within 10 mm", "within 20 mm", "median mm", "90th mm", "called good"]
    lines = []
    for files in schema.load("register_pair").conditions():
        for reach, where in RANGES.items():
            for method, name in METHODS.items():
                mine = rows[(rows["condition"] == files) & (rows["range"] == reach) & (rows["method"] == method)]
                if not len(mine):
                    continue
                errors, good = mine["final_error_mm"], mine["verdict"] == "good"
                cells = [files, where, name, str(len(mine)), *(f"{(errors <= mm).sum()}" for mm in (10, 20))]
                cells += [f"{errors.median():.1f}", f"{errors.quantile(0.9):.1f}"]
                judged = method in JUDGED
                lines.append(cells + ([f"{good.sum()}", f"{(good & (errors <= RIGHT)).sum()}"] if judged else ["", ""]))
    return as_markdown([*head, "of these within 10 mm"], lines)


def real(rows: pd.DataFrame) -> str:
    """Real CTs (study `register_real`): a line a range and scan, then all scans with the interval (over scans)."""
    head = ["starts", "scan", "n", METHODS["register_once"], "as `--only agent`", "median mm", "called good"]
    lines = []
    for reach, words in RANGES.items():
        mine = beside(rows[rows["range"] == reach])
        for scan, some in [*mine.groupby("dataset"), (ALL, mine)]:
            right, good = some["final_error_mm"] <= RIGHT, some["verdict"] == "good"
            shares = []
            for errors in (some["alone_mm"], some["final_error_mm"]):
                ok = errors <= RIGHT
                shares.append(f"{ok.mean():.0%}" + (interval(ok, some["dataset"]) if scan == ALL else ""))
            cells = [words, f"`{scan}`" if scan != ALL else scan, str(len(some)), *shares]
            cells += [f"{some['final_error_mm'].median():.1f}"]
            lines.append(cells + [str(n) for n in (good.sum(), (good & ~right).sum(), (right & ~good).sum())])
    return as_markdown([*head, "of these wrong", "right, not called good"], lines)


def organs_moved(command: pd.DataFrame, optimisers: pd.DataFrame) -> str:
    """Success and median of the agent, the command and the optimisers from the same starts, usually and with the organs
    moved: rows of the studies `beyond_training` and `organs_moved`."""
    shown = schema.load("organs_moved").conditions()
    names = {name: METHODS[name] for name in ("register_once", "register")}
    names |= {m.method: label(m.method) for m in schema.load("organs_moved").methods}
    both = pd.concat([command, optimisers])
    lines = []
    for method, name in names.items():
        cells = [name]
        for condition in shown:
            some = both[(both["method"] == method) & (both["condition"] == condition)]
            right = some["final_error_mm"] <= RIGHT
            share = f"{right.mean():.0%}{interval(right, some['dataset'])} of {len(some)}" if len(some) else ""
            cells.append(f"{share}, {some['final_error_mm'].median():.1f} mm" if len(some) else "")
        lines += [cells] if any(cells[1:]) else []
    return as_markdown(["method", *(condition.what for condition in shown.values())], lines)


def by_method(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line a condition and method, a cell a range: success with its interval (over levels: their starts mostly
    succeed or fail together), of how many starts, median; of the command also what it called good."""
    conditions, ranges = study.conditions(), [r for r in RANGES if r in set(rows["range"])]
    several = len(conditions) > 1
    names = {m.label("agent"): METHODS.get(m.label("agent"), label(m.label("agent"))) for m in study.methods}
    lines = []
    for key, condition in conditions.items():
        for method, name in names.items():
            mine = rows[(rows["method"] == method) & (rows["condition"].fillna("") == key)]
            cells = [worth(mine[mine["range"] == reach], method in JUDGED) for reach in ranges]
            lines += [[*([condition.what] if several else []), name, *cells]] if any(cells) else []
    head = [*(["CBCT"] if several else []), "method", *(f"starts within {RANGES[r]}" for r in ranges)]
    return as_markdown(head, lines)


def worth(some: pd.DataFrame, judged: bool, clusters: str = "case") -> str:
    """Success with its interval, of how many, median, and of the command what it called good; empty without rows."""
    if not len(some):
        return ""
    right, good = some["final_error_mm"] <= RIGHT, some["verdict"] == "good"
    said = f"; called good {good.sum()}, of these wrong {(good & ~right).sum()}" if judged else ""
    share = f"{right.mean():.0%}{interval(right, some[clusters])} of {len(some)}"
    return f"{share}, {some['final_error_mm'].median():.1f} mm{said}"


def through_the_second_scanner(folder) -> str:
    """`by_method`, of the study `second_scanner`."""
    return by_method(study_rows.read(folder, "second_scanner"), schema.load("second_scanner"))


def far_and_narrow(folder) -> str:
    """`by_method`, of the study `far_and_narrow`."""
    return by_method(study_rows.read(folder, "far_and_narrow"), schema.load("far_and_narrow"))


def on_the_pair(folder) -> str:
    """`pair`, of the rows in a folder of results."""
    return pair(study_rows.read(folder, "register_pair"))


def on_real_scans(folder) -> str:
    """`real`, of the rows in a folder of results."""
    return real(study_rows.read(folder, "register_real"))


def with_organs_moved(folder) -> str:
    """`organs_moved`, of the rows in a folder of results."""
    return organs_moved(*(study_rows.read(folder, name) for name in ("beyond_training", "organs_moved")))


def by_slip(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line a slip of the CT's header: how often the place was found, and what the verdict said; with a slip no pose is
    wholly right, so that every *good* is a miss."""
    lines = []
    for key, condition in study.conditions().items():
        mine = rows[rows["condition"] == key]
        good = mine["verdict"] == "good"
        place = (
            "" if min(condition.ct_axes) < 0 else (mine["final_error_mm"] <= RIGHT).sum()
        )  # mirrored marks have none
        cells = [place, f"{good.sum()}{interval(good, mine['dataset'])}"]
        lines.append([condition.what, len(mine), *cells])
    return as_markdown(["the CT", "levels", "the place found (10 mm)", "called good [%: scans]"], lines)


def header_slips(folder) -> str:
    """`by_slip`, of the study `header_slips`."""
    return by_slip(study_rows.read(folder, "header_slips"), schema.load("header_slips"))


def by_collection(rows: pd.DataFrame, study: schema.Study) -> str:
    """A line a collection of real pairs and method: its pairs, success with its interval (over patients), median."""
    lines = []
    for collection, mine in [*rows.groupby("dataset"), ("all", rows)]:
        for method in (m.method for m in study.methods):
            some = mine[mine["method"] == method]
            said = METHODS.get(method) or label(method)
            lines += [[collection, some["case"].nunique(), said, worth(some, method in JUDGED)]] if len(some) else []
    return as_markdown(["collection", "pairs", "method", "starts within the paper's range"], lines)


def real_pairs(folder) -> str:
    """`by_collection`, of the study `real_pairs`."""
    return by_collection(study_rows.read(folder, "real_pairs"), schema.load("real_pairs"))


def quasi_global(folder) -> str:
    """`by_method`, of the study `quasi_global`."""
    return by_method(study_rows.read(folder, "quasi_global"), schema.load("quasi_global"))
