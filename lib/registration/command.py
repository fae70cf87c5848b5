"""`python -m lib register`: align a CT to a cone-beam CT, from files to files, one pair or a table of pairs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from lib.base.errors import UserError
from lib.base.talk import is_text
from lib.registration.files import FORMATS, NOT_TRUSTED, agent_of, check_outputs, one_pair

EXPERIMENTS = ("spine", "heart")
EPILOG = (
    "exit status: 0 written, and good; 2 bad input, one sentence and nothing written; 3 written, do not trust it (the "
    "verdict says why); 130 stopped by Ctrl-C"
)


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.epilog = EPILOG
    add.add_argument("fixed", nargs="?", metavar="FIXED", help="the cone-beam CT: NIfTI, MHA, NRRD or a DICOM folder")
    add.add_argument("moving", nargs="?", metavar="MOVING", help="the CT, in any of these formats")
    add.add_argument("-o", "--output", required=True, metavar="OUT.tfm", help="the transform, fixed -> moving, LPS")
    add.add_argument(
        "--format", default="itk", choices=FORMATS, help="whose file OUT is (default: itk; see docs/inputs.md)"
    )
    add.add_argument(
        "--list", metavar="PAIRS.csv", help="instead of FIXED MOVING: a table of pairs; OUT is a table, too"
    )
    add.add_argument("--experiment", default="spine", choices=EXPERIMENTS, help="what to align (default: spine)")
    add.add_argument("--initial", metavar="T.tfm", help="start from this ITK transform (fixed -> moving)")
    add.add_argument(
        "--only",
        choices=("agent", "search"),
        help="one scout instead of both: the agent, or the search without an agent",
    )
    add.add_argument("--resampled", metavar="OUT.nii.gz", help="also write the CT on the CBCT's grid")
    add.add_argument("--report", metavar="OUT.html", help="also write a report with pictures and the verdict")
    add.add_argument("--json", metavar="OUT.json", help="also write pose, six numbers, verdict, reasons and settings")
    add.add_argument("--agent", metavar="DIR", help="a folder with an agent of your own")
    add.add_argument("--series", metavar="NAME", help="which DICOM series of a folder: UID, number or description (CT)")
    add.add_argument("--fixed-series", metavar="NAME", help="the same for the CBCT's folder")
    add.add_argument("--starts", type=int, metavar="N", help="how many starts are compared")
    point = {"nargs": 3, "type": _number, "metavar": ("X", "Y", "Z")}
    add.add_argument("--isocentre", **point, help="the CBCT's isocentre, LPS mm, for the six couch numbers")
    add.add_argument("--plan-isocentre", **point, help="the plan's isocentre in the CT (default: the same point)")


def _number(text: str) -> float:
    """A number, not nan or infinite. Raises ValueError."""
    if not math.isfinite(found := float(text)):
        raise ValueError(text)
    return found


def run(options) -> int:
    """Register, write what was asked for, print the verdict; the exit status. Raises UserError with nothing written."""
    if options.list:
        from lib.registration import pairs

        return pairs.run(options)
    if options.fixed is None or options.moving is None:
        raise UserError("FIXED and MOVING are needed: the cone-beam CT, then the CT (or --list PAIRS.csv).")
    check_outputs(options)
    for path in filter(None, (options.fixed, options.moving, options.initial)):
        if not Path(path).exists():
            raise UserError(f"{path}: no such file or folder; check the path.")
    if options.initial and not is_text(options.initial):
        raise UserError(f"{options.initial!a}: the name holds bytes that are no UTF-8; rename the file.")
    result = one_pair(options, agent_of(options), print)
    took = [f"{result.seconds[who]:.1f} s for the {who}" for who in ("agent", "search") if who in result.seconds]
    print(f"{options.output}: fixed -> moving, {', '.join(took)}")
    for line in filter(None, (options.resampled, options.report, options.json, result.note, *result.notes)):
        print(line)
    print(f"couch: {result.couch.sentence()}")
    print(f"verdict: {result.trust.sentence()}")
    return NOT_TRUSTED if result.trust.reasons else 0
