"""`python -m workflow.alone COMMAND …`: runs a command unless another such command is at work in this folder.
`python -m workflow.alone --unit NAME COMMAND …` waits for one of the same name instead: when Snakemake dies alone, the
notebook that it started goes on, and the next `make` must not write beside it. Temporary files of a unit (a kernel's
connection file, sockets) have a folder of their own: what a killed one left goes at its next start.

Snakemake's own lock outlives a power cut and then asks for `--unlock`. This one is the kernel's: it ends with
the process, however that ends, so that the same `make` goes on where it was stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(
    ".locks"
)  # in the folder where make runs; `make clean` leaves it: a lock whose file is gone locks nothing
MAKE = "make"
HELD = "REGISTRATION_LOCK"  # in the environment of what runs under the lock: `make test` calls `make reproduce`


def take(name: str = MAKE, wait: bool = False) -> int | None:
    """An open file descriptor that holds the lock; None where another process has it and `wait` is False. A file
    system without locks (some network drives) counts as free."""
    FOLDER.mkdir(exist_ok=True)
    handle = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    return handle


def temporary_folder(name: str) -> None:
    """An empty folder for this unit's temporary files, in the system's; nobody else is at work in it, for the lock is held."""
    place = Path(tempfile.gettempdir()) / f"registration-{os.getuid()}" / name
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # another user's: the system's own folder will do
    os.environ["TMPDIR"] = str(place)


def main(words: list[str]) -> int:
    """Becomes the command, which keeps the lock; exit status 2 and one sentence if it is taken."""
    if words[:1] == ["--unit"]:
        unit, command = words[1], words[2:]
        name = hashlib.sha256(os.path.abspath(unit).encode()).hexdigest()[:16]
        handle = take(name)
        if handle is None:
            print(
                f"{unit}: an earlier run is still at work on it; waiting for that to end.", file=sys.stderr, flush=True
            )
            handle = take(name, wait=True)
        temporary_folder(name)
    else:
        command = words
        if os.environ.get(HELD) == os.path.abspath(FOLDER):
            os.execvp(command[0], command)
        handle = take()
        if handle is None:
            print("Another make is at work in this folder: wait for it, or stop it and try again.", file=sys.stderr)
            return 2
        os.environ[HELD] = os.path.abspath(FOLDER)
    os.set_inheritable(handle, True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
