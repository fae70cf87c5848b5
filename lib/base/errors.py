"""Errors meant for people: one sentence that says what is wrong and what to do."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one sentence naming the file or parameter and the remedy; shown without traceback."""


def status(work: Callable[[], object]) -> int:
    """Exit status of a command that does `work`: 0, or 2 after one sentence on standard error (UserError)."""
    try:
        work()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
