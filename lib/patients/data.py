"""`python -m lib data`: fetch a data set named in data_manifests/, or read a collection that someone downloaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.patients import collected
from lib.patients.scans import fetch, idc_pairs, manifest


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("name", nargs="?", metavar="NAME", help="its name; without one, all are listed")
    add.add_argument(
        "--from", dest="source", metavar="PATH", help="a collection's folder or archive that you downloaded"
    )
    add.add_argument("--limit", type=int, metavar="N", help="only the first N cases, or pairs, of the collection")


def run(options) -> None:
    """List the data sets, fetch one, or make patients of a downloaded collection. Raises UserError."""
    if options.name is None:
        for name in manifest.names():
            found = manifest.load(name)
            state = found.kind
            if found.kind == "scan":
                here = all(manifest.locate(found, entry) for entry in found.files)
                state = "here" if here else "not here"
            elif found.pairs:
                state = f"{len(idc_pairs.here(found))} of {len(found.pairs)} pairs"
            print(f"{name:32} {state:14} {', '.join(found.experiments):13} {found.title}")
    elif options.source:
        made = collected.make_all(options.name, Path(options.source), limit=options.limit)
        print(f"{options.name}: {len(made)} patients; run the notebooks with `-r dataset {options.name}`")
    else:
        fetch.fetch(options.name, limit=options.limit)
