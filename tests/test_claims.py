"""Verdicts by their stated rules, on rows made for the purpose; every claim has a line, tested or not."""

import json

import numpy as np
import pandas as pd
import pytest

from lib import cases, claims, config, evidence, tables
from lib.errors import UserError
from lib.tables_rows import PAPER


def rows_of(method, errors, experiment="spine", profile="cpu", notes=None):
    """Rows of five patients in turn with given final errors (mm)."""
    limit, lines = (10 if experiment == "spine" else 20), []
    for i, error in enumerate(errors):
        note = notes[i] if notes else ("" if error <= limit else "lost")
        values = (
            profile,
            experiment,
            f"virtual_{experiment}",
            0,
            f"p{i % 5}",
            i // 5,
            method,
            60.0,
            float(error),
        )
        lines.append((*values, error <= limit and not note, 1.0, "cpu", note, *np.zeros(6)))
    return pd.DataFrame(lines, columns=cases.COLUMNS)


def data_of(*parts, profile="cpu", theory=None, **extra):
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=cases.COLUMNS)
    empty = {name: pd.DataFrame() for name in ("attention", "walks", "patients", "fig4")}
    return claims.Evidence(profile, rows, empty | extra, theory or {})


def verdict(data, claim, line=0):
    return claims.compute(data, [claim]).iloc[line]["verdict"]


def test_every_claim_has_a_line_and_is_untested_without_data():
    table = claims.compute(data_of())
    assert list(dict.fromkeys(table["claim"])) == [f"C{i}" for i in range(1, 15)]
    assert set(table.loc[table["claim"] != "C14", "verdict"]) == {"untested"}
    assert tuple(table.columns) == claims.COLUMNS
    assert table.query("claim == 'C14'").iloc[0]["ours"] == "2.1 TB"


def test_unknown_claim():
    with pytest.raises(UserError, match="C15"):
        claims.compute(data_of(), ["C15"])


@pytest.mark.parametrize(("good", "expected"), [(48, "reproduced"), (30, "partly"), (10, "not")])
def test_c1_success_against_the_paper(good, expected):
    data = data_of(rows_of("dsl", [2.0] * good + [60.0] * (50 - good)))
    assert verdict(data, "C1") == expected


def test_c2_needs_all_three_rivals_to_be_reproduced():
    mine, rival = rows_of("dsl", [2.0] * 50), [2.0] * 5 + [70.0] * 45
    assert verdict(data_of(mine, rows_of("itk", rival)), "C2") == "partly"
    rivals = [rows_of(m, rival) for m in claims.RIVALS]
    assert verdict(data_of(mine, *rivals), "C2") == "reproduced"
    assert (
        verdict(data_of(rows_of("dsl", rival), *[rows_of(m, [2.0] * 50) for m in claims.RIVALS]), "C2")
        == "not"
    )


def test_c4_gain_of_the_fine_network():
    coarse = np.linspace(2, 6, 50)
    assert verdict(data_of(rows_of("dsl", coarse * 0.7), rows_of("dsl_coarse", coarse)), "C4") == "reproduced"
    assert verdict(data_of(rows_of("dsl", coarse * 1.2), rows_of("dsl_coarse", coarse)), "C4") == "not"


def test_c5_c11_and_c13_from_their_tables():
    rows = rows_of("dsl", [2.0] * 50)
    who = {"experiment": "spine", "case": rows["case"], "agent": "dsl"}
    attention = pd.DataFrame(who | {"saliency": 15.0, "centre": 40.0})
    walks = pd.DataFrame(
        who | {"straight": 0.9, "revisited": 0.1, "spread": 1.0, "cycle": [2.0] * 48 + [9.0] * 2}
    )
    patients = pd.DataFrame({"case": [f"p{i}" for i in range(5)], "stent": [True, True, False, False, False]})
    data = data_of(rows, attention=attention, walks=walks, patients=patients)
    assert verdict(data, "C5") == "reproduced"
    assert verdict(data, "C11") == "partly"
    assert verdict(data, "C13") == "reproduced"


