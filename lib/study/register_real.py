"""The command `register` on every real CT here, by agents that trained on none of its patients: does it find the place, and
does its verdict tell?

`python -m lib.study.register_real` takes the agents of both folds (`lib.study.populations train without_0` and `without_1` make them), the
scans and starts of table_real.csv, and writes results/register_real.csv after every case; it goes on where it stopped. The
real pair has a table of its own (`lib.study.register_check`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import pandas as pd

from lib import cases, metrics
from lib.base import folders, provenance
from lib.base.errors import UserError, status
from lib.study import populations as transfer
from lib.study import transfer as transfer_eval
from lib.study.register_check import kept, stamp, write
from lib.tables.real import ALL, PAIRS

COLUMNS = ("population", "range", "scan", "case", "start", "alone_mm", "error_mm", "verdict", "seconds", "made_by")
SHOWN = {"near": "±30 mm, ±15°", "full": "the paper's range"}


def measure(path: Path, say=print) -> pd.DataFrame:
    """Rows of `COLUMNS` for both folds; `alone_mm` is the agent from this start alone. Raises UserError without agents."""
    from lib.registration import register

    cfg, settings = transfer.load_config("cpu", "spine"), register.RegisterSettings()
    populations = [f"without_{k}" for k in range(len(cfg.transfer.folds))]
    starts = [cfg.transfer.starts, cfg.transfer.near, cfg.transfer.min_overlap, dataclasses.asdict(cfg.evaluation)]
    stamps = {p: stamp(transfer.agents_folder(cfg, p), settings, p, starts) for p in populations}
    rows = [row for made_by in stamps.values() for row in kept(path, made_by, COLUMNS)]
    for population in populations:
        folder = transfer.agents_folder(cfg, population)
        if not (folder / f"{settings.agent}_coarse.safetensors").exists():
            raise UserError(
                f"{population} has no agents here; run `python -m lib.study.populations train {population}` first."
            )
        agent = register.load_agent(folder, "spine", settings.agent)
        scans = [s for s in transfer.held_out(cfg.transfer, "spine", population) if s not in PAIRS]
        for reach in transfer_eval.RANGES:
            done = {(r["case"], r["start"]) for r in rows if (r["population"], r["range"]) == (population, reach)}
            for case in transfer_eval.real_cases(cfg, scans, reach):
                if (case.id, case.start) in done:
                    continue
                who = case.patient
                one = register.register(who.fixed, who.moving, "spine", case.initial, agent, settings=settings)
                errors = [round(cases.error(case, pose), 3) for pose in (one.ends[0], one.pose)]
                values = (population, reach, who.dataset, case.id, case.start, *errors, one.trust.verdict)
                values += (round(one.seconds["total"], 2), stamps[population])
                rows.append(dict(zip(COLUMNS, values, strict=True)))
                write(path, rows, COLUMNS)
            mine = [r for r in rows if (r["population"], r["range"]) == (population, reach)]
            say(f"{population} {reach}: {sum(r['error_mm'] <= 10 for r in mine)} of {len(mine)} within 10 mm")
    provenance.record(path, cfg, seeds={"starts": cfg.evaluation.seed}, settings=dataclasses.asdict(settings))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(rows: pd.DataFrame) -> str:
    """The README's table: a line a range and scan, then all scans with the interval (scans resampled)."""
    head = [
        "starts",
        "scan",
        "n",
        "agent, this start alone",
        "as the command does",
        "median mm",
        "called good",
        "of these wrong",
    ]
    lines = ["| " + " | ".join([*head, "right, not called good"]) + " |", "|---" * (len(head) + 1) + "|"]
    for reach, words in SHOWN.items():
        mine = rows[rows["range"] == reach]
        for scan, some in [*mine.groupby("scan"), (ALL, mine)]:
            right, good = some["error_mm"] <= 10, some["verdict"] == "good"
            shares = []
            for column in ("alone_mm", "error_mm"):
                ok = some[column] <= 10
                low, high = metrics.success_interval(ok, some["scan"])
                shares.append(f"{ok.mean():.0%}" + (f" [{100 * low:.0f}, {100 * high:.0f}]" if scan == ALL else ""))
            cells = [
                words,
                f"`{scan}`" if scan != ALL else scan,
                str(len(some)),
                *shares,
                f"{some['error_mm'].median():.1f}",
            ]
            cells += [str(good.sum()), str((good & ~right).sum()), str((right & ~good).sum())]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Measures; one sentence and exit status 2 on bad input."""
    import torch

    argparse.ArgumentParser(prog="python -m lib.study.register_real", description=__doc__.splitlines()[0]).parse_args(
        words
    )
    torch.set_num_threads(1)
    return status(lambda: print(markdown(measure(folders.results_root() / "register_real.csv"))))


if __name__ == "__main__":
    sys.exit(main())
