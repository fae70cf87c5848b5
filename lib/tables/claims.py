"""The paper's claims C1 to C14, each with our number, its 95 % interval and a verdict by a rule stated
beside it.

`python -m lib.tables.claims write [PROFILE]`  gather the runs' evidence, then claims.csv (default profile: cpu)
`python -m lib.tables.claims show [PROFILE] C4`  print one claim's lines, recomputed
`python -m lib.tables.claims check C4`         is there such a claim? (`make claims CLAIM=C4` asks first)

Verdicts: reproduced, partly, not; untested where the data are missing or the profile is `smoke`, which
claims nothing. Ours is measured on the embedded virtual patients. Lines come for the paper's own agent
(difference image) and, where it was run, for the two-channel agent.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, metrics
from lib.base.errors import UserError
from lib.baselines.methods import OURS, label
from lib.metrics import PAPER
from lib.study import config
from lib.tables import claims_variants
from lib.tables.claims_rest import REST
from lib.tables.words import COLUMNS, by_rule, line, pairs_of, percent, reach

EXPERIMENT = {"spine": "E1 spine", "heart": "E2 heart"}
MEASURE = {"spine": "TRE", "heart": "MME"}
RIVALS = ("itk", "quasi_global", "semantic")  # the paper's three


@dataclass
class Evidence:
    """Everything a claim may look at; a table that is missing is empty."""

    profile: str
    rows: pd.DataFrame  # case rows of the virtual patients
    tables: dict[str, pd.DataFrame]  # attention, walks, patients, fig4
    theory: dict

    def of(self, experiment: str, method: str) -> pd.DataFrame:
        """Rows of one method."""
        return self.rows[(self.rows["experiment"] == experiment) & (self.rows["method"] == method)]

    def agents(self, experiment: str) -> list[str]:
        """The paper's agent, always, and ours where it was run."""
        return [a for a in OURS if a == "dsl" or len(self.of(experiment, a))]


def load(folder, profile: str = "cpu") -> Evidence:
    """Evidence from a results folder. Raises UserError if there is none."""
    folder = Path(folder)
    if not any((folder / name).exists() for name in ("cases.csv", "fig4.csv", "theory.json")):
        raise UserError(f"{folder} holds no results yet; run: make reproduce PROFILE={profile}")
    there = (folder / "cases.csv").exists()  # not where `make claims CLAIM=C7` was all that ran
    rows = cases.read_rows(folder / "cases.csv") if there else pd.DataFrame(columns=cases.COLUMNS)
    rows = rows[rows["dataset"].isin(["virtual_spine", "virtual_heart"])]
    tables = {}
    for name in ("attention", "walks", "patients", "fig4"):
        path = folder / f"{name}.csv"
        tables[name] = pd.read_csv(path) if path.exists() else pd.DataFrame()
    theory = folder / "theory.json"
    return Evidence(profile, rows, tables, json.loads(theory.read_text()) if theory.exists() else {})


def c1(data: Evidence):
    """Success. Reproduced: 80 % of the paper's rate and an interval that reaches it; partly: half of it."""
    for experiment, name in EXPERIMENT.items():
        paper = PAPER[experiment]["dsl"]
        for agent in data.agents(experiment):
            some = data.of(experiment, agent)
            statement = f"The agent registers {name}: {label(agent)}"
            theirs = f"{percent(paper[0])}; {MEASURE[experiment]} {paper[1]} / {paper[2]} / {paper[3]} mm"
            if some.empty:
                yield line("C1", statement, theirs)
                continue
            rate = some["success"].mean()
            low, high = metrics.success_interval(some["success"], some["case"])
            p = metrics.percentiles(some["final_error_mm"])
            ours = f"{percent(rate)}; {MEASURE[experiment]} {p[0]:.1f} / {p[1]:.1f} / {p[2]:.1f} mm"
            yield line("C1", statement, theirs, ours, low, high, len(some), reach(rate, high, paper[0]))


def c2(data: Evidence):
    """Margin over the best rival. Reproduced: surely above 0 and half the paper's margin; partly: above 0."""
    for experiment, name in EXPERIMENT.items():
        margin = PAPER[experiment]["dsl"][0] - max(PAPER[experiment][m][0] for m in RIVALS)
        for agent in data.agents(experiment):
            statement = f"It beats ITK, quasi-global and semantic registration by far ({name}): {label(agent)}"
            theirs = f"+{100 * margin:.0f} points over the best"
            both = {m: pairs_of(data, experiment, agent, m) for m in RIVALS}
            both = {m: b for m, b in both.items() if len(b)}
            if not both:
                yield line("C2", statement, theirs)
                continue
            rival = max(both, key=lambda m: both[m]["success_other"].mean())
            yield _difference("C2", statement, theirs, both[rival], f" over {label(rival)}", margin / 2, len(both) < 3)


def _difference(claim, statement, theirs, both, words, wanted, incomplete=False):
    """A line for a paired difference of success; not all rivals measured: `partly` at best."""
    d = metrics.paired(both["success"], both["success_other"], both["case"])
    verdict = by_rule(d["low"] > 0 and d["difference"] >= wanted and not incomplete, d["difference"] > 0)
    ours = f"{100 * d['difference']:+.0f} points{words}" + (" (not all run)" if incomplete else "")
    return line(claim, statement, theirs, ours, d["low"], d["high"], d["n"], verdict)


