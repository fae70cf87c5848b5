"""`python -m lib register`: align a CT to a cone-beam CT, from files to files, one pair or a table of pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.base.errors import UserError

EXPERIMENTS = ("spine", "heart")
FORMATS = {  # name: the names of files it may have
    "itk": (".tfm", ".txt", ".h5"),
    "elastix": (".txt",),
    "ants": (".mat",),
    "greedy": (".mat", ".txt"),
    "dicom": (".dcm",),
}
NOT_TRUSTED = 3  # exit status of a result that was written and is not to be trusted
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
    add.add_argument("--format", default="itk", choices=FORMATS, help="whose file OUT is (default: itk; see docs/inputs.md)")
    add.add_argument("--list", metavar="PAIRS.csv", help="instead of FIXED MOVING: a table of pairs; OUT is a table, too")
    add.add_argument("--experiment", default="spine", choices=EXPERIMENTS, help="what to align (default: spine)")
    add.add_argument("--initial", metavar="T.tfm", help="start from this ITK transform (fixed -> moving)")
    add.add_argument(
        "--polish", action="store_true", help="end with mutual information; kept if it is better supported"
    )
    add.add_argument("--resampled", metavar="OUT.nii.gz", help="also write the CT on the CBCT's grid")
    add.add_argument("--report", metavar="OUT.html", help="also write a report with pictures and the verdict")
    add.add_argument("--json", metavar="OUT.json", help="also write pose, six numbers, verdict, reasons and settings")
    add.add_argument("--agent", metavar="DIR", help="a folder with an agent of your own")
    add.add_argument("--series", metavar="NAME", help="which DICOM series of a folder: UID, number or description (CT)")
    add.add_argument("--fixed-series", metavar="NAME", help="the same for the CBCT's folder")
    add.add_argument("--starts", type=int, metavar="N", help="how many starts are compared")
    point = {"nargs": 3, "type": float, "metavar": ("X", "Y", "Z")}
    add.add_argument("--isocentre", **point, help="the CBCT's isocentre, LPS mm, for the six couch numbers")
    add.add_argument("--plan-isocentre", **point, help="the plan's isocentre in the CT (default: the same point)")


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
    result = one_pair(options, agent_of(options), print)
    print(f"{options.output}: fixed -> moving, {result.seconds['agent']:.1f} s for the agent")
    for line in filter(None, (options.resampled, options.report, options.json, result.note, *result.notes)):
        print(line)
    print(f"couch: {result.couch.sentence()}")
    print(f"verdict: {result.trust.sentence()}")
    return NOT_TRUSTED if result.trust.reasons else 0


def settings_of(options):
    """The settings that the options ask for. Raises UserError."""
    import dataclasses

    from lib.registration.register import RegisterSettings

    if options.starts is None:
        return RegisterSettings()
    if options.starts < 1:
        raise UserError(f"--starts {options.starts}: at least one start is needed.")
    return dataclasses.replace(RegisterSettings(), starts=options.starts)


def agent_of(options):
    """The agent that the options ask for, loaded once for a whole table of pairs. Raises UserError."""
    from lib.registration.register import load_agent

    return load_agent(options.agent, options.experiment, settings_of(options).agent)


def one_pair(options, agent, say):
    """Read, register and write one pair; a `lib.registration.register.Registration`. Raises UserError."""
    import time

    from lib.images import read
    from lib.registration.register import register

    began = time.perf_counter()
    fixed = read.read_image(options.fixed, options.fixed_series, "cbct", compact=True)
    moving = read.read_image(options.moving, options.series, "ct", compact=True)
    if options.format == "dicom":
        from lib.registration import spatial

        spatial.check(fixed, moving)
    reading = time.perf_counter() - began
    points = options.isocentre, options.plan_isocentre
    result = register(
        *(fixed, moving, options.experiment, options.initial, agent, options.polish, settings_of(options)),
        isocentres=points,
        say=say,
    )
    result.seconds["reading"] = round(reading, 2)
    result.seconds["total"] = round(result.seconds["total"] + reading, 2)
    _write(options, fixed, moving, result)
    return result


def _write(options, fixed, moving, result) -> None:
    """All files that were asked for, or none: each takes its name when all are complete."""
    import json
    from contextlib import ExitStack

    from lib.base import provenance
    from lib.images import volume
    from lib.images.pair import resample_moving
    from lib.registration import formats, report

    with ExitStack() as stack:
        wanted = [name for name in (options.output, options.resampled, options.report, options.json) if name]
        place = {name: stack.enter_context(provenance.atomic(name)) for name in wanted}
        try:
            formats.write(options.format, place[options.output], result, fixed, moving)
            if options.resampled:
                volume.write(resample_moving(fixed, moving, result.pose), place[options.resampled])
            if options.report:
                names = Path(options.fixed).name, Path(options.moving).name
                report.write_html(place[options.report], fixed, moving, result, names)
            if options.json:
                said = {"fixed": str(options.fixed), "moving": str(options.moving)} | result.summary()
                place[options.json].write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        except UserError as error:
            text = str(error)
            for name, temporary in place.items():
                text = text.replace(str(temporary), name)
            raise UserError(text) from None


def check_outputs(options) -> None:
    """Raises UserError before any work if an output cannot be written or has an impossible name."""
    wanted = [
        (options.output, (".csv",) if options.list else FORMATS[options.format]),
        (options.resampled, (".nii", ".nii.gz", ".mha", ".nrrd")),
        (options.report, (".html", ".htm")),
        (options.json, (".json",)),
    ]
    inputs = [Path(name).resolve() for name in (options.fixed, options.moving, options.initial, options.list) if name]
    taken = set()
    for name, suffixes in wanted:
        if name is None:
            continue
        path = Path(name)
        if path.resolve() in inputs:
            raise UserError(f"{name}: this is one of the inputs; name another file, so that it is not overwritten.")
        if path.resolve() in taken:
            raise UserError(f"{name}: two outputs have this name; give each its own.")
        taken.add(path.resolve())
        if not path.name.lower().endswith(suffixes):
            raise UserError(f"{name}: the name must end in {' or '.join(suffixes)}.")
        _check_place(path, name)


def _check_place(path: Path, name: str) -> None:
    """Raises UserError where no file can be written at `path`."""
    import tempfile

    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise UserError(f"{name}: {what}; name a file in an existing folder.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with open(path, "ab"):
                pass
    except OSError as error:
        raise UserError(f"{name}: cannot be written ({error.strerror}); choose another place.") from None
