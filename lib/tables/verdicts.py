"""`python -m lib claims`: from what the runs have left to claims.csv, ablations.csv and their figures.

python -m lib claims write [PROFILE]        gather the runs' evidence, then the verdicts (default profile: cpu)
python -m lib claims show [PROFILE] [C4 ...]  print the lines of some claims, or of all, recomputed
python -m lib claims check C4               is there such a claim? (`make claims CLAIM=C4` asks first)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.sections import hint
from lib.study import config, variants
from lib.study import rows as study_rows
from lib.study.planar.curves import beside
from lib.tables import ablations, claims, evidence, gather


def write(profile: str = "cpu", folder=None) -> pd.DataFrame:
    """Gather the evidence of the runs, then `judge`; returns the claims."""
    gather.gather(profile)
    return judge(profile, Path(folder or config.results_dir(profile)))


def judge(profile: str, folder: Path) -> pd.DataFrame:
    """Write claims.csv, ablations.csv and their figures from the evidence that lies in the folder; returns the claims."""
    from lib.figures import claims as figures

    data = evidence.load(folder, profile)
    table = claims.compute(data)
    with provenance.atomic(folder / "claims.csv") as temporary:
        table.to_csv(temporary, index=False)
    cfg = config.load(profile, ("patients", "evaluation", "variants"))
    inputs = [folder / name for name in ("cases.csv", "fig4.csv", "fig4_long.csv", "theory.json")]
    yardstick = [study_rows.path_of(folder, study) for study in {**dict.fromkeys(evidence.SEEDED + evidence.ASKED)}]
    for path, made_from in ((folder / "claims.csv", inputs + yardstick), (ablations.write(data, folder), inputs)):
        provenance.record(path, cfg, inputs=[source for source in made_from if source.exists()])
    long, short = beside(data.tables["fig4_long"], data.tables["fig4"])
    points = pd.concat([long, short], ignore_index=True) if len(long) else ()
    figures.write(folder, cfg, variants.KNOWN, variants.FUTURE, points)
    return table


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("what", nargs="?", default="show", choices=("show", "write", "check"))
    add.add_argument("words", nargs="*", metavar="PROFILE|CLAIM", help="cpu unless named; all claims unless named")


def run(options) -> None:
    """Write, show or check. Raises UserError for a claim that is none, or where there are no results."""
    wanted = list(options.words)
    profile = wanted.pop(0) if wanted and wanted[0] in config.profiles() else "cpu"
    if options.what == "check":
        claims.check(wanted)
    elif options.what == "write":
        if wanted:
            raise UserError(f"`claims write` takes a profile and no claim; {hint(wanted[0], config.profiles())}")
        print(f"{config.results_dir(profile)}/claims.csv:", claims.counted(write(profile)))
    else:
        claims.check(wanted)
        table = claims.compute(evidence.load(config.results_dir(profile), profile), wanted)
        for row in table.fillna({"ours": ""}).to_dict("records"):
            print("{claim:4s} {about:9s} {verdict:10s} {statement}: {ours}  (paper: {paper})".format(**row))
