"""The learning curve: its table and figure from rows, and one point trained and walked for real."""

import dataclasses

import numpy as np
import pandas as pd

from lib.figures import studies as figures
from lib.study import rows, run, schema, sources
from lib.tables import learning_curve


def rows_of(agent, samples, dataset, reach, errors):
    values = dict.fromkeys(rows.COLUMNS, "") | {"experiment": "spine", "agent": agent, "range": reach}
    lines = []
    for n, error in enumerate(errors):
        who = {"case": f"p{n % 2}", "dataset": dataset or f"s{n % 2}", "start": n, "final_error_mm": error}
        lines.append(values | who | {"samples": str(samples), "success": error <= 10})
    return lines


def test_the_table_and_the_figure_follow_from_the_rows():
    lines = rows_of("dsl", 100, "virtual_spine", "full", [2.0, 30.0, 40.0, 50.0])
    lines += rows_of("dsl", 1000, "virtual_spine", "full", [2.0, 3.0, 4.0, 50.0])
    lines += rows_of("dsl_two_channel", 100, "", "near", [1.0, 2.0])
    table = learning_curve.table(pd.DataFrame(lines))
    made = table.set_index(["agent", "samples"])
    assert made["success"].to_dict() == {("dsl", 100): 0.25, ("dsl", 1000): 0.75, ("dsl_two_channel", 100): 1.0}
    assert (made["success_low"] <= made["success"]).all() and (made["success"] <= made["success_high"]).all()
    panels = figures.learning_curve(table).axes
    assert [ax.get_title() for ax in panels] == ["unseen simulated patients", "real scans, ±30 mm and ±15°"]
    assert np.allclose(panels[0].lines[0].get_ydata(), [25, 75])


def test_a_point_is_trained_and_walked(smoke_run, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(smoke_run.parent / "data"))
    monkeypatch.setattr(sources, "_real", lambda *a: [])
    curve = schema.load("learning_curve")
    recipe = dataclasses.replace(curve.recipe[0], agents=("dsl",), samples=(64,))
    cfg, said = run.load_config("smoke"), []
    run.Loop(cfg, dataclasses.replace(curve, recipe=(recipe,)), say=said.append).run()
    assert any("64 samples" in line for line in said), "trained with the number asked for"
    assert (tmp_path / "runs/smoke/spine/split0/curve/dsl_64/dsl_coarse.safetensors").exists()
    found = rows.read(tmp_path / "runs/smoke/summary", "learning_curve")
    assert set(found["method"]) == {"dsl_coarse"} and set(found["samples"]) == {"64"}
    starts = cfg.patients.n_test * cfg.evaluation.n_starts
    assert len(found) == starts and found["final_error_mm"].between(0, 1000).all()
