"""Data sets by manifest: `data_manifests/<name>.yaml` says where the files come from, under which licence, what they hash
to, and which experiments they serve.

A *scan* manifest names a few files; `locate` finds them in `data/real/<name>/` or in a mirror folder, by SHA-256, and
`lib.patients.scans.fetch` gets the missing ones. A *collection* manifest describes a public collection that people
download themselves; `lib.patients.scans.layouts` reads its layout. All positions are LPS millimetres in the CT's world.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from lib.base.errors import UserError
from lib.base.provenance import ROOT, sha256
from lib.base.yaml_file import read
from lib.patients.scans.schema import File, Manifest

FOLDER = ROOT / "data_manifests"
MIRROR_VARIABLE = "AGENT_REGISTRATION_MIRROR"


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(p.stem for p in Path(folder).glob("*.yaml"))


def load(name: str, folder: Path = FOLDER) -> Manifest:
    """The manifest `name`. Raises UserError: unknown name, malformed YAML, a field that the schema does not allow."""
    path = Path(folder) / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"There is no data set '{name}'; choose one of: {', '.join(names(folder))}.")
    try:
        found = Manifest.model_validate(read(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "the manifest"
        raise UserError(f"{path.name}: {where}: {first['msg']}; correct the manifest.") from None
    if found.name != name:
        raise UserError(f"{path.name}: its name says '{found.name}'; the file and the name must agree.")
    return found


@lru_cache(maxsize=256)
def real_cbct(name: str) -> bool:
    """Whether the CBCTs of a data set are real, as its manifest says: a scan with a CBCT, a collection whose authors aligned
    its pairs, or one that names them. Of every other scan, and of virtual patients, they are simulated."""
    if name not in names():
        return False
    found = load(name)
    return found.cbct is not None if found.kind == "scan" else found.alignment is not None or bool(found.pairs)


def mirror() -> Path | None:
    """The mirror folder: $AGENT_REGISTRATION_MIRROR, else `../shared/data` beside the project, else None."""
    named = os.environ.get(MIRROR_VARIABLE)
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def data_folder(name: str, root: Path | None = None) -> Path:
    """Where the files of a scan are kept: data/real/<name>/."""
    return Path(root or ROOT / "data") / "real" / name


def locate(found: Manifest, entry: File, root: Path | None = None) -> Path | None:
    """Path of a file whose SHA-256 is the manifest's, in the data folder or the mirror; None where there is none."""
    own = data_folder(found.name, root) / entry.name
    if own.is_file() and (own.with_name(f".{entry.name}.voxels").is_file() or digest(own) == entry.sha256):
        return own
    return in_mirror(entry.sha256, entry.bytes)


def in_mirror(wanted: str, size: int) -> Path | None:
    """A file of the mirror by its SHA-256 (names do not matter; only files of the right size are hashed)."""
    folder = mirror()
    if folder is None:
        return None
    return next((p for p in _by_size(folder).get(size, ()) if p.is_file() and digest(p) == wanted), None)


@lru_cache(maxsize=4)
def _by_size(folder: Path) -> dict[int, list[Path]]:
    sizes: dict[int, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".dcm":
            sizes.setdefault(path.stat().st_size, []).append(path)
    return sizes


def digest(path: Path) -> str:
    """SHA-256 of a file, remembered while neither size nor time changes."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=512)
def _digest(path: str, size: int, time: int) -> str:
    return sha256(path)


@dataclass(frozen=True)
class Scan:
    """A scan of a manifest whose files are on disk."""

    manifest: Manifest
    root: Path | None = None

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def is_pair(self) -> bool:
        return self.manifest.cbct is not None

    def path(self, name: str) -> Path:
        """Path of one of its files. Raises UserError if it is missing."""
        entry = next(f for f in self.manifest.files if f.name == name)
        found = locate(self.manifest, entry, self.root)
        if found is None:
            raise UserError(f"{self.name}: {name} is not on this machine; run `make data DATASET={self.name}`.")
        return found

    def load(self):
        """(ct, labels or None, meta): Volumes in LPS; CT values below -1024 (padding) are set to -1024 HU."""
        from lib.images import volume

        ct = volume.read(self.path(self.manifest.ct))
        ct = ct.with_array(ct.array.clamp(min=-1024.0))
        labels = volume.read(self.path(self.manifest.labels)) if self.manifest.labels else None
        meta = {"dataset": self.name, "source": self.manifest.source, "licence": self.manifest.licence}
        meta |= {"label_values": dict(self.manifest.label_values), "simulated_cbct": not self.is_pair}
        return ct, labels, meta

    def load_cbct(self):
        """The real CBCT of a pair, as it is in the file."""
        from lib.images import volume

        return volume.read(self.path(self.manifest.cbct))


def real_scans(present_only: bool = True, experiment: str | None = None, root: Path | None = None) -> list[Scan]:
    """All scans of the manifests; by default only those whose every file is on this machine (or in the mirror)."""
    scans = []
    for name in names():
        found = load(name)
        if found.kind != "scan" or (experiment and experiment not in found.experiments):
            continue
        if not present_only or all(locate(found, f, root) for f in found.files):
            scans.append(Scan(found, root))
    return scans


def scan(name: str, root: Path | None = None) -> Scan:
    """One scan by name, its files on disk. Raises UserError otherwise."""
    found = load(name)
    if found.kind != "scan":
        raise UserError(
            f"{name} is a collection, not a scan; unpack it and run `python -m lib data {name} --from FOLDER`."
        )
    missing = [f.name for f in found.files if locate(found, f, root) is None]
    if missing:
        raise UserError(f"{name}: {', '.join(missing)} not on this machine; run `make data DATASET={name}`.")
    return Scan(found, root)
