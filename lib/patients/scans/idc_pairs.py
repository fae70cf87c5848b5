"""Real CT/CBCT pairs of a public collection, fetched patient by patient from the Imaging Data Commons.

A manifest names planning CT and native CBCT of each patient by series UID (`pairs`). They come to
data/real/<collection>/pairs/<patient>/{ct,cbct}/, each series whole or not at all, so that an interrupted fetch goes on
where it stopped. The Commons gives no checksum of a series: its slices are counted, and every file must say that it
belongs to it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pydicom

from lib.base.errors import UserError
from lib.base.provenance import atomic
from lib.patients.scans import manifest
from lib.patients.scans.schema import Manifest, Pair

KINDS = ("ct", "cbct")


def folder_of(name: str, root: Path | None = None) -> Path:
    """data/real/<collection>/pairs/."""
    return manifest.data_folder(name, root) / "pairs"


def here(found: Manifest, root: Path | None = None) -> list[tuple[Pair, Path]]:
    """The pairs of a collection that are on this machine, whole, and their folders."""
    folder = folder_of(found.name, root)
    some = [(pair, folder / pair.patient) for pair in found.pairs]
    return [(pair, at) for pair, at in some if all(_slices(at / kind) for kind in KINDS)]


def fetch(found: Manifest, root: Path | None = None, say: Callable[[str], None] = print) -> list[Path]:
    """Every pair that is missing; their folders. A patient that cannot be fetched is named and left out.

    Raises UserError where none could be.
    """
    folder, made = folder_of(found.name, root), []
    todo = [p for p in found.pairs if not all(_slices(folder / p.patient / kind) for kind in KINDS)]
    size = sum(pair.megabytes for pair in todo) / 1000
    say(f"{found.name}: {len(found.pairs)} pairs, {len(todo)} to fetch, {size:.1f} GB; they come to {folder}")
    for number, pair in enumerate(found.pairs, 1):
        try:
            for kind, slices in zip(KINDS, pair.slices, strict=True):
                _series(getattr(pair, kind), slices, folder / pair.patient / kind, f"{pair.patient}, {kind}")
            made.append(folder / pair.patient)
            if pair in todo:
                say(f"{pair.patient}: {number} of {len(found.pairs)}")
        except UserError as error:
            say(f"left out: {error}")
    if not made:
        raise UserError(f"{found.name}: none of its pairs could be fetched; the lines above say why.")
    return made


def download(series: str, folder: Path, who: str) -> None:
    """The files of a DICOM series into a folder. Raises UserError where the Commons cannot be reached."""
    try:
        from idc_index import IDCClient

        IDCClient().download_from_selection(
            seriesInstanceUID=[series], downloadDir=str(folder), dirTemplate="", quiet=True, show_progress_bar=False
        )
    except Exception as error:  # idc-index raises what its parts raise
        raise UserError(
            f"{who}: series {series} could not be fetched from the Imaging Data Commons ({type(error).__name__}); check "
            "the network."
        ) from None


def _slices(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def _series(uid: str, slices: int, target: Path, who: str) -> None:
    """One series, whole. Raises UserError: not reached, slices missing, files of another series."""
    if _slices(target):
        return
    with tempfile.TemporaryDirectory() as scratch:
        download(uid, Path(scratch), who)
        files = _slices(Path(scratch))
        if len(files) != slices:
            raise UserError(f"{who}: {len(files)} of {slices} slices came; run the command again.")
        if any(pydicom.dcmread(f, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID != uid for f in files):
            raise UserError(f"{who}: files of another series came than {uid}; nothing of it was kept.")
        with atomic(target) as temporary:
            temporary.mkdir()
            for file in files:
                shutil.copyfile(file, temporary / file.name)
