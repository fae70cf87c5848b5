"""Tables from rows worked by hand, and the tables in results/ recomputed from their rows."""

import argparse
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import cases
from lib.base import provenance
from lib.base.errors import UserError
from lib.tables import command, documents, words
from lib.tables import rows as case_rows
from lib.tables import table1 as tables

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = {"REAL_PAIRS"}  # blocks of studies that need a network, which nobody here had


def rows_of(method, errors, experiment="spine", patients=2, notes=None, initial=50.0):
    """Rows with given final errors, dealt to `patients` patients in turn; success by the paper's limit."""
    limit = 10 if experiment == "spine" else 20
    notes = notes or ["" if e <= limit else "lost" for e in errors]
    lines = []
    for i, (error, note) in enumerate(zip(errors, notes, strict=True)):
        values = ("smoke", experiment, f"virtual_{experiment}", 0, f"p{i % patients}", i // patients, method)
        values += (initial + i, float(error), error <= limit and not note, 1.5, "cpu", note, *np.zeros(6))
        lines.append(dict(zip(cases.COLUMNS, values, strict=True)))
    return lines


@pytest.fixture
def rows():
    lines = rows_of("initial", [50] * 4) + rows_of("dsl", [1, 2, 3, 40]) + rows_of("elastix", [1, 80, 90, 100])
    return pd.DataFrame(lines + rows_of("initial", [5, 15, 25, 35], "heart"))


def test_a_line_of_table1(rows):
    table1, _ = tables.gather(rows)
    line = table1.query("experiment == 'spine' and method == 'dsl'").iloc[0]
    assert line["n"] == 4 and line["success"] == 0.75
    assert line[["p10", "p50", "p90"]].tolist() == pytest.approx([1.3, 2.5, 28.9])
    assert line[["paper_success", "paper_p50"]].tolist() == [0.92, 2.5]
    assert line["success_low"] <= 0.75 <= line["success_high"]


def test_table1_holds_every_method_of_the_paper_run_or_not(rows):
    table1, today = tables.gather(rows)
    assert set(table1.query("experiment == 'heart'")["method"]) == set(tables.TABLE1)
    human = table1.query("experiment == 'spine' and method == 'human'").iloc[0]
    assert human["n"] == 0 and np.isnan(human["success"]) and human["paper_success"] == 0.70
    assert today.query("experiment == 'spine'")["method"].tolist() == ["dsl", "dsl_two_channel", "elastix"]
    assert tuple(table1.columns) == tables.COLUMNS == tuple(today.columns)


def test_pose_regression_stands_after_the_agents_of_its_experiment(rows):
    study = pd.DataFrame(rows_of("dsl_two_channel_coarse", [1, 2, 30, 40])).assign(change="regression_samples_60000")
    _, today = tables.gather(rows)
    whole = tables.with_regression(today, study)
    spine = whole.query("experiment == 'spine'")["method"].tolist()
    assert spine == ["dsl", "dsl_two_channel", "regression", "elastix"]
    assert whole.query("method == 'regression'")[["n", "success"]].to_numpy().tolist() == [[4, 0.5]]
    assert whole["experiment"].tolist()[0] == "spine" and "Pose regression (two channels) | 50" in tables.markdown(
        whole
    )
    alone = tables.with_regression(today, study.iloc[:0])
    assert tables.markdown(alone) == tables.markdown(today), "no line where the study was not run"


def test_several_profiles_are_not_mixed(rows):
    rows.loc[0, "profile"] = "cpu"
    with pytest.raises(UserError, match="profiles"):
        tables.gather(rows)


def test_failures_by_kind():
    notes = ["", "vertebra +1", "vertebra -2", "rotated", "not installed"]
    table = case_rows.failures(pd.DataFrame(rows_of("itk", [1, 25, 50, 99, 5], notes=notes)))
    line = table.iloc[0]
    assert [line[k] for k in ("n", "vertebra", "rotated", "lost", "refused")] == [5, 2, 1, 0, 1]


def test_a_starved_method_has_its_own_table(rows):
    starved = rows_of("semantic_15", [1, 2, 30, 40]) + rows_of("semantic_5", [9, 50, 60, 70])
    everyone = pd.concat([rows, pd.DataFrame(starved + rows_of("semantic", [1, 1, 1, 99]))])
    table = tables.all_tables(everyone)["starvation.csv"]
    assert table["training_patients"].tolist() == ["5", "15", "all"]
    assert table["success"].tolist() == [0.25, 0.5, 0.75] and set(table["n"]) == {4}
    assert "starvation.csv" not in tables.all_tables(rows)
    _, today = tables.gather(everyone)
    assert not [m for m in today["method"] if m.startswith("semantic")]


def test_paired_difference(rows):
    line = case_rows.paired(rows, "dsl").iloc[0]
    assert line["method"] == "elastix" and line["n"] == 4
    assert line["success_difference"] == pytest.approx(0.5)
    assert line["error_difference_mm"] == pytest.approx(11.5 - 67.75)


def test_capture_range():
    table = case_rows.capture(pd.DataFrame(rows_of("dsl", [1] * 20 + [99, 1, 99])))
    assert table["capture_mm"].iloc[0] == 71.0  # 21 of 22 is above 95 %, 21 of 23 is not
    table = case_rows.capture(pd.DataFrame(rows_of("itk", [99, 99])))
    assert table["capture_mm"].iloc[0] == 0


def test_markdown_says_what_was_not_measured(rows):
    text = tables.markdown(tables.gather(rows)[0])
    assert "| Human | not measured |" in text and "*0.8 / 1.6 / 15.8*" in text
    assert "| ITK, as published | not run |" in text and "| Agent (difference image) | 75 [" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_inject_replaces_only_its_block():
    text = "a\n<!-- TABLE1 -->\nold\n<!-- /TABLE1 -->\nb <!-- CLAIMS -->x<!-- /CLAIMS -->"
    new = words.inject(text, "TABLE1", "| new |")
    assert "old" not in new and words.extract(new, "TABLE1") == "| new |" and new.endswith("x<!-- /CLAIMS -->")
    assert words.inject(new, "TABLE1", "| new |") == new
    with pytest.raises(UserError, match="markers"):
        words.inject("nothing", "TABLE1", "x")


def test_write_then_verify_then_tamper(tmp_path, rows):
    cases.write_rows(tmp_path / "cases.csv", rows)
    tables.write(cases.read_rows(tmp_path / "cases.csv"), tmp_path)
    assert command.verify(tmp_path) == []
    table = pd.read_csv(tmp_path / "table1.csv")
    table.loc[table["method"] == "dsl", "success"] = 0.99
    table.to_csv(tmp_path / "table1.csv", index=False)
    assert command.verify(tmp_path) == [f"{tmp_path / 'table1.csv'} is not what its case rows give"]
    (tmp_path / "paired.csv").unlink()
    assert f"{tmp_path / 'paired.csv'} is missing" in command.verify(tmp_path)


def pages(root, **texts):
    """A house with a front page and docs: the marker of every block in its page, empty, and what is given."""
    for name, block in documents.BLOCKS.items():
        page = root / block.file
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a", encoding="utf-8") as stream:
            stream.write(f"before {name}\n<!-- {name} --><!-- /{name} -->\nafter {name}\n")
    for name, text in texts.items():
        with (root / "docs" / f"{name}.md").open("a", encoding="utf-8") as stream:
            stream.write(text)


def test_documents_are_filled_and_a_planted_change_is_caught(tmp_path, monkeypatch):
    made = documents.blocks(ROOT / "results")
    monkeypatch.setattr(documents, "blocks", lambda folder: made)  # made once: it takes seconds
    pages(tmp_path, deviations="row 9: <!-- v:fixed30 -->old<!-- / --> end\n")
    changed = {path.name for path in documents.write(ROOT / "results", tmp_path)}
    assert changed == {Path(documents.BLOCKS[name].file).name for name in made} | {"deviations.md"}
    assert documents.verify(ROOT / "results", tmp_path) == [] and documents.write(ROOT / "results", tmp_path) == []
    for name, block in documents.BLOCKS.items():
        if name in NOT_RUN:
            continue
        page = tmp_path / block.file
        right = page.read_text(encoding="utf-8")
        assert f"before {name}\n<!-- {name} -->\n\n" in right and f"<!-- /{name} -->\nafter {name}\n" in right
        digit = next(c for c in reversed(words.extract(right, name)) if c.isdigit())
        block_text = words.extract(right, name)
        at = block_text.rindex(digit)
        planted = block_text[:at] + str((int(digit) + 1) % 10) + block_text[at + 1 :]
        page.write_text(words.inject(right, name, planted), encoding="utf-8")
        found = documents.verify(ROOT / "results", tmp_path)
        page.write_text(right, encoding="utf-8")
        assert found == [f"{block.file}: the block {name} is not what the results give"]
    page = tmp_path / "docs/deviations.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("success 48 %", "success 49 %") + "<!-- MINE -->1<!-- /MINE -->")
    assert documents.verify(ROOT / "results", tmp_path) == [
        "docs/deviations.md: the sentence v:fixed30 is not what the results give",
        "docs/deviations.md: nobody fills the block MINE",
    ]
    page.write_text("<!-- v:halt --><!-- / -->")
    with pytest.raises(UserError, match="v:halt is no variant"):
        documents.write(ROOT / "results", tmp_path)


def test_a_missing_marker_is_one_sentence(tmp_path):
    pages(tmp_path)
    (tmp_path / "docs/claims.md").write_text("nothing")
    with pytest.raises(UserError, match="<!-- CLAIMS --> and <!-- /CLAIMS --> are missing"):
        documents.write(ROOT / "results", tmp_path)


def test_every_block_of_the_registry_is_made_from_the_committed_tables():
    made = documents.blocks(ROOT / "results")
    assert set(made) == set(documents.BLOCKS) - NOT_RUN
    for name, text in made.items():
        assert re.search(r"^\|.*\d.*\|$", text, re.M) and "nan" not in text, name


def test_a_markdown_table_has_as_many_cells_as_its_head():
    assert words.table(["a", "b"], [[1, "x"], ["", 2.5]]) == "| a | b |\n|---|---|\n| 1 | x |\n|  | 2.5 |"
    with pytest.raises(ValueError, match="as many cells"):
        words.table(["a", "b"], [[1]])


def test_collect_takes_each_case_once(tmp_path):
    cases.write_rows(tmp_path / "spine/split0/cases_dsl.csv", rows_of("dsl", [1, 2]))
    cases.write_rows(tmp_path / "spine/split0/cases_initial.csv", rows_of("initial", [50, 51]))
    cases.write_rows(tmp_path / "again/cases_dsl.csv", rows_of("dsl", [1, 2]))
    assert case_rows.collect(tmp_path, "smoke")["method"].tolist() == ["initial", "dsl"] * 2
    assert case_rows.collect(tmp_path, "cpu").empty


def test_two_people_at_one_case_are_two_rows(tmp_path):
    rows = rows_of("human", [3, 4]) + rows_of("human", [5, 6])
    for row, user in zip(rows, ("ann", "ann", "bob", "bob"), strict=True):
        row["note"] = f"by hand, user {user}"
    cases.write_rows(tmp_path / "spine/split0/cases_human.csv", rows)
    assert sorted(case_rows.collect(tmp_path, "smoke")["final_error_mm"]) == [3, 4, 5, 6]


@pytest.mark.skipif(not (ROOT / "results/cases.csv").exists(), reason="no results yet: make reproduce")
def test_the_committed_tables_are_what_their_rows_give():
    assert command.verify(ROOT / "results") == []


@pytest.mark.skipif(not provenance.committed(ROOT / "results/cases.csv"), reason="the rows are this machine's own")
def test_the_front_page_and_the_docs_show_the_committed_results():
    assert documents.verify(ROOT / "results") == [], "run: python -m lib tables documents"


def test_verify_after_a_run_of_ones_own_says_what_the_readme_shows(monkeypatch, capsys):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    monkeypatch.setattr(command, "verify", lambda folder: [])
    monkeypatch.setattr(documents, "verify", lambda folder: ["README.md differs"])
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    for committed, status, said in ((True, 1, "README.md differs"), (False, 0, "the committed ones")):
        monkeypatch.setattr(provenance, "committed", lambda path, answer=committed: answer)
        assert command.run(parser.parse_args(["verify"])) == status and said in capsys.readouterr().out


def test_what_was_changed_is_not_as_committed(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path, *words], check=True)

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "a.csv").write_text("1")
    assert provenance.committed(tmp_path / "a.csv"), "outside git"
    git("init", "-q")
    git("add", "a.csv")
    git("commit", "-qm", "a")
    assert provenance.committed(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("2")
    assert not provenance.committed(tmp_path / "a.csv")
