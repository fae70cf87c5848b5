"""Unpacking archives whose names are not trusted: no absolute names, no `..`, no links, no devices, a size limit."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from lib.base.errors import UserError
from lib.base.provenance import atomic

LIMIT = 200 * 2**30  # bytes after unpacking


def safe_name(name: str, archive: str) -> PurePosixPath:
    """The member's name as a relative path. Raises UserError if it could leave the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    unsafe = path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts or ":" in path.parts[0]
    if unsafe:
        raise UserError(f"{archive}: it holds the unsafe name {name!r}; nothing was unpacked, get another copy.")
    return path


def extract_member(archive: Path, member: str, target: Path, limit: int = LIMIT) -> None:
    """Write one member of a zip (or wheel) or tar to `target`, wherever its own name would put it."""
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened:
                info = opened.getmember(member)
                if not info.isfile():
                    raise UserError(f"{archive.name}: {member} is no file; it was not unpacked.")
                _copy(opened.extractfile(info), info.size, target, limit, f"{archive.name}: {member}")
            return
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            _copy(opened.open(info), info.file_size, target, limit, f"{archive.name}: {member}")
    except KeyError:
        raise UserError(f"{archive.name}: it does not hold {member}; get the version the manifest names.") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError):
        raise UserError(f"{archive.name}: not a complete archive; fetch it again.") from None


def _copy(source, size: int, target: Path, limit: int, what: str) -> None:
    with source:
        if size > limit:
            raise UserError(f"{what} is larger than expected; it was not unpacked.")
        with open(target, "wb") as sink:
            shutil.copyfileobj(source, sink)


def unpack(archive: str | Path, folder: str | Path, limit: int = LIMIT) -> Path:
    """Unpack a .zip or .tar(.gz/.bz2/.xz) into `folder`, all or nothing. Every name is checked before the first write.

    Raises UserError: unsafe name, link or device, damaged archive, more than `limit` bytes.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; check the path.")
    try:
        with atomic(folder) as temporary:
            temporary.mkdir(parents=True)
            if zipfile.is_zipfile(archive):
                _unzip(archive, temporary, limit)
            elif tarfile.is_tarfile(archive):
                _untar(archive, temporary, limit)
            else:
                raise UserError(f"{archive.name}: not a complete zip or tar archive; fetch it again.")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive.name}: the archive is damaged ({error}); fetch it again.") from None
    return folder


def _unzip(archive: Path, folder: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [(safe_name(i.filename, archive.name), i) for i in opened.infolist()]
        for _, info in members:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive.name}: {info.filename!r} is a link or device; nothing was unpacked.")
        _limit(sum(i.file_size for _, i in members), archive, limit)
        for path, info in members:
            target = folder / path
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(info) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)


def _untar(archive: Path, folder: Path, limit: int) -> None:
    with tarfile.open(archive) as opened:
        members = [member for member in opened.getmembers() if member.name.strip("./")]
        for member in members:
            safe_name(member.name, archive.name)
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{archive.name}: {member.name!r} is a link or device; nothing was unpacked.")
        _limit(sum(member.size for member in members), archive, limit)
        opened.extractall(folder, members, filter="data")


def _limit(size: int, archive: Path, limit: int) -> None:
    if size > limit:
        raise UserError(f"{archive.name}: it would unpack to {size / 2**30:.1f} GiB, more than the limit.")
