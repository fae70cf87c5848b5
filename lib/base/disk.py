"""The one door by which files are written: nothing half-written takes a name, and nothing stays behind.

A writer is given a temporary beside the file; only when it is complete does it take the name, in one step of the system.
What a kill left is swept away at the next write of the same name. A full disk is one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from lib.base.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
LITTLE = 1 << 16  # bytes free, below which a disk is full: some libraries write NIfTI to one without a word
OURS = re.compile(r"\.(\d+)-([0-9a-f]{6})-[0-9a-f]{6}-")  # begins a temporary's name: process, machine, chance
DAY = 86400  # seconds, after which a temporary of another machine is no longer being written


@contextlib.contextmanager
def atomic(path: str | os.PathLike, needs: int = 0) -> Iterator[Path]:
    """Temporary path (same folder, same suffixes) for a file or folder; it takes the name on success only.

    `needs`: bytes that will be written, where known. On any error the temporary is removed and `path` stays as it was.
    A full disk raises UserError that says what is missing, whatever the writer made of it.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}-{_machine()}-{os.urandom(3).hex()}-{path.name}")
    free = needs
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        free = shutil.disk_usage(path.parent).free
        if needs > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield temporary
        if _no_room(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # os.replace refuses a folder that holds files
        os.replace(temporary, path)
    except UserError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        if number == errno.EFBIG:
            message = (
                f"{_named(path)} was not written: files may not be as large here (ulimit -f); raise that and run again."
            )
        elif number in FULL or _no_room(path):
            message = f"The disk is full: {_named(path)} was not written; {_missing(needs, free)} free some space and run again."
        elif number in CLOSED and _within(path, getattr(error, "filename", None)):
            message = f"{_named(path)} was not written: nothing may be written into its folder; allow that, or name another one."
        else:
            raise
        raise UserError(message) from error
    finally:
        _remove(temporary)


def _within(path: Path, named) -> bool:
    """Whether an error is about the file itself, a temporary of it, or its folder: a writer reads other files, too."""
    return named is not None and (Path(named) in path.parents or Path(named).parent == path.parent)


def sweep(path: Path) -> None:
    """Remove what killed processes left of `path`: the temporaries of a process that is gone."""
    for old in path.parent.glob(f".*-*-*-{glob.escape(path.name)}"):
        found = OURS.match(old.name)
        if found and old.name[found.end() :] == path.name and _left(old, int(found[1]), found[2]):
            _remove(old)


def _left(old: Path, process: int, machine: str) -> bool:
    """Whether nobody is writing it any more."""
    if machine != _machine():  # a folder that several machines see
        with contextlib.suppress(OSError):
            return time.time() - old.stat().st_mtime > DAY
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it lives, and is another user's
    return False


@functools.cache
def _machine() -> str:
    """Six characters for this machine and its numbers of processes, since it was started."""
    words = [platform.node()]
    with contextlib.suppress(OSError):
        words += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("".join(words).encode()).hexdigest()[:6]


def _no_room(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path.parent).free < LITTLE
    return False


def _missing(needs: int, free: int) -> str:
    if needs > free:
        return f"it needs {_size(needs)}, {_size(free)} are free and {_size(needs - free)} are missing;"
    return f"it needs more than the {_size(free)} that were free;"


def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _named(path: Path) -> str:
    """The name that was asked for, also of a file that is written into a temporary's name."""
    name = path.name
    while found := OURS.match(name):
        name = name[found.end() :]
    return name


def _remove(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
