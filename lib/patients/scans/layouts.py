"""Public collections as people download them: one loader a layout, each giving the cases it finds.

A loader only looks at names; images are read one at a time by `Case.load`. What is known of each layout, and from
where, stands in its manifest (`verified`, `unverified`). Raises UserError where a folder is not of the layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.base.errors import UserError
from lib.images import dicom
from lib.images import read as io
from lib.images.volume import Volume
from lib.patients.scans import archive, manifest


@dataclass
class Case:
    """One patient of a collection. Without `cbct` the CBCT is simulated from the CT; paths, nothing read yet."""

    id: str
    experiments: tuple[str, ...]
    ct: Path
    cbct: Path | None = None
    labels: Path | None = None  # a label image, or a folder of one mask a structure
    ct_series: str | None = None  # DICOM series within the folder
    cbct_series: str | None = None

    def load(self) -> tuple[Volume, Volume | None]:
        """(ct, cbct or None) as Volumes in LPS."""
        cbct = io.read_image(self.cbct, self.cbct_series, "cbct") if self.cbct else None
        return io.read_image(self.ct, self.ct_series, "ct"), cbct

    def __str__(self) -> str:
        return f"{self.id}: CT {self.ct.name}" + (f", CBCT {self.cbct.name}" if self.cbct else ", CBCT to be simulated")


def read(name: str, source: str | Path, scratch: Path | None = None) -> list[Case]:
    """The cases of collection `name` in a folder, or in an archive (unpacked safely beside it into
    <archive>.unpacked)."""
    found = manifest.load(name)
    if found.kind != "collection":
        raise UserError(f"{name} is a scan, not a collection; run `python -m lib data {name}`.")
    source = Path(source)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; download {name} from {found.source} first.")
    if source.is_file():
        _check_md5(source, found.md5.get(source.name))
        folder = (scratch or source.parent) / f"{source.name}.unpacked"
        source = folder if folder.is_dir() else archive.unpack(source, folder)
    cases = sorted(LOADERS[found.loader](source, tuple(found.experiments)), key=lambda case: case.id)
    if not cases:
        raise UserError(f"{source}: nothing of the layout of {name} here; expected {found.layout[0]}.")
    return cases


def _check_md5(path: Path, wanted: str | None) -> None:
    import hashlib

    if wanted is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 22), b""):
            digest.update(block)
    if digest.hexdigest() != wanted:
        raise UserError(f"{path.name}: wrong checksum; the download is damaged or another version, fetch it again.")


def dicom_patients(root: Path, experiments) -> Iterator[Case]:
    """TCIA: every folder below which DICOM files of one patient lie; the CBCT is told by its description or maker."""
    for patient in sorted(p for p in root.iterdir() if p.is_dir()):
        series = [s for s in dicom.find_series(patient) if s.modality == "CT" and s.is_volume]
        cone = [s for s in series if _is_cone_beam(s.description)]
        fan = [s for s in series if s not in cone]
        if fan and cone:
            ct = max(fan, key=lambda s: len(s.paths))
            for number, one in enumerate(cone):
                yield Case(f"{patient.name}_{number}", experiments, patient, patient, None, ct.uid, one.uid)
        elif fan:
            yield Case(patient.name, experiments, patient, ct_series=max(fan, key=lambda s: len(s.paths)).uid)


def _is_cone_beam(description: str) -> bool:
    return re.search(r"cb(ct)?\s*\d|cbct|cone|\btest\s*\d|p4\^p\d+\^s\d+", description.lower()) is not None


def synthrad(root: Path, experiments) -> Iterator[Case]:
    """SynthRAD Task 2: <region>/<case>/{ct,cbct,mask}.{mha,nii.gz}; the two images are aligned rigidly by the authors."""
    for ct in sorted([*root.rglob("ct.mha"), *root.rglob("ct.nii.gz")]):
        cbct = ct.with_name(ct.name.replace("ct.", "cbct.", 1))
        if cbct.exists():
            yield Case(ct.parent.name, experiments, ct, cbct)


def totalsegmentator(root: Path, experiments) -> Iterator[Case]:
    """TotalSegmentator: s0000/ct.nii.gz and s0000/segmentations/<structure>.nii.gz."""
    for ct in sorted(root.glob("**/s[0-9][0-9][0-9][0-9]/ct.nii.gz")):
        masks = ct.parent / "segmentations"
        served = tuple(
            e for e, mask in (("spine", "vertebrae_L1"), ("heart", "heart")) if (masks / f"{mask}.nii.gz").exists()
        )
        if served:
            yield Case(ct.parent.name, served, ct, labels=masks)


def verse(root: Path, experiments) -> Iterator[Case]:
    """VerSe: rawdata/sub-*/sub-*_ct.nii.gz and derivatives/sub-*/sub-*_seg-vert_msk.nii.gz."""
    for ct in sorted(root.glob("**/rawdata/sub-*/*_ct.nii.gz")):
        stem = ct.name.removesuffix("_ct.nii.gz")
        top = ct.parents[2] / "derivatives" / ct.parent.name
        mask = next(iter(sorted(top.glob(f"{stem}_seg-vert_msk.nii.gz"))), None)
        yield Case(stem, experiments, ct, labels=mask)


def mmwhs(root: Path, experiments) -> Iterator[Case]:
    """MM-WHS, CT: ct_train_1001_image.nii.gz beside ct_train_1001_label.nii.gz."""
    for ct in sorted(root.rglob("ct_train_*_image.nii.gz")):
        label = ct.with_name(ct.name.replace("_image", "_label"))
        yield Case(ct.name.removesuffix("_image.nii.gz"), experiments, ct, labels=label if label.exists() else None)


def learn2reg(root: Path, experiments) -> Iterator[Case]:
    """Learn2Reg: imagesTr/ThoraxCBCT_0000_0000.nii.gz is the planning CT, _0001 and _0002 are CBCTs."""
    for ct in sorted(root.rglob("imagesTr/ThoraxCBCT_*_0000.nii.gz")):
        for number in (1, 2):
            cbct = ct.with_name(ct.name.replace("_0000.nii.gz", f"_{number:04d}.nii.gz"))
            if cbct.exists():
                yield Case(cbct.name.removesuffix(".nii.gz"), experiments, ct, cbct)


LOADERS: dict[str, Callable[[Path, tuple[str, ...]], Iterator[Case]]] = {
    "dicom_patients": dicom_patients,
    "synthrad": synthrad,
    "totalsegmentator": totalsegmentator,
    "verse": verse,
    "mmwhs": mmwhs,
    "learn2reg": learn2reg,
}
