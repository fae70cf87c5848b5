"""`python -m workflow.website`: the study as a static web site, readable without Python (`make site`).
`python -m workflow.website --keep`: the executed notebooks of profile `cpu`, slimmed, into results/notebooks/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.base import errors, folders
from workflow.website import build, executed


def main(words: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m workflow.website", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="cpu", help="whose run the executed notebooks are of")
    parser.add_argument("--out", type=Path, help="folder of the site; by default results/runs/<profile>/site")
    parser.add_argument("--keep", action="store_true", help="only copy the executed notebooks to results/notebooks/")
    options = parser.parse_args(words)
    return errors.status(_keep if options.keep else lambda: _build(options))


def _build(options) -> None:
    run = folders.runs(options.profile)
    out = options.out or run / "site"
    found = build.build(run, options.profile, out)
    print(
        f"{out / 'index.html'}: {found['mb']:.0f} MB, {found['executed']} executed notebooks (profile {options.profile})"
    )
    if found["missing"]:
        print(f"without results, for no run left them: {', '.join(found['missing'])}")


def _keep() -> None:
    kept = executed.keep(folders.runs("cpu"), folders.ROOT / "notebooks")
    print(f"{len(kept)} notebooks, {sum(path.stat().st_size for path in kept) / 1e6:.1f} MB in {executed.KEPT}")


if __name__ == "__main__":
    sys.exit(main())
