"""`python -m workflow.reason FILE.log`: why a unit failed, in a line on standard error.

The last line of its text; or that the disk is full, of which the text may be silent: it is on that disk, too.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

LITTLE = 1 << 20  # bytes free, below which neither a log nor an executed notebook can be written


def reason(log: Path) -> str:
    """What to say of a unit whose text is in `log`."""
    if shutil.disk_usage(log.parent).free < LITTLE:
        return (
            f"The disk is full: {log.parent} takes no more; free some space and run again, it goes on where it stopped."
        )
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"{log} says nothing; run again."


if __name__ == "__main__":
    print(reason(Path(sys.argv[1])), file=sys.stderr)
