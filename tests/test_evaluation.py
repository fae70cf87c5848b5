"""From rows to poses, hard cases and stages."""

import numpy as np
import pandas as pd
import pytest
from test_cases import CFG, RANGES, patient

from lib import cases, rigid
from lib.tables import hard_case
from lib.tables import rows as case_rows


@pytest.fixture
def rows():
    lines = []
    for case in cases.starts(patient(), 6, RANGES, 7):
        near = rigid.translation([case.start, 0, 0]) @ case.patient.truth
        poses = {"initial": case.initial, "dsl": near, "dsl_coarse": rigid.translation([0, 4, 0]) @ near}
        poses["itk"] = case.initial
        lines += [cases.row(case, m, cases.Result(pose, 1.0), CFG) for m, pose in poses.items()]
    return pd.DataFrame(lines)


def test_a_row_gives_its_pose_back(rows):
    one = patient()
    for row in rows.to_dict("records"):
        case = cases.Case(one, row["start"], one.truth, one.fixed.centre)
        assert cases.error(case, cases.pose_of(row, one)) == pytest.approx(row["final_error_mm"], abs=2e-3)


def test_the_hard_case_is_the_farthest_that_an_agent_solved(rows):
    farthest = rows.loc[rows["initial_error_mm"].idxmax()]
    chosen = hard_case.hard_case(rows, "spine")
    assert set(chosen) == {"initial", "dsl", "dsl_coarse", "itk"}
    assert chosen["dsl"]["start"] == farthest["start"]
    rows.loc[(rows["start"] == farthest["start"]) & (rows["method"] == "dsl"), "success"] = False
    assert hard_case.hard_case(rows, "spine")["dsl"]["start"] != farthest["start"]
    assert hard_case.hard_case(rows, "heart") == {}


def test_coarse_to_fine(rows):
    table = hard_case.coarse_to_fine(rows).set_index("after")
    assert table.loc["coarse + fine", "median_mm"] == pytest.approx(2.5)
    assert table.loc["coarse", "median_mm"] == pytest.approx(np.median([np.hypot(4, s) for s in range(6)]), abs=0.01)


def test_starts_beyond_200_steps_are_counted(rows):
    """An L1 norm above 200 is no bound: a turn swings the translation, which the actions then undo along fewer axes."""
    far = rows["method"] == "initial"
    states = np.zeros((6, 6))
    states[:2, 2], states[2, :3], states[3] = 190.0, (70, 70, 70), (90, 0, 90, 0, 30, 0)
    states[1, 5] = 20.0
    rows.loc[far, list(cases.STATE)] = states
    table = case_rows.beyond_reach(rows).set_index("method")
    assert np.abs(states[3]).sum() > 200 and (table.loc["dsl", "beyond"], table.loc["dsl", "n"]) == (2, 6)


def test_planes_are_cut_through_the_spine():
    one = patient()
    bodies = rigid.apply(one.truth, one.vertebrae)
    centre = hard_case.object_centre(one)
    assert np.linalg.norm(bodies - centre, axis=1).min() < 13  # at most half a level away