def c3(data: Evidence):
    """Margin over humans, from recorded sessions of the manual tool. Rule as C2, wanted margin 0."""
    for experiment, name in EXPERIMENT.items():
        paper = PAPER[experiment]
        theirs = f"{percent(paper['dsl'][0])} against {percent(paper['human'][0])}"
        statement = f"It beats humans ({name})"
        both = pairs_of(data, experiment, "dsl", "human")
        if both.empty:
            yield line(
                "C3",
                statement,
                theirs,
                "no human was measured",
                command="notebooks/12_registration_by_hand.ipynb",
            )
        else:
            yield _difference("C3", statement, theirs, both, "", 0.0)


def c4(data: Evidence):
    """Gain of the fine network, median over cases. Reproduced: surely above 0; partly: above 0."""
    for agent in data.agents("spine"):
        statement = f"The fine network refines the coarse (E1 spine): {label(agent)}"
        both = pairs_of(data, "spine", agent, f"{agent}_coarse")
        if both.empty:
            yield line("C4", statement, "median 3.4 -> 2.5 mm")
            continue
        gain = both["final_error_mm_other"] - both["final_error_mm"]
        low, high = metrics.bootstrap(gain, both["case"], np.median)
        before, after = both["final_error_mm_other"].median(), both["final_error_mm"].median()
        verdict = by_rule(low > 0 and after < before, after < before)
        ours = f"median {before:.1f} -> {after:.1f} mm; gain a case {gain.median():.2f} mm"
        yield line("C4", statement, "median 3.4 -> 2.5 mm", ours, low, high, len(both), verdict)
    yield from claims_variants.c4(data)


CLAIMS = {"C1": c1, "C2": c2, "C3": c3, "C4": c4, **REST}


def check(wanted) -> None:
    """Raises UserError for a claim that is none."""
    unknown = set(wanted) - set(CLAIMS)
    if unknown:
        raise UserError(f"There is no claim {sorted(unknown)[0]}; they are {', '.join(CLAIMS)}.")


def compute(data: Evidence, wanted=()) -> pd.DataFrame:
    """The claims table (`COLUMNS`), all claims or those wanted. The smoke profile proves nothing but
    arithmetic."""
    check(wanted)
    lines = [made for name, claim in CLAIMS.items() if not wanted or name in wanted for made in claim(data)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    if data.profile == "smoke":
        table.loc[~table["claim"].isin(["C7", "C14"]), "verdict"] = "untested"
    return table.round({"low": 3, "high": 3})


def markdown(table: pd.DataFrame) -> str:
    """claims.csv as a Markdown table."""

    def interval(row) -> str:
        low, high = row["low"], row["high"]
        return "" if pd.isna(low) else f" [{low:.2g}, {high:.2g}]"

    lines = ["| | claim | paper | ours [95 % CI] | n | verdict | shown by |", "|---|---|---|---|---|---|---|"]
    for row in table.fillna({"ours": "", "n": 0}).to_dict("records"):
        cells = [
            row["claim"],
            row["statement"],
            row["paper"],
            f"{row['ours']}{interval(row)}",
            f"{int(row['n'])}",
        ]
        cells += [f"**{row['verdict']}**", f"`{row['command']}`"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def write(profile: str = "cpu", folder=None) -> pd.DataFrame:
    """Gather the evidence of the runs, compute, write claims.csv and ablations.csv and their figures;
    returns the claims."""
    from lib.base import provenance
    from lib.figures import claims
    from lib.tables import ablations, evidence

    folder = Path(folder or config.results_dir(profile))
    evidence.gather(profile)
    data = load(folder, profile)
    table = compute(data)
    with provenance.atomic(folder / "claims.csv") as temporary:
        table.to_csv(temporary, index=False)
    cfg = config.load(profile, ("patients", "evaluation", "variants"))
    inputs = [folder / name for name in ("cases.csv", "fig4.csv", "theory.json") if (folder / name).exists()]
    for path in (folder / "claims.csv", ablations.write(data, folder)):
        provenance.record(path, cfg, inputs=inputs)
    claims.write(folder, cfg)
    return table


def main(arguments: list[str]) -> int:
    """`write [PROFILE]`, `show [PROFILE] [C4 ...]` or `check [C4 ...]`."""
    parser = argparse.ArgumentParser(prog="python -m lib.tables.claims", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="show", choices=("show", "write", "check"))
    parser.add_argument("words", nargs="*", metavar="PROFILE|CLAIM", help="cpu unless named; all claims unless named")
    given = parser.parse_args(arguments)
    what, rest = given.what, given.words
    profile = rest.pop(0) if rest and rest[0] in config.profiles() else "cpu"
    if what == "check":
        check(rest)
    elif what == "write":
        counts = write(profile)["verdict"].value_counts()
        print(f"{config.results_dir(profile)}/claims.csv:", ", ".join(f"{n} {v}" for v, n in counts.items()))
    else:
        table = compute(load(config.results_dir(profile), profile), rest)
        for row in table.fillna({"ours": ""}).to_dict("records"):
            print("{claim:4s} {verdict:10s} {statement}: {ours}  (paper: {paper})".format(**row))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as problem:
        sys.exit(str(problem))
