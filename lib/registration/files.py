"""One pair from files to files: what the options ask for, read, registered and written, all or nothing."""

from __future__ import annotations

from pathlib import Path

from lib.base.errors import UserError

FORMATS = {  # name: the names of files it may have
    "itk": (".tfm", ".txt", ".h5"),
    "elastix": (".txt",),
    "ants": (".mat",),
    "greedy": (".mat", ".txt"),
    "dicom": (".dcm",),
}
NOT_TRUSTED = 3  # exit status of a result that was written and is not to be trusted


def settings_of(options):
    """The settings that the options ask for. Raises UserError."""
    import dataclasses

    from lib.registration.register import RegisterSettings

    asked = {"scouts": options.only or "both"}
    if options.starts is not None:
        if options.starts < 1:
            raise UserError(f"--starts {options.starts}: at least one start is needed.")
        asked["starts"] = options.starts
    return dataclasses.replace(RegisterSettings(), **asked)


def agent_of(options):
    """The agent that the options ask for, loaded once for a whole table of pairs. Raises UserError."""
    from lib.registration.register import load_agent

    settings = settings_of(options)
    return load_agent(options.agent, options.experiment, settings.agent, settings.scouts)


def one_pair(options, agent, say):
    """Read, register and write one pair; a `lib.registration.register.Registration`. Raises UserError."""
    import time

    from lib.images.transforms import read_transform
    from lib.registration.register import read_both, register

    initial = None if options.initial is None else read_transform(options.initial)  # at once: scans take seconds
    began = time.perf_counter()
    fixed, moving = read_both(options.fixed, options.moving, (options.fixed_series, options.series))
    if options.format == "dicom":
        from lib.registration import spatial

        spatial.check(fixed, moving)
    reading = time.perf_counter() - began
    points = options.isocentre, options.plan_isocentre
    result = register(
        *(fixed, moving, options.experiment, initial, agent, settings_of(options)),
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
                text = json.dumps(said, indent=2, allow_nan=False)
                place[options.json].write_text(text + "\n", encoding="utf-8")
        except UserError as error:
            text = str(error)
            for name, temporary in place.items():
                text = text.replace(str(temporary), name)
            raise UserError(text) from None


def check_outputs(options) -> None:
    """Raises UserError before any work if an output cannot be written or has an impossible name."""
    from lib.images.dicom import is_dicom

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
        if path.is_file() and is_dicom(path) and any(folder in path.resolve().parents for folder in inputs):
            raise UserError(f"{name}: this file is one of the inputs; name another one, so that it is not overwritten.")
        if not path.name.endswith(suffixes):
            raise UserError(f"{name}: the name must end in {' or '.join(suffixes)}, in small letters.")
        _check_place(path, name)


def _check_place(path: Path, name: str) -> None:
    """Raises UserError where no file can be written at `path`."""
    import tempfile

    from lib.base.talk import is_text

    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise UserError(f"{name}: {what}; name a file in an existing folder.")
    if path.exists() and not path.is_file():
        raise UserError(f"{name}: no plain file (a pipe or a device); name a file.")
    if not is_text(name):
        raise UserError(f"{name!a}: the name holds bytes that are no UTF-8; choose another one.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with open(path, "ab"):
                pass
    except OSError as error:
        raise UserError(f"{name}: cannot be written ({error.strerror}); choose another place.") from None
