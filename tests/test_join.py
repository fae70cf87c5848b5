"""Splits that were run on other machines, joined to those here."""

import json

import pandas as pd
import pytest

from lib import cases
from lib.__main__ import main
from lib.base import provenance
from lib.base.errors import UserError
from lib.tables import command, join, verdicts
from tests.test_tables import rows_of


@pytest.fixture
def rows():
    lines = rows_of("initial", [50] * 4) + rows_of("dsl", [1, 2, 3, 40]) + rows_of("initial", [5, 15, 25, 35], "heart")
    return pd.DataFrame(lines)


def test_splits_run_elsewhere_are_joined(rows, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    cases.write_rows(here / "cases.csv", rows)
    other = pd.concat([rows.assign(final_error_mm=9.0), rows.assign(split=1)])
    cases.write_rows(there / "cases.csv", other)
    for folder, seed in ((here, 0), (there, 0), (there, 1)):
        path, line = folder / "fig4.csv", pd.DataFrame({"method": ["dsl"], "seed": [seed], "step": [10]})
        line.to_csv(path, index=False, mode="a", header=not path.exists())
    both = join.join(here, there)
    assert len(both) == 2 * len(rows)
    assert pd.read_csv(here / "fig4.csv")["seed"].tolist() == [0, 1]
    kept = both[both["split"] == 0].sort_values(["experiment", "method", "case", "start"])["final_error_mm"]
    mine = rows.sort_values(["experiment", "method", "case", "start"])["final_error_mm"]
    assert kept.tolist() == mine.tolist(), "what stands here stays"
    pd.testing.assert_frame_equal(cases.read_rows(here / "cases.csv"), both, check_dtype=False)


def test_joining_other_patients_or_profiles_is_refused(rows, tmp_path):
    cases.write_rows(tmp_path / "here" / "cases.csv", rows)
    for name, other in {
        "profile": rows.assign(profile="cpu"),
        "same starts": rows.assign(initial_error_mm=7.0),
    }.items():
        cases.write_rows(tmp_path / name / "cases.csv", other)
        with pytest.raises(UserError, match=name):
            join.join(tmp_path / "here", tmp_path / name)
    with pytest.raises(UserError, match="no cases.csv"):
        join.join(tmp_path / "here", tmp_path / "empty")
    pd.testing.assert_frame_equal(cases.read_rows(tmp_path / "here" / "cases.csv"), rows, check_dtype=False)


POINTS = "method,seed,step,success,median_mm,loss\n"
FIRST = "dsl,{},0,0,96.4141,\n"  # as written: a loss that is none, a success without a point
LATER = "dsl,0,300,0.010,58.7384,0.93\n"


@pytest.fixture
def two(rows, tmp_path, monkeypatch):
    """Split 2 here, split 10 there."""
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("RESULTS_DIR", str(here))
    for folder, split in ((here, 2), (there, 10)):
        cases.write_rows(folder / "cases.csv", rows.assign(split=split))
        (folder / "fig4.csv").write_text(POINTS + FIRST.format(split) + LATER)
        (folder / "patients.csv").write_text("experiment,case,stent,gas\nspine,p0,True,\n")
        for name in ("cases.csv", "fig4.csv", "patients.csv"):
            provenance.record(folder / name)
    (there / "fig4_long.csv").write_text("window,method,seed,step,success\n36,dsl,0,0,0\n36,dsl,0,1250,0.03\n")
    verdicts.judge("smoke", here)
    return here, there


def test_numbers_stay_as_they_were_written(two):
    here, there = two
    mine = (here / "cases.csv").read_text().splitlines()
    join.join(here, there)
    assert (here / "fig4.csv").read_text() == POINTS + FIRST.format(2) + LATER + FIRST.format(10)
    assert (here / "fig4_long.csv").read_text() == (there / "fig4_long.csv").read_text()
    assert set(mine) < set((here / "cases.csv").read_text().splitlines())
    splits = cases.read_rows(here / "cases.csv").query("experiment == 'spine'")["split"]
    assert splits.is_monotonic_increasing and set(splits) == {2, 10}, "2 before 10"


def test_a_joined_file_says_what_it_is_of_and_the_others_stay(two):
    here, there = two
    digest, kept = provenance.sha256(here / "fig4.csv"), provenance.beside(here / "patients.csv").read_text()
    join.join(here, there)
    joined = json.loads(provenance.beside(here / "fig4.csv").read_text())["joined"]
    assert [part["sha256"] for part in joined] == [digest, provenance.sha256(there / "fig4.csv")]
    assert provenance.beside(here / "fig4_long.csv").exists() and provenance.verify(here) == []
    assert provenance.beside(here / "patients.csv").read_text() == kept, "nothing new is in it"


def test_tables_and_claims_follow_from_what_was_joined(two):
    here, there = two
    ran = here / "runs/smoke/spine/split0"
    ran.mkdir(parents=True)
    (ran / "fig4.csv").write_text(POINTS + FIRST.format(2))
    assert main(["join", str(there)]) == 0
    assert "dsl,10," in (here / "fig4.csv").read_text(), "a run of this machine does not take it back"
    assert provenance.verify(here) == [] and command.verify(here) == []
    assert len(pd.read_csv(here / "table1.csv").query("n > 0"))
    made_from = json.loads(provenance.beside(here / "claims.csv").read_text())["inputs"]
    assert made_from["fig4_long.csv"] == provenance.sha256(here / "fig4_long.csv")
    assert made_from["cases.csv"] == provenance.sha256(here / "cases.csv")
