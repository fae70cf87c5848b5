"""`python -m lib card`: the model card of the released agents, its numbers read from the tables in results/."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from lib.base import folders, provenance, weights
from lib.base.errors import UserError
from lib.study import config, train_agent
from lib.tables import real
from lib.train import AGENTS

NAME = "MODEL_CARD.md"
IDLE = {"spine": "heart_range", "heart": "spine_range"}  # has no say in that experiment's networks


def write(target: Path, profile: str = "cpu") -> Path:
    """The card in the folder `target` of released agents, of all networks there."""
    found = networks(target)
    with provenance.atomic(target / NAME) as temporary:
        temporary.write_text(card(found, profile, split_of(found)), encoding="utf-8")
    return target / NAME


def networks(target: Path) -> list[Path]:
    """The released networks in the folder `target`."""
    return [path for e in config.EXPERIMENTS for path in sorted((target / e).glob("*.safetensors"))]


def split_of(paths: list[Path]) -> int:
    """The split whose agents were released, as the provenance beside the networks says. Networks of a population of
    grown patients say nothing of it: they stay where another split is released."""
    for path in paths:
        beside = provenance.beside(path)
        value = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
        split = value.get("config", {}).get("values", {}).get("split")
        if split is not None and "population" not in value:
            return split
    return 0  # what a release without a split in its provenance means


def verify(target: Path, profile: str = "cpu") -> list[str]:
    """A sentence where the card in `target` is not what its networks, their logs and the tables give. Empty: it is."""
    found = networks(target)
    there = (target / NAME).read_text(encoding="utf-8") if (target / NAME).exists() else ""
    same = there == card(found, profile, split_of(found))
    return [] if same else [f"{NAME} is not what the networks and the tables say; run `python -m lib card`."]


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
    usual, other = config.load(profile, sections=("stream", "training")), set()
    for path in paths:
        if not provenance.beside(path).exists():
            continue
        cfg = train_agent.own(usual, path.stem.rpartition("_")[0]).as_dict()  # an agent has settings of its own
        then = json.loads(provenance.beside(path).read_text(encoding="utf-8"))["config"]["values"]
        for section in ("stream", "training"):
            now = json.loads(json.dumps(cfg[section]))  # tuples as the lists of a file
            shared = set(now) & set(then.get(section, {})) - {
                "samples",
                "fine_samples",
                "report_every",
                IDLE.get(path.parent.name),
            }
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
        "on. Some choices were made knowing real scans, the larger of them `value_weight` on four real CTs with a cut-out as CBCT;",
        "which of two populations is released, knowing earlier agents of both on the real pair; and that grown patients breathe,",
        "after a look at where earlier agents had ended on that pair (all are in docs/history.md, *On real scans*). Trained on starts",
        "within ±30, ±30, ±150 mm and ±30 degrees (spine) or ±60 mm and ±60 degrees (heart, where both images are moved),",
        "head-first supine. The spine's agent alone is weak above T8 and below L2: there",
        "the search of `register` finds the place (docs/real_scans.md, *Every vertebra*). Not a medical device; licence",
        "Apache-2.0.",
    ]


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("profile", nargs="?", default="cpu", help="whose training settings they are compared with")
    add.add_argument("split", nargs="?", type=int, help="the split whose agents were released (default: as they say)")


def run(options) -> None:
    """Write the card of the agents that are in results/agents/. Raises UserError for a split that is not theirs."""
    target = folders.results_root() / "agents"
    released = split_of(networks(target))
    if options.split not in (None, released):
        config.load(options.profile, sections=("patients",), split=options.split)  # is there such a split?
        raise UserError(
            f"The agents in {target} are of split {released}; for those of split {options.split}, run first: "
            f"python -m lib release {options.profile} {options.split}"
        )
    print(write(target, options.profile))
