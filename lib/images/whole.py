"""Whether a compressed file came whole. A deflated stream ends with a checksum of what it holds; readers that stop after
the last voxel, or that go on after an error, never look at it, and a byte that was lost on the way is then an image."""

from __future__ import annotations

import zlib
from pathlib import Path

from lib.base.errors import UserError

BLOCK = 2**20  # bytes in, and at most sixteen times as many out
DAMAGED = "damaged, its voxels do not fit its checksum, or it is incomplete; copy it again."


def check_stream(path: Path, start: int = 0, name: str = "") -> None:
    """Raises UserError where the zlib or gzip stream from byte `start` of a file on breaks off or fails its checksum.
    name: the file to name, where it is another one."""
    inflate = zlib.decompressobj(47)  # zlib's or gzip's frame, whichever it has
    try:
        with open(path, "rb") as file:
            file.seek(start)
            while not inflate.eof and (block := file.read(BLOCK)):
                while block and not inflate.eof:
                    inflate.decompress(block, 16 * BLOCK)
                    block = inflate.unconsumed_tail
            while not inflate.eof and inflate.decompress(b"", 16 * BLOCK):
                pass
    except (OSError, zlib.error):
        raise UserError(f"{name or path.name}: {DAMAGED}") from None
    if not inflate.eof:
        raise UserError(f"{name or path.name}: {DAMAGED}")


def read_out(stream, name: str) -> None:
    """Read a gzip stream to its end, where Python compares the checksum. Raises UserError where that fails."""
    try:
        while stream.read(BLOCK):
            pass
    except (EOFError, OSError, zlib.error):
        raise UserError(f"{name}: {DAMAGED}") from None
