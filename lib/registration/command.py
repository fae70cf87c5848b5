"""`python -m lib register`: align a CT to a cone-beam CT, from files to files."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.base.errors import UserError

EXPERIMENTS = ("spine", "heart")


def arguments(add: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add.add_argument("fixed", metavar="FIXED", help="the cone-beam CT: NIfTI, MHA, NRRD or a DICOM folder")
    add.add_argument("moving", metavar="MOVING", help="the CT, in any of these formats")
    add.add_argument("-o", "--output", required=True, metavar="OUT.tfm", help="ITK transform, fixed -> moving, LPS")
    add.add_argument("--experiment", default="spine", choices=EXPERIMENTS, help="what to align (default: spine)")
    add.add_argument("--initial", metavar="T.tfm", help="start from this ITK transform (fixed -> moving)")
    add.add_argument(
        "--polish", action="store_true", help="end with mutual information; kept if it is better supported"
    )
    add.add_argument("--resampled", metavar="OUT.nii.gz", help="also write the CT on the CBCT's grid")
    add.add_argument("--report", metavar="OUT.html", help="also write a report with pictures and the verdict")
    add.add_argument("--agent", metavar="DIR", help="a folder with an agent of your own")
    add.add_argument("--series", metavar="NAME", help="which DICOM series of a folder: UID, number or description (CT)")
    add.add_argument("--fixed-series", metavar="NAME", help="the same for the CBCT's folder")
    add.add_argument("--starts", type=int, metavar="N", help="how many starts are compared")


def run(options) -> None:
    """Register, write what was asked for, print the verdict. Raises UserError with nothing written."""
    check_outputs(options)
    for path in filter(None, (options.fixed, options.moving, options.initial)):
        if not Path(path).exists():
            raise UserError(f"{path}: no such file or folder; check the path.")
    import dataclasses
    import time

    from lib.images import read
    from lib.registration.register import RegisterSettings, load_agent, register

    settings = RegisterSettings()
    if options.starts is not None:
        if options.starts < 1:
            raise UserError(f"--starts {options.starts}: at least one start is needed.")
        settings = dataclasses.replace(settings, starts=options.starts)
    agent = load_agent(options.agent, options.experiment, settings.agent)
    began = time.perf_counter()
    fixed = read.read_image(options.fixed, options.fixed_series, "cbct")
    moving = read.read_image(options.moving, options.series, "ct")
    reading = time.perf_counter() - began
    result = register(fixed, moving, options.experiment, options.initial, agent, options.polish, settings, say=print)
    result.seconds["reading"] = round(reading, 2)
    result.seconds["total"] = round(result.seconds["total"] + reading, 2)
    _write(options, fixed, moving, result)
    print(f"{options.output}: fixed -> moving, {result.seconds['agent']:.1f} s for the agent")
    for line in filter(None, (options.resampled, options.report, result.note)):
        print(line)
    print(f"verdict: {result.trust.sentence()}")


def _write(options, fixed, moving, result) -> None:
    """All files that were asked for, or none: each takes its name when all are complete."""
    from contextlib import ExitStack

    from lib.base import provenance
    from lib.images import volume
    from lib.images.pair import resample_moving
    from lib.registration import report

    with ExitStack() as stack:
        wanted = [name for name in (options.output, options.resampled, options.report) if name]
        place = {name: stack.enter_context(provenance.atomic(name)) for name in wanted}
        try:
            volume.write_transform(result.pose, place[options.output], result.centre)
            if options.resampled:
                volume.write(resample_moving(fixed, moving, result.pose), place[options.resampled])
            if options.report:
                names = Path(options.fixed).name, Path(options.moving).name
                report.write_html(place[options.report], fixed, moving, result, names)
        except UserError as error:
            text = str(error)
            for name, temporary in place.items():
                text = text.replace(str(temporary), name)
            raise UserError(text) from None


def check_outputs(options) -> None:
    """Raises UserError before any work if an output cannot be written or has an impossible name."""
    import tempfile

    wanted = {
        options.output: (".tfm", ".txt", ".h5"),
        options.resampled: (".nii", ".nii.gz", ".mha", ".nrrd"),
        options.report: (".html", ".htm"),
    }
    inputs = [Path(name).resolve() for name in (options.fixed, options.moving, options.initial) if name]
    for name, suffixes in wanted.items():
        if name is None:
            continue
        path = Path(name)
        if path.resolve() in inputs:
            raise UserError(f"{name}: this is one of the inputs; name another file, so that it is not overwritten.")
        if not path.name.lower().endswith(suffixes):
            raise UserError(f"{name}: the name must end in {' or '.join(suffixes)}.")
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
