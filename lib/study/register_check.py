"""How good registration of one's own pairs is.

`python -m lib.study.register_check starts`     the real pair, from 20 starts in each of two ranges -> results/register_pair.csv
`python -m lib.study.register_check calibrate`  the verdict, on patients that are not tested -> results/trust_calibration.csv,
                                          trust.json beside the agent, a figure (`lib.study.register_calibrate`)

Both write after every case and go on where they stopped; rows of another agent or other settings are made again.
`python -m lib tables documents` puts the first table into docs/register.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from lib import cases
from lib.base import folders, provenance
from lib.base.errors import UserError, status
from lib.patients.scans import manifest
from lib.study import config

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


def kept(path: Path, made_by: str | dict[str, str], columns) -> list[dict]:
    """Rows of an earlier run by the same agent and settings: one stamp for all, or one a method."""
    if not path.exists():
        return []
    table = pd.read_csv(path, keep_default_na=False, dtype={"made_by": str})
    same = list(table.columns) == list(columns) and len(table)
    expected = table["method"].map(made_by) if isinstance(made_by, dict) else made_by
    return table[table["made_by"] == expected].to_dict("records") if same else []


def write(path: Path, rows: list[dict], columns) -> None:
    with provenance.atomic(path) as temporary:
        pd.DataFrame(rows, columns=list(columns)).to_csv(temporary, index=False)


def pair_patient(files: str):
    """The real pair as a Patient, with the volumes (fixed, moving) as a user reads them. Raises UserError."""
    from lib.images import read
    from lib.images.pair import shrink, trim
    from lib.patients import real

    scan = manifest.scan(PAIR)
    patient = real.make(scan, scan.manifest.levels[0], "spine", scan.load())
    names, places = FILES[files], [scan.path(scan.manifest.ct).parent]
    places += [manifest.mirror() / PAIR] if manifest.mirror() else []  # only the mirror holds the DICOM folders
    folder = next((place for place in places if all((place / name).exists() for name in names)), None)
    if folder is None:
        raise UserError(f"{PAIR}: its {files} files are not on this machine; see data_manifests/{PAIR}.yaml.")
    fixed, moving = (read.read_image(folder / n, None, k) for n, k in zip(names, ("cbct", "ct"), strict=True))
    # The truth, the landmarks and the starts are the manifest's; the images are these files'.
    patient.fixed, patient.moving = trim(fixed), shrink(moving, 2.0, False)
    return patient, fixed, moving


def starts(n: int = 20, seed: int = 0, agent_folder=None, settings=None, path=None, say=print) -> pd.DataFrame:
    """`n` starts in each of `RANGES` and each of `FILES`, every method from the same ones. Returns the rows."""
    from lib.baselines.settings import BaselineSettings
    from lib.registration import register

    settings, itk = settings or register.RegisterSettings(), BaselineSettings()
    folder = Path(agent_folder or register.AGENTS / "spine")
    path = Path(path or folders.results_root() / "register_pair.csv")
    made_by = dict.fromkeys(METHODS, stamp(folder, settings, seed))
    made_by["itk_tuned"] = provenance.fingerprint([dataclasses.asdict(itk.tuned), RANGES, MIN_OVERLAP, seed])[:12]
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
                where = {"files": files, "range": reach, "start": case.start}
                missing = set(METHODS) - {r["method"] for r in rows if where.items() <= r.items()}
                if not missing:
                    continue
                found = _by_itk(case, itk) if "itk_tuned" in missing else {}
                if missing - {"itk_tuned"}:
                    found |= _by_agent(case, fixed, moving, folder, settings)
                rows += [
                    where
                    | {
                        "method": method,
                        "error_mm": round(cases.error(case, pose), 3),
                        "seconds": round(seconds, 2),
                        "verdict": verdict,
                        "made_by": made_by[method],
                    }
                    for method, (pose, seconds, verdict) in found.items()
                    if method in missing
                ]
                write(path, rows, COLUMNS)
                say(f"{files}, {reach}, start {case.start + 1} of {n}")
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    provenance.record(path, settings, seeds={"starts": seed}, agent=[p.name for p in sorted(folder.glob("*_coarse.*"))])
    return found


def _by_agent(case, fixed, moving, folder, settings) -> dict:
    """{method: (pose, seconds, verdict)} of the start itself and of the agent from it."""
    from lib.registration import register

    one = register.register(fixed, moving, "spine", case.initial, folder, True, settings)
    before = one.pose if one.agent_pose is None else one.agent_pose
    agent, polish = one.seconds["agent"], one.seconds["polish"]
    return {
        "start": (case.initial, 0.0, ""),
        "agent_once": (one.ends[0], agent / len(one.ends), ""),
        "register": (before, agent, one.agent_trust.verdict),
        "register_polish": (one.pose, agent + polish, one.trust.verdict),
    }


def _by_itk(case, settings) -> dict:
    """{"itk_tuned": (pose, seconds, "")} from a start."""
    from lib.baselines import itk as methods

    patient, rng = case.patient, np.random.default_rng(case.start)
    field = cases.field_of_view(patient.fixed)
    found = methods.tuned(patient.fixed, patient.moving, case.initial, settings, field, rng)
    return {"itk_tuned": (found.pose, found.seconds, "")}


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

    parser = argparse.ArgumentParser(prog="python -m lib.study.register_check", description=__doc__.splitlines()[0])
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
            from lib.study import register_calibrate

            register_calibrate.run(given.profile, given.experiment, given.agent, given.patients, given.n or 2)

    return status(work)


if __name__ == "__main__":
    sys.exit(main())
