"""Real CT/CBCT pairs of a public collection, fetched patient by patient from the Imaging Data Commons.

A manifest names planning CT and native CBCT of each patient by series UID (`pairs`). They come to
data/real/<collection>/pairs/<patient>/{ct,cbct}/, each series whole or not at all, so that an interrupted fetch goes on
where it stopped. The Commons gives no checksum of a series: its slices are counted, and every file must be read to its
last pixel and say that it belongs to it.
"""

from __future__ import annotations

import functools
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
SPARE = 1.0  # GB that a fetch leaves free


class Unreachable(UserError):
    """Nothing came of a series: the Commons cannot be reached, or has it no more."""


def folder_of(name: str, root: Path | None = None) -> Path:
    """data/real/<collection>/pairs/."""
    return manifest.data_folder(name, root) / "pairs"


def here(found: Manifest, root: Path | None = None) -> list[tuple[Pair, Path]]:
    """The pairs of a collection that are on this machine, whole, and their folders."""
    folder = folder_of(found.name, root)
    return [(pair, folder / pair.patient) for pair in found.pairs if _whole(pair, folder / pair.patient)]


def _whole(pair: Pair, folder: Path) -> bool:
    """Whether all slices of both series lie in a patient's folder."""
    return all(len(_slices(folder / kind)) == n for kind, n in zip(KINDS, pair.slices, strict=True))


def missing(found: Manifest, root: Path | None = None, limit: int | None = None) -> tuple[list[Pair], str]:
    """The pairs of a collection, or of its first `limit`, that must be fetched, and in words how many, how large, where to,
    and whose they are."""
    folder = folder_of(found.name, root)
    todo = [pair for pair in found.pairs[:limit] if not _whole(pair, folder / pair.patient)]
    size = sum(pair.megabytes for pair in todo) / 1000
    said = f"{found.name}: {len(found.pairs)} pairs, {len(todo)} to fetch, {size:.1f} GB; they come to {folder}"
    return todo, f"{said}. {found.source}, {found.licence}" + (f", doi:{found.doi}" if found.doi else "") + "."


def fetch(
    found: Manifest, root: Path | None = None, say: Callable[[str], None] = print, limit: int | None = None
) -> list[Path]:
    """Every pair that is missing, of the first `limit` if that is given; the folders of all that are here. A patient that
    cannot be fetched is named and left out.

    Raises UserError where none could be, where the disk has no room, and, at once, where nothing comes of the first series.
    """
    folder, came = folder_of(found.name, root), 0
    todo, said = missing(found, root, limit)
    say(said)
    _check_room(folder, sum(pair.megabytes for pair in todo) / 1000)
    for number, pair in enumerate(todo, 1):
        try:
            for kind, slices in zip(KINDS, pair.slices, strict=True):
                _series(getattr(pair, kind), slices, folder / pair.patient / kind, f"{pair.patient}, {kind}")
            came += 1
            say(f"{pair.patient}: {number} of {len(todo)}")
        except Unreachable as error:
            if not came:
                raise Unreachable(f"{found.name}: {error}") from None
            say(f"left out: {error}")
        except UserError as error:
            say(f"left out: {error}")
    made = [at for _, at in here(found, root)]
    if not made:
        raise UserError(f"{found.name}: none of its pairs could be fetched; the lines above say why.")
    if todo:
        say(f"{found.name}: {len(made)} of {len(found.pairs)} pairs are here" + ("; run it again" * (came < len(todo))))
    return made


def bring(collections: list[Manifest], say: Callable[[str], None] = print) -> None:
    """What is missing of several collections, as far as it can be had; what cannot is named, and what is here is enough.
    Where the Commons cannot be reached the others are not asked."""
    todo = [found for found in collections if missing(found)[0]]
    for n, found in enumerate(todo):
        try:
            fetch(found, say=say)
        except Unreachable as error:
            say(
                f"{error} It goes on with what is on this machine"
                + (f", without asking for {todo[n + 1].name}." if todo[n + 1 :] else ".")
            )
            return
        except UserError as error:
            say(f"{error}")


def _check_room(folder: Path, gigabytes: float) -> None:
    """Raises UserError where a folder's disk has no room for what is to come."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free / 1e9
    if gigabytes and free < gigabytes + SPARE:
        raise UserError(
            f"{folder}: {gigabytes:.1f} GB are to come and {free:.1f} GB are free; make room, or put the folder data/real on a "
            "larger disk."
        )


@functools.cache
def _client():
    """The Commons' client; it takes seconds to read its index."""
    from idc_index import IDCClient

    return IDCClient()


def download(series: str, folder: Path, who: str) -> None:
    """The files of a DICOM series into a folder. Raises UserError where they do not come."""
    try:
        _client().download_from_selection(
            seriesInstanceUID=[series], downloadDir=str(folder), dirTemplate="", quiet=True, show_progress_bar=False
        )
    except Exception as error:  # idc-index raises what its parts raise
        if "DiskSpace" in type(error).__name__:
            raise UserError(f"{who}: the disk is full; make room and run the command again.") from None
        raise Unreachable(_nothing_came(series, who, f" ({type(error).__name__})")) from None
    if not any(folder.iterdir()):  # without a network it says nothing
        raise Unreachable(_nothing_came(series, who))


def _nothing_came(series: str, who: str, why: str = "") -> str:
    return (
        f"{who}: nothing of series {series} came from the Imaging Data Commons{why}; check the network, and whether the "
        "series is still there."
    )


def _slices(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def _series(uid: str, slices: int, target: Path, who: str) -> None:
    """One series, whole. Raises UserError: not reached, slices missing or damaged, files of another series."""
    if len(_slices(target)) == slices:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".fetching_*"):  # by a run that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching_") as scratch:
        download(uid, Path(scratch), who)
        files = _slices(Path(scratch))
        if len(files) != slices:
            raise UserError(f"{who}: {len(files)} of {slices} slices came; run the command again.")
        for file in files:
            _check(file, uid, who)
        with atomic(target) as temporary:
            temporary.mkdir()
            for file in files:
                file.rename(temporary / file.name)


def _check(file: Path, uid: str, who: str) -> None:
    """Raises UserError: a file that is cut off or damaged, or that belongs to another series than `uid`."""
    try:
        slice_ = pydicom.dcmread(file)
        whole = slice_.file_meta.TransferSyntaxUID.is_compressed or len(slice_.PixelData) >= (
            slice_.Rows * slice_.Columns * slice_.BitsAllocated // 8
        )
        other = slice_.SeriesInstanceUID != uid
    except Exception:  # pydicom raises what its parts raise
        whole, other = False, False
    if not whole:
        raise UserError(f"{who}: {file.name} came damaged; run the command again.")
    if other:
        raise UserError(f"{who}: files of another series came than {uid}; nothing of it was kept.")
