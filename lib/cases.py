"""Test cases, their results, and the one row a method leaves for each: `cases_<method>.csv`.

A case is a test patient de-aligned at random. Columns `tx ... rz` of a row hold the *state that is left*: v =
params(T_g T^-1) about the fixed window's centre, in mm and degrees, zero at the truth. The start's own state is the row
of the method `initial`. `note` says why a method refused or crashed; else, for a failure, its kind
(`metrics.FAILURES`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib import metrics, rigid
from lib.base.errors import UserError
from lib.base.provenance import atomic

COLUMNS = (
    *("profile", "experiment", "dataset", "split", "case", "start", "method"),
    *("initial_error_mm", "final_error_mm", "success", "seconds", "device", "note"),
    *("tx", "ty", "tz", "rx", "ry", "rz"),
)
STATE = COLUMNS[-6:]  # what is left of the pose at the end of a row
KEY = ["profile", "experiment", "dataset", "split", "case", "start"]


@dataclass
class Case:
    """A patient at one start: `initial` (4, 4) moving -> fixed world; `centre` (3,) of the fixed window."""

    patient: object  # lib.patients.store.Patient
    start: int
    initial: np.ndarray
    centre: np.ndarray
    _errors: dict = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        return self.patient.id

    @property
    def initial_error(self) -> float:
        """TRE or MME (mm) at the start; computed once."""
        if "initial" not in self._errors:
            self._errors["initial"] = error(self, self.initial)
        return self._errors["initial"]


@dataclass
class Result:
    """What a method gives back. `note` non-empty: it refused or crashed, and `pose` is the initial pose."""

    pose: np.ndarray  # (4, 4), moving world -> fixed world
    seconds: float
    note: str = ""
    trajectory: np.ndarray | None = None  # (steps + 1, 4, 4) world poses
    device: str = "cpu"


def landmarks(patient) -> tuple[np.ndarray, np.ndarray]:
    """(moving, fixed) landmarks (n, 3) for the TRE. A scan without any gets 32 points of a 4 x 4 x 2 lattice within 40
    mm (20 mm along z) of the CBCT's centre, carried by the known truth."""
    if patient.landmarks_moving is not None and patient.landmarks_fixed is not None:
        return patient.landmarks_moving, patient.landmarks_fixed
    steps = np.linspace(-40, 40, 4)
    lattice = np.stack(np.meshgrid(steps, steps, [-20.0, 20.0], indexing="ij"), axis=-1).reshape(-1, 3)
    fixed = lattice + patient.fixed.centre
    return rigid.apply(rigid.invert(patient.truth), fixed), fixed


def error(case: Case, pose: np.ndarray) -> float:
    """TRE (spine) or MME (heart) of a pose (4, 4), moving -> fixed, mm. A heart without meshes is measured as the spine is."""
    patient = case.patient
    if patient.experiment == "heart" and patient.mesh_moving is not None and patient.mesh_fixed is not None:
        return metrics.mme(patient.mesh_moving, pose, patient.mesh_fixed)
    moving, fixed = landmarks(patient)
    return metrics.tre(moving, pose, fixed)


def overlap(patient, pose: np.ndarray, step_mm: float = 8.0) -> float:
    """Share of the fixed field of view that lies inside the moving volume's grid at `pose`, moving -> fixed (0 to 1).

    The field of view is found in every voxel and then thinned; `pair.overlap` thins first, which is faster.
    """
    from lib.images import normalise, pair  # late: rows are read without torch

    stride = [max(1, int(step_mm / s)) for s in patient.fixed.spacing]
    seen = np.asarray(normalise.field_of_view(patient.fixed))[:: stride[2], :: stride[1], :: stride[0]]
    return pair.share_inside(patient.fixed, patient.moving, pose, np.argwhere(seen)[:, ::-1] * stride)


def starts(patient, n: int, ranges, seed: int, min_overlap: float | None = None) -> list[Case]:
    """`n` random de-alignments of the truth: initial = C M(v) C^-1 T_g, v uniform in +-`ranges` (6,), C the centre of
    the fixed window. With twelve `ranges` both images are moved, as in the paper: initial = P_fixed^-1 P_moving T_g, the
    CT about its own centre by the first six, the CBCT about C by the others. Drawn from the seed and the patient's id
    only. Starts that leave less than `min_overlap` of the field of view inside the CT are drawn again, at most 200 times
    a start."""
    rng = np.random.default_rng([seed, zlib.crc32(patient.id.encode())])
    centre, cases = np.asarray(patient.fixed.centre, dtype=np.float64), []
    for start in range(n):
        for _ in range(200):
            v = rng.uniform(-1, 1, len(ranges)) * np.asarray(ranges, dtype=np.float64)
            initial = _moved(patient, v, centre) @ patient.truth
            if not min_overlap or overlap(patient, initial) >= min_overlap:
                break
        else:
            raise UserError(
                f"{patient.id}: no start keeps {min_overlap:.0%} of the CBCT inside the CT; "
                "lower evaluation.min_overlap."
            )
        cases.append(Case(patient, start, initial, centre))
    return cases


