"""`make verify`: each kind of change that somebody could plant is found, and named."""

import json
import shutil

import pytest

from lib.base import provenance
from lib.base.folders import ROOT
from lib.tables import verify


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
    assert verify.run(type("Options", (), {"profile": "cpu"})) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:10].strip() for line in lines if line[0] != " "][:3] == ["differs", "reproduced", "differs"]
    assert sum("b is wrong." in line for line in lines) == verify.SHOWN and "and 12 more" in lines[-1] + lines[-2]


def test_what_is_committed_is_sound():
    """The files, without the rows' tables, which tests/test_tables.py computes again."""
    assert found(ROOT / "results") == []
