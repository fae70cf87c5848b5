"""The learning curve's rows, table and figure, and one point trained and walked for real."""

import numpy as np
import pandas as pd
import pytest

from lib import cases
from lib.study import config, learning_curve, populations


def rows_of(method, samples, reach, errors, scans=2):
    values = dict.fromkeys(cases.COLUMNS, 0) | {"profile": "smoke", "experiment": "spine", "method": method, "note": ""}
    lines = []
    for n, error in enumerate(errors):
        who = {"case": f"p{n % scans}", "dataset": f"s{n % scans}", "start": n, "final_error_mm": error}
        lines.append({"samples": samples, "range": reach} | values | who | {"success": error <= 10})
    return pd.DataFrame(lines)


def test_the_table_and_the_figure_follow_from_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    cfg = populations.load_config("smoke", "spine")
    few = rows_of("dsl_coarse", 100, "virtual", [2.0, 30.0, 40.0, 50.0])
    many = rows_of("dsl_coarse", 1000, "virtual", [2.0, 3.0, 4.0, 50.0])
    other = rows_of("dsl_two_channel_coarse", 100, "near", [1.0, 2.0])
    for new in (few, other, many, few):  # the same point again takes the place of its rows
        learning_curve.write(cfg, new)
    rows = learning_curve.read_rows(config.results_dir(cfg))
    assert len(rows) == 10
    made = pd.read_csv(config.results_dir(cfg) / "learning_curve.csv").set_index(["agent", "samples"])
    assert made["success"].to_dict() == {("dsl", 100): 0.25, ("dsl", 1000): 0.75, ("dsl_two_channel", 100): 1.0}
    assert (made["success_low"] <= made["success"]).all() and (made["success"] <= made["success_high"]).all()
    panels = learning_curve.figure(made.reset_index()).axes
    assert [ax.get_title() for ax in panels] == ["unseen simulated patients", "real scans, ±30 mm and ±15°"]
    assert np.allclose(panels[0].lines[0].get_ydata(), [25, 75])
    assert (config.results_dir(cfg) / "figures" / "learning_curve.png").stat().st_size > 5000


def test_a_point_is_trained_and_walked(smoke_run, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(smoke_run.parent / "data"))
    monkeypatch.setattr(learning_curve.transfer_eval, "real_cases", lambda cfg, scans, reach: [])
    cfg = populations.load_config("smoke", "spine")
    said = []
    rows = learning_curve.point(cfg, "dsl", 64, said.append)
    assert any("64 samples" in line for line in said), "trained with the number asked for"
    assert (learning_curve.folder(cfg, "dsl", 64) / "dsl_coarse.safetensors").exists()
    assert set(rows["method"]) == {"dsl_coarse"} and set(rows["range"]) == {"virtual"} and set(rows["samples"]) == {64}
    starts = cfg.patients.n_test * cfg.evaluation.n_starts
    assert len(rows) == starts and rows["final_error_mm"].between(0, 1000).all()


def test_a_network_of_the_profiles_own_budget_is_the_one_of_make_reproduce():
    cfg = populations.load_config("smoke", "spine")
    assert learning_curve.folder(cfg, "dsl", cfg.training.samples) == config.agents_dir(cfg)
    assert learning_curve.folder(cfg, "dsl", 10 * cfg.training.samples) != config.agents_dir(cfg)


@pytest.mark.parametrize("words", [["dsl", "0"], ["dsl", "-5"]])
def test_no_samples_is_one_sentence(words, capsys):
    assert learning_curve.main(words) == 2
    assert "no number of training samples" in capsys.readouterr().err


def test_committed_curve_follows_from_its_rows():
    results = config.ROOT / "results"
    rows = learning_curve.read_rows(results)
    if rows.empty:
        pytest.skip("no curve is committed")
    n = config.load(rows["profile"].iloc[0], sections=("evaluation",)).evaluation.n_bootstrap
    made = learning_curve.table(rows, n)
    pd.testing.assert_frame_equal(made, pd.read_csv(results / "learning_curve.csv"), check_dtype=False, atol=2e-3)
