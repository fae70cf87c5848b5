"""Figure 4 over the paper's own number of steps: resuming at any moment, trials, the study, its numbers."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from lib.base.errors import UserError
from lib.figures import charts
from lib.study import config, listing, schema
from lib.study import figure4 as long
from lib.study.planar import compare, curves, learn, plan, runs, trials
from lib.study.planar import pairs as planar_pairs
from lib.tables import figure4
from tests.planar import SMALL


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("method", "calls"), [("dsl", 3), ("dqn_today", 9)])
def test_a_training_stopped_at_any_moment_goes_on_with_the_same_samples(pairs, tmp_path, monkeypatch, method, calls):
    """Stopped in the middle of a step between two points of its curve."""
    settings = dataclasses.replace(SMALL, keep_every=0.0, evaluate_every=4)
    seen, render = [], learn.render

    def spy(some, rows, poses, observation):
        if len(seen) == calls and stop:
            raise Stopped
        seen.append((rows.clone(), poses.clone()))
        return render(some, rows, poses, observation)

    monkeypatch.setattr(learn, "render", spy)
    stop, quiet = False, {"say": lambda text: None}
    whole = compare.train(method, 0, pairs, pairs, settings, **quiet)
    all_seen, seen, stop = seen, [], True
    with pytest.raises(Stopped):
        compare.train(method, 0, pairs, pairs, settings, tmp_path / "job.pt", **quiet)
    kept = torch.load(tmp_path / "job.pt", weights_only=True)["run"]
    assert 0 < kept["step"] < settings.steps and len(kept["rows"]) == 1, "between two points of the curve"
    seen, stop = [], False
    resumed = compare.train(method, 0, pairs, pairs, settings, tmp_path / "job.pt", **quiet)
    assert 0 < len(seen) < len(all_seen)
    for (rows, poses), (rows_then, poses_then) in zip(seen, all_seen[-len(seen) :], strict=True):
        assert torch.equal(rows, rows_then) and torch.equal(poses, poses_then)
    same = ("step", "success", "median_mm", "images")
    assert [[row[k] for k in same] for row in resumed] == [[row[k] for k in same] for row in whole]
    assert resumed[-1]["loss"] == whole[-1]["loss"]
    assert resumed[-1]["processor_seconds"] >= kept["processor_seconds"] > 0


ASKED = plan.Plan(
    curves=("dsl", "dqn", "double_dqn", "dqn_today"),
    seeds=(0, 1),
    sizes=({"window": 36, "spacing": 5.0}, {"window": 64, "spacing": 3.1}),
    settings=dataclasses.asdict(SMALL) | {"seeds": [0]},
    trials=plan.Trials(
        ("dqn", "dqn_today"), 1, {"steps": 2, "evaluate_every": 1}, {"target_every": (2, 1), "n_steps": (2,)}
    ),
)


def test_words_of_one_kind_widen_and_of_two_kinds_narrow():
    assert len(plan.wanted(ASKED)) == 16
    assert plan.wanted(ASKED, ["36px", "dsl", "seed1"]) == [(ASKED.sizes[0], "dsl", 1)]
    assert len(plan.wanted(ASKED, ["dsl", "dqn", "seed1"])) == 4
    assert [seed for _, _, seed in plan.wanted(ASKED, ["dsl", "36px"])] == [0, 1], "seed by seed"
    with pytest.raises(UserError, match="word after --only: seed9"):
        plan.wanted(ASKED, ["seed9"])
    assert [plan.tried(ASKED, c) for c in ASKED.curves] == ["", "dqn", "dqn", "dqn_today"]


def test_the_study_is_the_papers_own_number_of_steps():
    asked = schema.load("figure4").planar
    for size in asked.sizes:
        s = plan.settings(asked, compare.DrlSettings(), size)
        assert s.steps * s.batch == s.steps * s.explore == 2_000_000 and s.memory == 1_000_000
        assert (s.pairs, s.cases, s.ranges) == (2000, 100, (30.0, 30.0, 30.0))
        assert s.window * s.spacing == pytest.approx(198.2, abs=0.3), "the same view"
    for name, values in asked.trials.values.items():
        for value in values:
            assert (
                getattr(plan.settings(asked, compare.DrlSettings(), asked.trials.settings, {name: value}), name)
                == value
            )
    want = {(c, n) for c in ("dsl", "dqn", "double_dqn") for n in ("", "_two_channel")}
    assert {c + n for c, n in want} <= set(asked.curves) and len(asked.seeds) >= 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("planar: {curves: [dsl], sizzes: [{}]}", "planar.sizzes; did you mean planar.sizes?"),
        ("planar: {curves: [sarsa]}", "planar.curves.0 is 'sarsa'"),
        ("planar: {curves: [dsl], trials: {value: {}}}", "planar.trials.value; did you mean planar.trials.values?"),
        ("planar: {curves: [dsl]}\ncommand: make claims", "planar stands in place of recipe and command"),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "x.yaml").write_text(f"name: x\nquestion: Why?\n{text}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        schema.load("x", tmp_path)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_the_study_tries_trains_and_goes_on_where_it_stopped(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    used, said = [], []

    def prepared(sides, settings, out):
        used.append(sides)
        paths = {side: tmp_path / f"{side}_{'_'.join(sides['test'])}.npz" for side in ("train", "test")}
        for path in paths.values():
            planar_pairs.save(pairs, path)
        return paths

    monkeypatch.setattr(long.population, "build", lambda *words, **more: None)
    monkeypatch.setattr(long.pairs, "split_folders", lambda cfg: {"train": ["a", "b", "c"], "test": ["t"]})
    monkeypatch.setattr(runs, "prepare", prepared)
    cfg = config.load("smoke", sections=("patients", "drl"))
    study = long.Long(cfg, dataclasses.replace(ASKED, sizes=ASKED.sizes[:1]), said.append)
    study.run(["dsl", "seed0"])
    assert used == [{"train": ["a", "b", "c"], "test": ["t"]}], "DSL is not tuned"
    path = study.results / long.CURVES_FILE
    first = pd.read_csv(path)
    assert list(first.columns) == list(long.COLUMNS) and first["step"].tolist() == [0, 2, 4]
    study.run(["dsl", "double_dqn", "seed0"])
    assert {"train": ["b", "c"], "test": ["a"]} in used, "training patients judge the trials"
    tried, points = trials.read(study.results / long.TRIALS_FILE), pd.read_csv(path)
    assert tried["curve"].tolist() == ["dqn", "dqn"] and tried["changed"].fillna("").tolist() == ["", "target_every"]
    assert set(points["method"]) == {"dsl", "double_dqn"} and any("1 of 2 trainings to do" in s for s in said)
    best = tried.loc[tried["mean_mm"].idxmin(), "constants"]
    assert trials.chosen(tried, "dqn") == json.loads(best)
    study.run(["dsl", "double_dqn", "seed0"])
    assert any("0 of 2 trainings to do" in s for s in said)
    assert pd.read_csv(path).equals(points)
    assert long.state(study.asked, study.results) == "partly, 2 of 8 trainings"
    assert listing.state(schema.load("figure4"), tmp_path / "none").startswith("not, 0 of ")


def points_of(method, success, window=36, seeds=(0, 1, 2), hours=1.0):
    """Curves of eleven points that rise at once to `success` (a seed each has a percent more) and took so many hours."""
    steps = np.arange(11) * 10
    return pd.concat(
        pd.DataFrame({"step": steps, "success": np.where(steps == 0, 0.0, success + 0.01 * seed)}).assign(
            window=window, method=method, seed=seed, median_mm=5.0, processor_seconds=steps / 100 * 3600 * hours
        )
        for seed in seeds
    )


def test_the_end_of_a_curve_is_the_mean_of_its_last_five_checkpoints():
    points = points_of("dsl_two_channel", 0.5, seeds=(0,))
    points.loc[points["step"] == 100, "success"] = 1.0
    row = curves.measures(points).iloc[0]
    assert row["end"] == pytest.approx(0.6) and row["sees"] == "two_channel" and row["method"] == "dsl"
    assert row["area"] == pytest.approx((0.25 + 8 * 0.5 + 0.75) / 10) and row["hours"] == 1.0
    assert curves.by_then(points, hours=0.5) == pytest.approx(0.5)
    assert curves.by_then(points, hours=0.1) == pytest.approx(0.25)


def test_curves_count_once_both_sides_are_there():
    alone = pd.concat([points_of("dsl", 0.6), points_of("dsl_moved_alone", 0.0)])
    assert curves.comparable(alone).empty and curves.compared(alone) == set()
    both = pd.concat([alone, points_of("dqn", 0.2, seeds=(0,)), points_of("dsl_two_channel", 0.9)])
    assert set(curves.comparable(both)["method"]) == {"dsl", "dqn", "dsl_moved_alone"}
    assert curves.compared(both) == {""}
    assert curves.comparable(pd.DataFrame()).empty


def test_c6_is_judged_by_the_long_curves_where_they_are_there():
    long_ones = pd.concat([points_of("dsl", 0.6), points_of("dqn", 0.2, hours=2.0), points_of("dqn_today", 0.5)])
    assert list(figure4.lines(pd.DataFrame())) == []
    first, second = figure4.lines(long_ones)
    ours = "61 % against 21 % (dqn) after 100 steps, area 58 % against 20 %; dqn in DSL's time: 21 %"
    assert first[1] == "paper" and ours in first[4] and first[-3] == "reproduced" and first[-1] == "fig4_long.csv"
    assert second[1] == "extension" and "DRL as of today" in second[2] and second[-3] == "partly", "10 points only"
    few = pd.concat([points_of("dsl", 0.6, seeds=(0,)), points_of("dqn", 0.2, seeds=(0,))])
    (line,) = figure4.lines(few)
    assert line[-3] == "untested" and line[4].endswith("; 1 training each")
    uneven = pd.concat([points_of("dsl", 0.6), points_of("dqn", 0.2, seeds=(0, 1))])  # three against two
    (line,) = figure4.lines(uneven)
    assert line[4].endswith("; 3 and 2 trainings") and line[-3] == "partly"
    (line,) = figure4.lines(pd.concat([points_of("dsl", 0.03), points_of("dqn", 0.02)]))
    assert line[-3] == "untested" and line[4].endswith("too few for either")


def test_the_figure_has_a_row_a_size_and_the_control_in_each_panel():
    some = pd.concat(
        [
            *(points_of(name, 0.5, window) for window in (36, 64) for name in ("dsl", "dqn", "dsl_two_channel")),
            points_of("dsl_moved_alone", 0.02),
        ]
    )
    axes = charts.fig4(some).axes
    assert [ax.get_title() for ax in axes] == [
        *("difference image, as the paper, 36 pixels", "both images, 36 pixels"),
        *("difference image, as the paper, 64 pixels", "both images, 64 pixels"),
    ]
    names = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert names == ["DSL, 3 seeds", "DRL (DQN), 3 seeds", "DSL, the moved image alone, 3 seeds"]


def test_the_table_shows_the_long_curves_where_they_are_there(tmp_path):
    short = points_of("dsl", 0.04, seeds=(0, 1)).assign(seconds=1.0)
    short.drop(columns=["window", "processor_seconds"]).to_csv(tmp_path / "fig4.csv", index=False)
    assert "| 36 | difference | DSL | 2 | 100 | 4 [4, 5] |" in figure4.block(tmp_path)
    two = short.assign(method="dsl_two_channel")
    pd.concat([short, two]).drop(columns=["window", "processor_seconds"]).to_csv(tmp_path / "fig4.csv", index=False)
    long = [points_of("dsl", 0.6), points_of("dqn_today", 0.5), points_of("dsl", 0.7, 64)]
    pd.concat(long).to_csv(tmp_path / "fig4_long.csv", index=False)
    made = figure4.block(tmp_path)
    assert "| 36 | difference | DSL | 3 | 100 | 61 [60, 62] | 58 [57, 59] | 5.0 | 1.00 |" in made
    assert "| 36 | difference | DRL (double, dueling, n-step) | 3 |" in made and "processor hours" in made
    assert "| 36 | both images | DSL | 2 | 100 | 4 [4, 5] |" in made, "what has no long curve is as notebook 09 left it"
    assert "| 64 |" not in made, "nothing to compare it with"


def test_trainings_that_scatter_are_not_lent_the_others_calm():
    """Welch: three alike trainings say nothing about two that are 6 points apart."""
    first, second = np.array([0.312, 0.310, 0.314]), np.array([0.208, 0.150])
    found = figure4.over_seeds(first, second)
    assert found.value == pytest.approx(0.133) and found.low < 0 < found.high
    assert np.isnan(figure4.over_seeds(first, second[:1]).low)
    assert np.isnan(figure4.over_seeds(np.full(3, 0.9), np.full(3, 0.3)).low), "neither scatters"
    assert figure4.over_seeds(first, second[[0, 0, 1]] + [0, 0.001, 0.05]).low > 0
