"""`python -m workflow.alone COMMAND …`: runs a command unless another such command is at work in this folder.

Snakemake's own lock outlives a power cut and then asks for `--unlock`. This one is the kernel's: it ends with
the process, however that ends, so that the same `make` goes on where it was stopped.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

LOCK = Path(".snakemake/alone.lock")


def take(path: Path = LOCK) -> int | None:
    """An open file descriptor that holds the lock; None where another process has it. A file system without
    locks (some network drives) counts as free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    return handle


def main(command: list[str]) -> int:
    """Becomes the command, which keeps the lock; exit status 2 and one sentence if it is taken."""
    handle = take()
    if handle is None:
        print("Another make is at work in this folder: wait for it, or stop it and try again.", file=sys.stderr)
        return 2
    os.set_inheritable(handle, True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
