"""Released agents: those of one split, copied to results/agents/ with a model card and their training logs.

`python -m lib.study.release [profile] [split]`. Everything that registers uses them by default. The card's numbers are read
from the tables in results/, which is why they are released after notebook 06 has run; `python -m lib.study.release card`
writes the card alone, of the agents that are there, after the tables have changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from lib.base import folders, provenance, weights
from lib.base.errors import UserError, status
from lib.study import config, populations
from lib.tables import real
from lib.train import AGENTS

LIMIT_MB = 40


def release(profile: str = "cpu", split: int = 0, target: Path | None = None) -> list[Path]:
    """Copy the agents of both experiments; returns their paths. Raises UserError where none was trained, or they are too large."""
    target = target or folders.results_root() / "agents"
    copied = []
    for experiment in config.EXPERIMENTS:
        cfg = config.load(profile, sections=("stream", "training", "transfer"), experiment=experiment, split=split)
        folder = config.agents_dir(cfg)
        found = [p for agent in AGENTS for p in sorted(folder.glob(f"{agent}_*.safetensors"))]
        better = populations.agents_folder(cfg, getattr(cfg.transfer, f"released_{experiment}"))
        found = [better / p.name if (better / p.name).exists() else p for p in found]
        if not found:
            raise UserError(f"{folder}: no trained agents; run `make reproduce PROFILE={profile}` first.")
        for source in dict.fromkeys(found):
            for path in (source, source.with_name(source.stem + "_log.csv"), provenance.beside(source)):
                if path.exists():
                    place = target / experiment / path.name
                    with provenance.atomic(place) as temporary:
                        shutil.copyfile(path, temporary)
            copied.append(target / experiment / source.name)
    size = sum(path.stat().st_size for path in copied) / 1e6
    if size > LIMIT_MB:
        raise UserError(f"The agents take {size:.0f} MB, more than {LIMIT_MB}; release fewer or train smaller ones.")
    write_card(target, copied, profile, split)
    return copied


def write_card(target: Path, paths: list[Path] | None = None, profile: str = "cpu", split: int = 0) -> Path:
    """MODEL_CARD.md in the folder `target` of released agents, of all networks there unless `paths` are given."""
    found = [path for e in config.EXPERIMENTS for path in sorted((target / e).glob("*.safetensors"))]
    with provenance.atomic(target / "MODEL_CARD.md") as temporary:
        temporary.write_text(card(paths or found, profile, split), encoding="utf-8")
    return target / "MODEL_CARD.md"


def card(paths: list[Path], profile: str, split: int) -> str:
    """The model card, Markdown."""
    lines = [
        "# The released agents",
        "",
        f"Networks of profile `{profile}`. `dsl` is the paper's agent (difference image), `dsl_two_channel` sees both",
        "images. `coarse`: 200 actions on the whole field of view; `fine`: 100 more around the attention's centre (spine only).",
        f"`dsl` and the heart's agents are those of split {split} as trained by notebook 03, on drawn patients alone. The spine's",
        "`dsl_two_channel` also trained on patients grown from real CTs (notebook 07); `grown_from` in its provenance names",
        "them. Format: safetensors, see `lib/network.py`. Rows on virtual patients are of the agents that the last",
        "`make reproduce` trained, each on the patients its split tests; rows on real scans are of the released recipe.",
        "",
        "| file | MB | training samples | minutes | greedy action, unseen patients |",
        "|---|---|---|---|---|",
    ]
    for path in paths:
        log = path.with_name(path.stem + "_log.csv")
        last = pd.read_csv(log).iloc[-1] if log.exists() else None
        meta = weights.load(path)[1]
        cells = [f"{path.parent.name}/{path.name}", f"{path.stat().st_size / 1e6:.1f}"]
        cells += [f"{last.samples:,.0f}" if last is not None else "", f"{float(meta.get('seconds', 0)) / 60:.0f}"]
        cells.append(f"{100 * last.val_agreement:.0f} % (chance 8 %)" if last is not None else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_settings(paths, profile), *_measured(), *_limits()]) + "\n"


def _settings(paths: list[Path], profile: str) -> list[str]:
    """What the networks' provenance says of how they were trained where the profile now says otherwise."""
    cfg = config.load(profile, sections=("stream", "training")).as_dict()
    other = set()
    for path in paths:
        if not provenance.beside(path).exists():
            continue
        then = json.loads(provenance.beside(path).read_text(encoding="utf-8"))["config"]["values"]
        for section in ("stream", "training"):
            now = json.loads(json.dumps(cfg[section]))  # tuples as the lists of a file
            shared = set(now) & set(then.get(section, {})) - {"samples", "fine_samples", "report_every"}
            other |= {
                f"`{section}.{k}` {then[section][k]} (now {now[k]})" for k in shared if then[section][k] != now[k]
            }
    if not other:
        return []
    words = f"Trained with other settings than `{profile}` has now: {', '.join(sorted(other))}."
    return [words + " Rows on virtual patients below are not of these networks.", ""]


def _measured() -> list[str]:
    """What the tables in results/ say of the agents."""
    lines, folder = ["## How well they do", ""], folders.results_root()
    for name, column in (("table1.csv", "dataset"), ("table_real.csv", "scan")):
        if not (folder / name).exists():
            continue
        table = pd.read_csv(folder / name)
        whole = (table[column] == real.ALL) & table["method"].str.endswith("_adaptive")
        table = table[(table["method"].isin(AGENTS) | whole) & (table["n"] > 0)]
        if name == "table1.csv":
            table = table[table["dataset"].str.startswith("virtual_")]
        for row in table.to_dict("records"):
            where = (
                f"{row[column]}, {row['range']} range"
                if "range" in row
                else f"{row[column]} (agents of `make reproduce`)"
            )
            lines.append(
                f"- {row['experiment']}, {where}, `{row['method']}`: success {100 * row['success']:.0f} % of {row['n']}, "
                f"median {row['p50']:.1f} mm (90th percentile {row['p90']:.1f})"
            )
    return lines if len(lines) > 2 else [*lines, "Not measured yet."]


def _limits() -> list[str]:
    return [
        "",
        "## What they were trained on, and what they are not for",
        "",
        "Drawn patients, and for the spine's `dsl_two_channel` patients grown from real CTs, whose organs have moved with the",
        "breath by the time of the CBCT; their cone-beam CTs are computed with real scanner physics. No real CBCT was trained",
        "on. Three choices were made knowing real scans: `value_weight` on four real CTs with a cut-out as CBCT; which of two",
        "populations is released, knowing earlier agents of both on the real pair; and that grown patients breathe, after a look",
        "at where earlier agents had ended on that pair (docs/deviations.md, *On real scans*). Starts within ±30, ±30, ±150 mm",
        "(spine) or ±30 mm (heart) and ±30 degrees, head-first supine. Not a medical device; licence Apache-2.0.",
    ]


def main(words: list[str]) -> int:
    """One sentence and exit 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.release", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="cpu", help="a profile; or card: the model card alone")
    parser.add_argument("split", nargs="?", type=int, default=0)
    given = parser.parse_args(words)

    def work():
        if given.what == "card":
            print(write_card(folders.results_root() / "agents"))
        else:
            for path in release(given.what, given.split):
                print(path)

    return status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