def test_c6_and_c7():
    curve = [(m, s, 100, r) for m, r in (("dsl", 0.9), ("dqn", 0.3), ("double_dqn", 0.4)) for s in (0, 1)]
    data = data_of(fig4=pd.DataFrame(curve, columns=["method", "seed", "step", "success"]))
    assert verdict(data, "C6") == "reproduced"
    assert verdict(data_of(theory={"lemma3": {"a": 0.0, "b": 0.03}, "states": 10}), "C7") == "partly"
    assert verdict(data_of(theory={"lemma3": {"a": 0.0}, "states": 10}), "C7") == "reproduced"


def test_c9_pairs_the_ablation_with_its_agent():
    data = data_of(rows_of("dsl", [2.0] * 50), rows_of("dsl_regression", [2.0] * 10 + [60.0] * 40))
    assert verdict(data, "C9") == "reproduced" and verdict(data, "C8") == "untested"


def test_c10_counts_whole_vertebrae():
    errors = [2.0] * 47 + [25.0] * 3
    data = data_of(rows_of("dsl", errors, notes=[""] * 47 + ["vertebra +1"] * 3))
    line = claims.compute(data, ["C10"]).iloc[0]
    assert line["verdict"] == "partly" and line["ours"].startswith("3 of 50")


def test_smoke_claims_nothing():
    data = data_of(rows_of("dsl", [2.0] * 50, profile="smoke"), profile="smoke")
    assert verdict(data, "C1") == "untested" and verdict(data, "C14") == "reproduced"


def test_walk_of_a_straight_line_and_of_a_square():
    line = np.zeros((31, 6))
    line[:, 2] = np.arange(30, -1, -1)
    assert evidence.walk(line)["straight"] == pytest.approx(1) and evidence.walk(line)["cycle"] == 0
    side = np.arange(10)
    square = np.zeros((41, 6))
    square[:, 0] = np.concatenate([side, [10] * 10, 10 - side, [0] * 11])
    square[:, 1] = np.concatenate([[0] * 10, side, [10] * 10, 10 - side, [0]])
    out = evidence.walk(square)
    assert out["cycle"] == pytest.approx(200**0.5) and out["straight"] == 0


def test_gather_and_write_from_a_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    run = tmp_path / "results/runs/cpu/spine/split0"
    run.mkdir(parents=True)
    rows = rows_of("dsl", [2.0] * 50)
    cases.write_rows(tmp_path / "results/cases.csv", rows)
    pd.DataFrame(
        {"case": ["p0"], "start": [0], "agent": ["dsl"], "saliency": [9.0], "centre": [30.0]}
    ).to_csv(run / "attention_dsl.csv", index=False)
    np.savez(run / "trajectories_dsl.npz", case=["p0"], start=[0], states=np.zeros((1, 8, 6)))
    (run / "theory.json").write_text(json.dumps({"lemma3": {"a": 0.0}, "states": 4}))
    folder = tmp_path / "data/cpu/virtual_spine/p0"
    folder.mkdir(parents=True)
    (folder / "patient.json").write_text(
        json.dumps({"experiment": "spine", "meta": {"stent": True, "gas": False}})
    )
    table = claims.write("cpu")
    back = pd.read_csv(tmp_path / "results/claims.csv")
    assert back["verdict"].tolist() == table["verdict"].tolist()
    found = table.set_index("claim")["verdict"]
    assert found["C5"] == "reproduced" and found["C7"] == "reproduced"
    assert pd.read_csv(tmp_path / "results/patients.csv")["stent"].tolist() == [True]
    assert "| C14 |" in claims.markdown(back) and "nan" not in claims.markdown(back)


def test_the_papers_numbers_are_the_papers():
    assert PAPER["spine"]["dsl"] == (0.92, 1.7, 2.5, 3.8) and PAPER["heart"]["dsl"] == (1.0, 3.2, 4.8, 6.9)
    assert PAPER is tables.PAPER


@pytest.mark.skipif(not (config.ROOT / "results/claims.csv").exists(), reason="no claims yet: make claims")
def test_the_committed_claims_are_what_the_evidence_gives():
    folder = config.ROOT / "results"
    ours = claims.compute(claims.load(folder)).reset_index(drop=True)
    assert pd.read_csv(folder / "claims.csv")["verdict"].tolist() == ours["verdict"].tolist()
