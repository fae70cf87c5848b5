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


def rows_of(*lines):
    """(method, condition, dataset, case, error, verdict) each."""
    names = ["method", "condition", "dataset", "case", "final_error_mm", "verdict"]
    return pd.DataFrame(lines, columns=names)


def test_a_line_a_collection_and_method_then_all():
    rows = rows_of(
        ("register_both", "", "4d_lung", "a", 1.0, "good"),
        ("register_both", "", "4d_lung", "b", 30.0, "do not trust"),
        ("register_both", "", "pelvic_reference_data", "c", 2.0, "good"),
        ("elastix", "", "4d_lung", "a", 50.0, ""),
    )
    lines = [line.split(" | ") for line in registration.by_collection(rows, schema.load("real_pairs")).splitlines()[2:]]
    assert [(line[0], line[1]) for line in lines] == [
        *(("| 4d_lung", "2"), ("| 4d_lung", "1"), ("| pelvic_reference_data", "1"), ("| all", "3"), ("| all", "1"))
    ]
    assert lines[3][3].startswith("67% [") and lines[3][3].endswith("of 3, 2.0 mm; called good 2, of these wrong 0 |")


def test_a_slip_that_is_called_good_is_counted_though_the_place_was_found():
    rows = rows_of(
        ("register_both", "as it is", "s", "a", 1.0, "good"),
        ("register_both", "as it is", "t", "b", 1.0, "good"),
        ("register_both", "mirrored", "s", "a", 3.0, "good"),
        ("register_both", "mirrored", "t", "b", 90.0, "do not trust"),
    )
    lines = [line.split(" | ") for line in registration.by_slip(rows, schema.load("header_slips")).splitlines()[2:]]
    assert lines[0][:3] == ["| as it is", "2", "2"] and lines[0][3].startswith("2 [")
    assert lines[1][:3] == ["| left and right exchanged", "2", ""] and lines[1][3].startswith("1 [")
