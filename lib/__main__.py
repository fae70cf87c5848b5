"""`python -m lib COMMAND`: register a pair of one's own, fetch data, train an agent, run the benchmark.

Bad input ends in one sentence on standard error and exit code 2, with nothing written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.base.errors import UserError

EXPERIMENTS = ("spine", "heart")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lib", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser("register", help="align a CT to a cone-beam CT")
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
    add = commands.add_parser("data", help="fetch a data set named in data_manifests/, or read a collection")
    add.add_argument("name", nargs="?", metavar="NAME", help="its name; without one, all are listed")
    add.add_argument(
        "--from", dest="source", metavar="PATH", help="a collection's folder or archive that you downloaded"
    )
    add.add_argument("--limit", type=int, metavar="N", help="only the first N cases of the collection")
    add = commands.add_parser("train", help="train an agent on the patients of a profile")
    add.add_argument("--profile", default="smoke")
    add.add_argument("--experiment", default="spine", choices=EXPERIMENTS)
    add.add_argument("--split", type=int, default=0)
    add.add_argument("--agent", default="dsl_two_channel", choices=("dsl", "dsl_two_channel"))
    add.add_argument("--stage", default="coarse", choices=("coarse", "fine"))
    commands.add_parser("bench", help="speed of targets, stream, training, roll-out and registration")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input."""
    options = parser().parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; no output was written.", file=sys.stderr)
        return 130
    return 0


def _register(options) -> None:
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


def _data(options) -> None:
    from lib.patients import collected
    from lib.patients.scans import fetch, manifest

    if options.name is None:
        for name in manifest.names():
            found = manifest.load(name)
            state = found.kind
            if found.kind == "scan":
                here = all(manifest.locate(found, entry) for entry in found.files)
                state = "here" if here else "not here"
            print(f"{name:32} {state:10} {', '.join(found.experiments):13} {found.title}")
    elif options.source:
        made = collected.make_all(options.name, Path(options.source), limit=options.limit)
        print(f"{options.name}: {len(made)} patients; run the notebooks with `-r dataset {options.name}`")
    else:
        fetch.fetch(options.name)


def _train(options) -> None:
    """What notebook 03 does for one network: patients, pairs, training. Resumes from its checkpoint."""
    import dataclasses

    from lib import train
    from lib.patients import population
    from lib.study import config, pairs

    cfg = dataclasses.replace(config.load(options.profile), experiment=options.experiment, split=options.split)
    population.build(cfg.patients, cfg.experiment, cfg.profile)
    folders = pairs.split_folders(cfg)
    sides = [pairs.prepare_pairs(folders[side], options.stage, cfg.stream) for side in ("train", "validation")]
    data = [pairs.load_pairs(side) for side in sides]
    out = config.run_dir(cfg) / "agents"
    train.train(*data, cfg.stream, cfg.training, cfg.experiment, options.stage, options.agent, out)


def _bench(options) -> None:
    try:
        from lib.study import bench
    except ImportError:
        raise UserError("The benchmark is not there yet; see the Makefile.") from None
    bench.main()


COMMANDS = {"register": _register, "data": _data, "train": _train, "bench": _bench}

if __name__ == "__main__":
    sys.exit(main())
