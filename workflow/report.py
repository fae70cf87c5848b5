"""`python -m workflow.report`: the executed notebooks of a run as web pages (`make report`), in folders as the run's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.base import errors, folders, provenance

MADE = ("report", "site")  # folders of a run that hold what is made of its notebooks


def write(run: Path, profile: str) -> list[Path]:
    """The pages in `run`/report. Raises UserError where the run has no executed notebook."""
    places = sorted(path.relative_to(run) for path in run.rglob("[01][0-9]_*.ipynb"))
    places = [place for place in places if place.parts[0] not in MADE]
    if not places:
        raise errors.UserError(f"{run} holds no executed notebook; run `make reproduce PROFILE={profile}` first.")
    from nbconvert import HTMLExporter

    exporter, pages = HTMLExporter(), []
    for place in places:
        page = run / "report" / place.with_suffix(".html")
        with provenance.atomic(page) as temporary:
            temporary.write_text(exporter.from_filename(str(run / place))[0], encoding="utf-8")
        pages.append(page)
    return pages


def main(words: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m workflow.report", description=__doc__)
    parser.add_argument("--profile", default="cpu", help="whose run the executed notebooks are of")
    profile = parser.parse_args(words).profile
    run = folders.runs(profile)
    return errors.status(lambda: print(f"{len(write(run, profile))} pages in {run / 'report'}"))


if __name__ == "__main__":
    sys.exit(main())