def _moved(patient, v, centre) -> np.ndarray:
    """The de-alignment (4, 4), fixed world, of six parameters or of twelve."""
    if len(v) == 6:
        return rigid.about(rigid.params_to_matrix(v), centre)
    own = rigid.apply(patient.truth, np.asarray(patient.moving.centre, dtype=np.float64)[None])[0]
    moving, fixed = (rigid.about(rigid.params_to_matrix(p), c) for p, c in ((v[:6], own), (v[6:], centre)))
    return rigid.invert(fixed) @ moving


def row(case: Case, method: str, result: Result, cfg) -> dict:
    """The row of a result; `cfg` gives profile and split. A pose that is not finite counts as a refusal."""
    patient, pose, note = case.patient, np.asarray(result.pose, dtype=np.float64), result.note
    if not np.isfinite(pose).all():
        pose, note = case.initial, note or "the pose is not finite"
    final = error(case, pose)
    ok = bool(metrics.success(final, patient.experiment)) and not note
    left = rigid.state(patient.truth, pose, case.centre)
    if not ok and not note and method != "initial":
        off = metrics.vertebrae_off(patient.vertebrae, patient.truth, pose, case.centre)
        note = metrics.classify(ok, False, left, off) + (f" {off:+d}" if off else "")
    values = (
        cfg.profile,
        patient.experiment,
        patient.dataset,
        int(cfg.split),
        patient.id,
        int(case.start),
        method,
        round(case.initial_error, 4),
        round(final, 4),
        ok,
        round(float(result.seconds), 4),
        result.device,
        " ".join(note.split()),
        *(round(float(x), 4) for x in left),
    )
    return dict(zip(COLUMNS, values, strict=True))


def pose_of(row, patient) -> np.ndarray:
    """The pose (4, 4, moving -> fixed world) at which a case row (dict or Series) ended: its state, taken off the truth."""
    left = rigid.params_to_matrix(np.array([row[name] for name in STATE], dtype=np.float64))
    return rigid.invert(rigid.about(left, patient.fixed.centre)) @ patient.truth


def displaced(rows) -> np.ndarray:
    """How far off each row (of a DataFrame) ended, rotation and all: mean distance (mm) by which its state moves points 50 mm
    from the fixed window's centre, (n,). A surface distance hardly sees a turned heart."""
    left = rigid.params_to_matrix(rows[list(STATE)].to_numpy(float))
    return rigid.displacement(np.eye(4), left, np.zeros(3))


def write_rows(path, rows) -> None:
    """Rows (dicts or a DataFrame) to CSV, with exactly `COLUMNS`; written beside, then renamed."""
    import pandas as pd

    table, path = pd.DataFrame(rows, columns=None if len(rows) else COLUMNS), Path(path)
    if set(table.columns) != set(COLUMNS):
        raise UserError(f"{path}: rows need the columns {', '.join(COLUMNS)}; make them with cases.row.")
    try:
        with atomic(path) as temporary:
            table[list(COLUMNS)].to_csv(temporary, index=False)
    except OSError as problem:
        raise UserError(f"{path}: the rows could not be written ({problem.strerror}).") from None


def read_rows(*paths):
    """Rows of CSV files as one DataFrame (empty for no path). Raises UserError on other columns."""
    import pandas as pd

    tables = []
    for path in paths:
        try:
            table = pd.read_csv(path, dtype={"case": str, "note": str}, keep_default_na=True)
        except (OSError, ValueError) as problem:
            raise UserError(f"{path}: not readable ({problem}); run its notebook again.") from None
        if list(table.columns) != list(COLUMNS):
            raise UserError(f"{path}: not the columns of case rows; remove it and run its notebook again.")
        tables.append(table)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    table["note"] = table["note"].fillna("")
    table["success"] = table["success"].astype(bool)
    return table


def instead(new, old, what: list[str]):
    """`new` in place of the rows of `old` (DataFrames) that agree with one of it in the columns `what`; the others stay,
    before it."""
    import pandas as pd

    ran = set(new[what].itertuples(index=False, name=None))
    kept = old[[group not in ran for group in old[what].itertuples(index=False, name=None)]]
    return pd.concat([kept, new], ignore_index=True) if len(kept) else new.reset_index(drop=True)


def find_rows(folder) -> list[Path]:
    """All `cases_*.csv` below a folder, sorted; unfinished files (a leading dot) are not among them."""
    return sorted(p for p in Path(folder).rglob("cases_*.csv") if not p.name.startswith("."))
