"""What a command prints never decides what it does: who reads its output may have gone (`| head`), the disk that takes it
may be full, and its letters may not be known there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress


class Talk:
    """A stream that goes nowhere from the moment at which it cannot be written to. `gone`: whether that has happened."""

    def __init__(self, stream):
        self.stream, self.gone = stream, False
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """As of any stream; all of the text counts as written."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, action) -> None:
        if self.gone:
            return
        try:
            action()
        except OSError as error:
            self.gone = True
            with suppress(OSError, ValueError, AttributeError):  # what is still in its buffer goes nowhere, too
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not isinstance(error, BrokenPipeError):
                print(f"Standard output cannot be written ({error.strerror}); the work goes on.", file=sys.stderr)


@contextmanager
def talking() -> Iterator[Talk]:
    """Standard output as a `Talk`, as long as a command runs."""
    with redirect_stdout(Talk(sys.stdout)) as talk:
        try:
            yield talk
        finally:
            talk.flush()


def is_text(name) -> bool:
    """Whether a file's name is UTF-8; ITK ends the program at others."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True
