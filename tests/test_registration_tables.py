"""The table of a study's methods: what is counted, over whom, and what the command called good."""

import pandas as pd

from lib.study import schema
from lib.tables import registration


def test_a_line_a_method_a_cell_a_range():
    def row(method, reach, case, error, verdict=""):
        return {
            "method": method,
            "range": reach,
            "condition": "",
            "dataset": "scan",
            "case": case,
            "final_error_mm": error,
            "verdict": verdict,
        }

    rows = pd.DataFrame(
        [
            row("register", "near", "a", 1.0, "good"),
            row("register", "near", "b", 40.0, "good"),
            row("register", "near", "c", 50.0, "do not trust"),
            row("register", "full", "a", 3.0, "do not trust"),
            row("fft_search", "near", "a", 0.5),
        ]
    )
    lines = registration.by_method(rows, schema.load("second_scanner")).splitlines()
    assert len(lines) == 4 and lines[0] == "| method | starts within ±30 mm, ±15° | starts within the paper's range |"
    command, search = (line.split(" | ") for line in lines[2:])
    assert command[1].startswith("33% [") and command[1].endswith("of 3, 40.0 mm; called good 2, of these wrong 1")
    assert command[2].startswith("100%") and "of 1, 3.0 mm; called good 0, of these wrong 0" in command[2]
    assert search[0] == "| All shifts by FFT" and search[1].endswith("of 1, 0.5 mm")
