"""How good registration of one's own pairs is.

`python -m lib.register_check starts`     the real pair, from 20 starts in each of two ranges -> results/register_pair.csv
`python -m lib.register_check calibrate`  the verdict, on patients that are not tested -> results/trust_calibration.csv,
                                          trust.json beside the agent, a figure, docs/trust.md (`lib.register_calibrate`)

Both write after every case and go on where they stopped; rows of another agent or other settings are made again.
`python -m lib.tables readme` puts the first table into README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases, config, manifest, provenance
from lib.errors import UserError, status

PAIR = "pancreatic_ct_cbct_001"
FILES = {"NIfTI": ("cbct_CB02.nii.gz", "planCT.nii.gz"), "DICOM": ("cbct_CB02_dicom", "planCT_dicom")}
# Half ranges of the starts, mm and degrees: near, and the paper's.
RANGES = {"near": (30.0, 30.0, 30.0, 15.0, 15.0, 15.0), "full": (30.0, 30.0, 150.0, 30.0, 30.0, 30.0)}
MIN_OVERLAP = 0.5  # share of the CBCT's field of view inside the CT at a start
METHODS = {
    "start": "start",
    "agent_once": "agent, this start alone",
    "register": "agent, as the command does",
    "register_polish": "the same, with `--polish`",
    "itk_tuned": "ITK, tuned",
}
COLUMNS = ("files", "range", "start", "method", "error_mm", "seconds", "verdict", "made_by")


def stamp(agent_folder: Path, settings, *more) -> str:
    """What decides a row besides its start: networks, settings."""
    networks = [provenance.sha256(p) for p in sorted(Path(agent_folder).glob(f"{settings.agent}_*.safetensors"))]
    return provenance.fingerprint([networks, dataclasses.asdict(settings), RANGES, MIN_OVERLAP, *more])[:12]


def kept(path: Path, made_by: str, columns) -> list[dict]:
    """Rows of an earlier run by the same agent and settings."""
    if not path.exists():
        return []
    table = pd.read_csv(path, keep_default_na=False, dtype={"made_by": str})
    same = list(table.columns) == list(columns) and len(table)
    return table[table["made_by"] == made_by].to_dict("records") if same else []


def write(path: Path, rows: list[dict], columns) -> None:
    with provenance.atomic(path) as temporary:
        pd.DataFrame(rows, columns=list(columns)).to_csv(temporary, index=False)


def pair_patient(files: str):
    """The real pair as a Patient, with the volumes (fixed, moving) as a user reads them. Raises UserError."""
    from lib import collections_real, io
    from lib.register_images import shrink, trim

    scan = manifest.scan(PAIR)
    patient = collections_real.make(scan, scan.manifest.levels[0], "spine", scan.load())
    names, places = FILES[files], [scan.path(scan.manifest.ct).parent]
    places += [manifest.mirror() / PAIR] if manifest.mirror() else []  # only the mirror holds the DICOM folders
    folder = next((place for place in places if all((place / name).exists() for name in names)), None)
    if folder is None:
        raise UserError(f"{PAIR}: its {files} files are not on this machine; see data_manifests/{PAIR}.yaml.")
    fixed, moving = (io.read_image(folder / n, None, k) for n, k in zip(names, ("cbct", "ct"), strict=True))
    # The truth, the landmarks and the starts are the manifest's; the images are these files'.
    patient.fixed, patient.moving = trim(fixed), shrink(moving, 2.0, False)
    return patient, fixed, moving


def starts(n: int = 20, seed: int = 0, agent_folder=None, settings=None, path=None, say=print) -> pd.DataFrame:
    """`n` starts in each of `RANGES` and each of `FILES`, every method from the same ones. Returns the rows."""
    from lib import register

    settings, rows = settings or register.RegisterSettings(), []
    folder = Path(agent_folder or register.AGENTS / "spine")
    path = Path(path or config.results_root() / "register_pair.csv")
    made_by = stamp(folder, settings, seed)
    rows = kept(path, made_by, COLUMNS)
    for files in FILES:
        try:
            patient, fixed, moving = pair_patient(files)
        except UserError as error:
            if files == "NIfTI":
                raise
            say(str(error))
            continue
        for reach, ranges in RANGES.items():
            for case in cases.starts(patient, n, ranges, seed, MIN_OVERLAP):
                if any((r["files"], r["range"], r["start"]) == (files, reach, case.start) for r in rows):
                    continue
                rows += _one_start(case, fixed, moving, folder, settings, {"files": files, "range": reach}, made_by)
                write(path, rows, COLUMNS)
                say(f"{files}, {reach}, start {case.start + 1} of {n}")
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    provenance.record(path, settings, seeds={"starts": seed}, agent=[p.name for p in sorted(folder.glob("*_coarse.*"))])
    return found


def _one_start(case, fixed, moving, folder, settings, where: dict, made_by: str) -> list[dict]:
    """The rows of `METHODS` from one start."""
    from lib import register
    from lib.baselines import itk_tuned
    from lib.baselines.settings import BaselineSettings

    one = register.register(fixed, moving, "spine", case.initial, folder, True, settings)
    itk = itk_tuned.register(
        case.patient.fixed, case.patient.moving, case.initial, BaselineSettings(),
        cases.field_of_view(case.patient.fixed), np.random.default_rng(case.start),
    )  # fmt: skip
    before = one.pose if one.agent_pose is None else one.agent_pose
    agent, polish = one.seconds["agent"], one.seconds["polish"]
    poses = {
        "start": (case.initial, 0.0, ""),
        "agent_once": (one.ends[0], agent / len(one.ends), ""),
        "register": (before, agent, one.agent_trust.verdict),
        "register_polish": (one.pose, agent + polish, one.trust.verdict),
        "itk_tuned": (itk.pose, itk.seconds, ""),
    }
    return [
        where | {"start": case.start, "method": method, "error_mm": round(cases.error(case, pose), 3),
                 "seconds": round(seconds, 2), "verdict": verdict, "made_by": made_by}
        for method, (pose, seconds, verdict) in poses.items()
    ]  # fmt: skip


def markdown(rows: pd.DataFrame) -> str:
    """The README's table of the real pair: a line for each kind of files, range and method."""
    head = ["files", "starts", "method", "n", "within 10 mm", "within 20 mm", "median mm", "90th mm", "called good"]
    lines = ["| " + " | ".join([*head, "of these within 10 mm"]) + " |", "|---" * (len(head) + 1) + "|"]
    where = {"near": "±30 mm, ±15°", "full": "the paper's range"}
    for (files, reach), some in rows.groupby(["files", "range"], sort=False):
        for method, name in METHODS.items():
            mine = some[some["method"] == method]
            if not len(mine):
                continue
            errors, good = mine["error_mm"], mine["verdict"] == "good"
            cells = [files, where[reach], name, str(len(mine)), *(f"{(errors <= mm).sum()}" for mm in (10, 20))]
            cells += [f"{errors.median():.1f}", f"{errors.quantile(0.9):.1f}"]
            judged = method.startswith("register")
            cells += [f"{good.sum()}", f"{(good & (errors <= 10)).sum()}"] if judged else ["", ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """One command; one sentence and exit status 2 on bad input."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lib.register_check", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("starts", "calibrate"))
    parser.add_argument("--experiment", default="spine", choices=config.EXPERIMENTS, help="calibrate: whose agent")
    parser.add_argument("--profile", default="cpu", help="calibrate: whose patients")
    parser.add_argument("--agent", metavar="DIR", help="a folder of agents (default: the released ones)")
    parser.add_argument("--patients", type=int, default=12, help="calibrate: so many drawn, and so many grown")
    parser.add_argument("-n", type=int, help="starts a range (starts: 20; calibrate: 2 a patient)")
    given = parser.parse_args(words)
    torch.set_num_threads(1)

    def work():
        if given.command == "starts":
            print(markdown(starts(given.n or 20, agent_folder=given.agent)))
        else:
            from lib import register_calibrate

            register_calibrate.run(given.profile, given.experiment, given.agent, given.patients, given.n or 2)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
