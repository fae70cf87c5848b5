"""What the command is worth: the verdict's limits, the tables and figures, from rows of studies."""

import json

import numpy as np
import pandas as pd
import pytest

from lib import rigid
from lib.base import provenance
from lib.cases import STATE
from lib.figures import studies as figures
from lib.registration import judged, register, trust
from lib.study import methods, schema
from lib.study import rows as study_rows
from lib.tables import calibration, levels, limits
from lib.tables import registration as command

GOOD = {"overlap": 0.9, "agreement": 1.0, "wander": 1.0, "margin": 2.0, "likeness": 0.6, "shift": 0.0, "lead": 0.2}


def calibration_rows(n=40):
    """Right cases are alike and at their best place; wrong ones are not, or lie beside it."""
    rng, rows = np.random.default_rng(3), []
    for k in range(n):
        right = k % 2 == 0
        likeness = 0.5 + 0.1 * rng.random() if right or k % 4 == 1 else 0.2 + 0.1 * rng.random()
        shift = 0.0 if right else rng.choice([-12.0, 12.0])
        numbers = GOOD | {"likeness": likeness, "shift": float(shift)}
        error = rng.uniform(1, 8) if right else rng.uniform(15, 60)
        name = f"{'grown' if k > 20 else 'virtual'}_{k // 4}"
        who = {"case": name, "group": k // 4, "condition": "whole"}
        rows.append(who | {"final_error_mm": error, "success": right} | numbers)
    return pd.DataFrame(rows)


def test_calibration_finds_limits_and_tells_their_worth(tmp_path):
    rows, network = calibration_rows(), tmp_path / "n"
    network.write_bytes(b"x")
    found = limits.calibrate(rows, network)
    assert found.n == 40 and found.called_good == 0.5 and found.right_when_good == 1 and found.right_when_not == 0
    assert found.limits.max_shift < 12
    hopeless = rows.assign(likeness=0.5, shift=0.0)  # nothing tells right from wrong
    assert limits.calibrate(hopeless, network).right_when_good < 0.7
    text = calibration.markdown(rows, found)
    assert "| good | 20 | 20 (100%) | 0 |" in text and "5 of them grown" in text
    assert "| whole | 40 | 20 | 20 | 20 |" in text
    good = limits.called_good(rows, found.limits)
    assert len(figures.calibration(rows, good, found.limits, 10.0, "TRE").axes) == 4


def test_limits_of_the_judge_are_the_strictest_that_lose_nothing(tmp_path):
    """Wrong places lead by little; one that a scout alone found leads by more than others that are right."""
    rng, rows, network = np.random.default_rng(5), [], tmp_path / "n"
    network.write_bytes(b"x")
    for k in range(48):
        right, alone = k % 3 > 0, k % 2 == 1
        lead = (0.30 if right else 0.12) + (0.1 if alone else 0.0) + 0.02 * rng.random()
        numbers = {"overlap": 0.9, "agreement": 1.0, "scouts": 1.0 if alone else 2.0, "likeness": 0.6, "lead": lead}
        who = {"case": f"a_{k // 6}", "group": k // 6, "condition": "whole", "beside": 0.3, "shift": 0.0}
        rows.append(who | {"final_error_mm": 2.0 if right else 50.0, "success": right} | numbers)
    rows = pd.DataFrame(rows)
    found = limits.calibrate(rows, network, limits.BOTH)
    assert found.n == 48 and found.right_when_good == 1 and found.right_when_not == 0
    assert 0.24 < found.limits.min_lead <= 0.32 and 0.24 < found.limits.min_lead_alone <= 0.42
    text = calibration.markdown(rows, found, limits.BOTH)
    assert "| good | 32 | 32 (100%) | 0 |" in text and "the same where one scout alone found it" in text
    few = rows[rows["success"] | (rows["group"] == 0)]  # too few wrong ones: the limits set by hand stand
    assert limits.calibrate(few, network, limits.BOTH).limits == judged.JudgedLimits()


def study_row(method, error, case="a", **more):
    values = dict.fromkeys(study_rows.COLUMNS, "") | {"range": "near", "dataset": case, "case": case, "start": 0}
    values |= {"experiment": "spine"}
    return values | {"method": method, "final_error_mm": error, "success": error <= 10} | more


def cells_of(text):
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert all(len(row) == len(cells[0]) for row in cells)
    return cells


def test_table_of_the_pair():
    rows = [
        study_row(m, 4.0 + 12 * k, condition="NIfTI", start=k, verdict=v)
        for k in range(2)
        for m, v in (("initial", ""), ("register", "good"), ("itk_tuned", ""))
    ]
    cells = cells_of(command.pair(pd.DataFrame(rows)))
    agent = next(row for row in cells if row[2].startswith("agent, as"))
    assert agent[3:] == ["2", "1", "2", "10.0", "14.8", "2", "1"]


def test_table_of_real_scans_counts_wrong_results_called_good():
    values = [
        ("a", 30.0, 2.0, "good"),
        ("a", 2.0, 2.0, "good"),
        ("b", 30.0, 30.0, "good"),
        ("b", 2.0, 4.0, "do not trust"),
    ]
    rows = []
    for n, (scan, alone, error, verdict) in enumerate(values):
        rows += [study_row("register_once", alone, scan, start=n)]
        rows += [study_row("register", error, scan, start=n, verdict=verdict)]
    cells = cells_of(command.real(pd.DataFrame(rows)))
    assert [row[1] for row in cells[2:5]] == ["`a`", "`b`", "all scans"]
    assert cells[2][3:5] == ["50%", "100%"] and cells[2][6:] == ["2", "0", "0"]
    assert cells[3][6:] == ["1", "1", "1"] and cells[4][4].startswith("75% [") and cells[4][6:] == ["3", "1", "1"]


def command_rows():
    rows = []
    for condition, case, alone, error in (
        ("usual", "a", 1, 1),
        ("usual", "b", 30, 2),
        ("breath", "a", 1, 3),
        ("breath", "b", 1, 40),
    ):
        rows += [study_row("register_once", float(alone), case, condition=condition)]
        rows += [study_row("register", float(error), case, condition=condition, verdict="good")]
    return pd.DataFrame(rows)


def test_table_of_every_level_tells_slim_from_heavy_and_where():
    values = [("a_T6_second_test", 1.0), ("a_T7_second_test", 30.0), ("b_L5_second_test_fat80", 40.0)]
    rows = [study_row("register_both", mm, case, dataset=case[0], verdict="good") for case, mm in values]
    rows += [study_row("elastix", 1.0, values[2][0], dataset="b")]
    cells = cells_of(levels.every_level(pd.DataFrame(rows), schema.load("every_level")))
    assert [row[2:5] for row in cells[2:]] == [
        ["1 of 1", "0 of 1", "0 of 0"],
        ["0 of 0", "0 of 0", "0 of 1"],
        ["0 of 0", "0 of 0", "1 of 1"],
    ]
    assert [row[0] for row in cells[2:]] == ["as it is", *["80 mm of fat added"] * 2]
    assert cells[2][5].startswith("50% [") and cells[2][5].endswith("called good 2, of these wrong 1")


def test_table_of_changes_has_a_line_for_each_that_was_trained():
    values = [
        ("usual", "a_C7_second_tuning", 30.0),
        ("looks", "a_C7_second_tuning", 3.0),
        ("looks", "b_S1_second_tuning", 2.0),
        ("looks_seed_1", "a_C7_second_tuning", 30.0),
        ("looks_seed_1", "b_S1_second_tuning", 2.0),
    ]
    rows = [
        study_row("dsl_two_channel", mm, case, dataset=case[0], change=name, seed=str(int(name.endswith("1"))))
        for name, case, mm in values
    ]
    cells = cells_of(levels.by_change(pd.DataFrame(rows), schema.load("wider_training")))
    assert [row[0] for row in cells[2:]] == ["`usual`", "`looks`"]
    assert [row[2] for row in cells[2:]] == ["0%", "100%, 50%"]
    assert [row[3:6] for row in cells[2:]] == [["0 of 1", "0 of 0", "0 of 0"], ["1 of 2", "0 of 0", "2 of 2"]]


def test_a_vote_takes_the_end_that_others_share():
    """Rows without a truth to look at: two trainings end within 2 mm of each other, the third 80 mm away."""
    names, ends = ("all_one_network", "all_one_network_seed_1", "all_one_network_long"), (1.0, 80.0, -1.0)
    rows = [
        study_row("dsl_two_channel", abs(x), "a_L1_second_tuning", dataset="a", change=name, seed="0")
        | dict(zip(STATE, (x, 0, 0, 0, 0, 0), strict=True))
        for name, x in zip(names, ends, strict=True)
    ]
    assert levels.voted(pd.DataFrame(rows))["change"].tolist() == ["all_one_network"]  # the nearer of the two
    cells = cells_of(levels.by_change(pd.DataFrame(rows), schema.load("wider_training")))
    assert cells[-1][0] == "a vote" and cells[-1][5] == "1 of 1" and cells[-1][6].startswith("100%")
    assert "a vote" not in levels.by_change(pd.DataFrame(rows[:2]), schema.load("wider_training"))


def test_trainings_of_one_recipe_beside_their_vote_and_the_released_agent():
    """Training 1 is lost; 0 and 2, which agree, make the vote."""
    rows = [
        study_row("dsl_two_channel", abs(x), f"a_{level}_second_test", dataset="a", change="all", seed=str(seed))
        | dict(zip(STATE, (x, 0, 0, 0, 0, 0), strict=True))
        for level in ("L1", "T2")
        for seed, x in enumerate((1.0, 80.0, 2.0))
    ]
    released = pd.DataFrame([study_row("register_once", 30.0, "a_L1_second_test", dataset="a", recipe="released")])
    cells = cells_of(levels.which(pd.DataFrame(rows), released))[2:]
    assert [row[0] for row in cells] == [
        "training 0",
        "training 1",
        "training 2",
        "a vote of the 3",
        "the released agent",
    ]
    assert [row[1] for row in cells] == ["1 of 1", "0 of 1", "1 of 1", "1 of 1", "0 of 0"]  # C7 to T6
    assert [row[3] for row in cells] == ["1 of 1", "0 of 1", "1 of 1", "1 of 1", "0 of 1"]  # L1 to S1
    assert "a vote" not in levels.which(pd.DataFrame([row for row in rows if row["seed"] != "1"]), released)


def test_a_vote_does_not_see_the_truth():
    """The same three ends, whatever pose is the true one, give the same choice."""
    rng, chosen = np.random.default_rng(4), []
    poses = rigid.params_to_matrix(rng.uniform(-1, 1, (20, 3, 6)) * [30, 30, 30, 60, 60, 60])
    for truth in rigid.params_to_matrix(rng.uniform(-1, 1, (3, 6)) * [50, 50, 50, 90, 90, 90]):
        states = rigid.matrix_to_params(truth @ rigid.invert(poses)).reshape(-1, 6)
        rows = [
            study_row("dsl_two_channel", 0.0, f"case{n // 3}") | dict(zip(STATE, v, strict=True))
            for n, v in enumerate(states)
        ]
        chosen.append(levels.voted(pd.DataFrame(rows)).index.tolist())
    assert chosen[0] == chosen[1] == chosen[2] and len(set(np.array(chosen[0]) % 3)) == 3


def test_table_beside_optimisers():
    others = [("usual", "a", 1.0), ("usual", "b", 1.0), ("breath", "a", 50.0), ("breath", "b", 60.0)]
    others = pd.DataFrame([study_row("elastix", e, case, condition=c) for c, case, e in others])
    lines = command.organs_moved(command_rows(), others).splitlines()
    assert len(lines) == 5 and lines[2].startswith("| agent, this start alone | 50% ") and "100% [" in lines[2]
    assert lines[4].startswith("| elastix | 100% [") and "0% [" in lines[4] and "55.0 mm" in lines[4]


def test_figure_counts_what_is_right_and_what_is_wrongly_believed():
    values = [("a", 1.0, "good"), ("a", 2.0, "do not trust"), ("b", 30.0, "good"), ("b", 40.0, "do not trust")]
    rows = pd.DataFrame([study_row("register", e, case, condition="usual", verdict=v) for case, e, v in values])
    words = [text.get_text() for text in figures.beyond_training(rows, {"usual": "as usual"}, "").axes[0].texts]
    assert len(words) == 1 and words[0].startswith("50%") and words[0].endswith("wrong but called good: 1")


@pytest.mark.parametrize(
    "kind", [*calibration.KINDS["spine"], *calibration.KINDS["heart"]], ids=lambda kind: kind.study + kind.file
)
def test_committed_limits_are_those_of_the_committed_rows(kind):
    folder = register.AGENTS / kind.experiment
    network = folder / "dsl_two_channel_coarse.safetensors"
    found = limits.calibrate(limits.read(folder.parents[1], kind), network, kind)
    assert found == trust.load(folder, network, kind.file, kind.limits) and found.n > 0


@pytest.mark.parametrize("kind", [limits.BOTH, limits.HEART_BOTH], ids=lambda kind: kind.experiment)
def test_committed_verdicts_are_those_of_the_committed_limits(kind):
    results, asked = register.AGENTS.parent, 0
    folder = register.AGENTS / kind.experiment
    network = folder / "dsl_two_channel_coarse.safetensors"
    committed = trust.load(folder, network, kind.file, kind.limits).limits
    for path in (results / "rows").glob("*.csv"):
        rows = study_rows.read(results, path.stem)
        rows = rows[rows["method"].isin(kind.methods) & (rows["recipe"] == "released")]
        rows = rows[(rows["experiment"] == kind.experiment) & rows["numbers"].str.contains("beside=")]
        if len(rows):
            some = pd.concat([rows, study_rows.numbers(rows)], axis=1)
            good = limits.called_good(some, committed, kind)
            assert (good == (rows["verdict"] == "good")).all(), path.stem
            asked += len(rows)
    assert asked >= 180


def test_what_shows_a_scan_and_what_grew_from_it_are_left_out_together():
    rows = limits.read(register.AGENTS.parent, limits.BOTH)
    grown, real = rows["case"].str.startswith("grown_"), rows["case"].str.contains("_second_tuning")
    assert set(rows["group"][grown]) == set(rows["group"][real]) and rows["group"][grown].nunique() == 5
    drawn = rows[~grown & ~real]
    assert (drawn["group"] == drawn["case"]).all() and drawn["group"].nunique() == 16


def test_a_doubt_that_is_no_limits_is_told_from_those_that_are():
    numbers = {
        "overlap": 0.9,
        "agreement": 1.0,
        "scouts": 2.0,
        "likeness": 0.1,
        "lead": 0.3,
        "beside": 0.2,
        "shift": 0.0,
    }
    unlike = judged.judge(numbers, "both")
    assert len(unlike.reasons) == 1 and methods._numbers(unlike) == numbers
    unlike.reasons.append("the CT and the CBCT look exchanged")
    assert methods._numbers(unlike) == numbers | {"doubts": 1}


def test_verdicts_of_committed_rows_follow_the_limits(tmp_path):
    """Judged again by other limits; what is doubted for another reason than a limit stays so, and nothing else moves."""
    folder = tmp_path / "rows"
    folder.mkdir()
    numbers = "overlap=0.9 agreement=1 scouts=2 likeness=0.6 lead={} beside=0.3 shift=0"
    cases = (("a", "0.05", "good"), ("b", "0.2", "good"), ("c", "0.2 doubts=1", "do not trust"))
    lines = [
        study_row("register_both", 1.0, case, recipe="released", numbers=numbers.format(lead), verdict=said, study="s")
        for case, lead, said in (*cases, ("e", "0.2", "do not trust"))
    ]
    lines.append(
        study_row("register", 1.0, "d", recipe="released", numbers="lead=0.0 shift=4", verdict="good", study="s")
    )
    pd.DataFrame(lines, columns=list(study_rows.COLUMNS)).to_csv(folder / "s.csv", index=False)
    provenance.beside(folder / "s.csv").write_text('{"sha256": "x", "seeds": {"starts": 1}}')
    after = judged.JudgedLimits(min_lead=0.1)
    assert calibration.judged_again(tmp_path, after, limits.HEART_BOTH) == []
    assert calibration.judged_again(tmp_path, after, limits.BOTH) == ["s"]
    assert study_rows.read(tmp_path, "s")["verdict"].tolist() == [
        "do not trust",
        "good",
        "do not trust",
        "good",
        "good",
    ]
    beside = json.loads(provenance.beside(folder / "s.csv").read_text())
    assert beside["sha256"] == provenance.sha256(folder / "s.csv") and beside["judged_by"]["min_lead"] == 0.1
    assert beside["seeds"] == {"starts": 1} and calibration.judged_again(tmp_path, after, limits.BOTH) == []
