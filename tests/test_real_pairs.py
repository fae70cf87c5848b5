"""Real pairs from the Imaging Data Commons: fetched whole or not at all, a reference by consensus, registered by a study.
The Commons is a folder here, of DICOM series of a small phantom whose pose is known."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from field_files import one
from test_judge import error, pair

from lib.base.errors import UserError
from lib.images import pair as pair_images
from lib.images import read
from lib.images.transforms import as_pose
from lib.patients import data
from lib.patients.scans import fetch, idc_pairs, manifest
from lib.patients.scans.schema import Manifest
from lib.study import consensus, populations, rows, run, schema

NAME = "tiny_pairs"
MIRROR = Path(os.environ.get("AGENT_REGISTRATION_MIRROR", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIR = MIRROR / "pancreatic_ct_cbct_001"


def series(volume, folder, uid):
    """A volume along the axes as a DICOM series."""
    folder.mkdir(parents=True)
    for k, plane in enumerate(volume.array.numpy()):
        place = [float(x) for x in volume.origin + np.array([0, 0, k * volume.spacing[2]])]
        more = {"Rows": plane.shape[0], "Columns": plane.shape[1], "ImagePositionPatient": place}
        pixels = (plane.clip(-1024, 3000) + 1024).round().astype("<u2").tobytes()
        d = one(0, SeriesInstanceUID=uid, InstanceNumber=k + 1, SliceThickness="4", PixelData=pixels, **more)
        pydicom.dcmwrite(folder / f"{k:03d}.dcm", d, enforce_file_format=True)


@pytest.fixture(scope="module")
def phantom():
    return pair(alike=False)


@pytest.fixture
def commons(tmp_path, monkeypatch, phantom):
    """A Commons with two patients of one collection: `asked` holds the series that were downloaded, `gone` those it has
    lost."""
    fixed, moving, _ = phantom
    store, wanted = tmp_path / "commons", []
    for patient in (1, 2):
        series(moving, store / f"1.{patient}.1", f"1.{patient}.1")
        series(fixed, store / f"1.{patient}.2", f"1.{patient}.2")
        slices = [len(moving.array), len(fixed.array)]
        wanted.append({"patient": f"P{patient}", "ct": f"1.{patient}.1", "cbct": f"1.{patient}.2", "slices": slices})
    text = {"name": NAME, "kind": "collection", "title": "t", "source": "s", "licence": "CC0", "experiments": ["spine"]}
    text |= {"layout": ["x"], "loader": "dicom_patients", "pairs": [p | {"megabytes": 1.0} for p in wanted]}
    found, there = Manifest.model_validate(text), SimpleNamespace(asked=[], gone=set(), store=store, wanted=wanted)

    class Client:
        def download_from_selection(self, seriesInstanceUID, downloadDir, **_):  # noqa: N803
            (uid,) = seriesInstanceUID
            if uid in there.gone:
                return  # as idc-index does without a network, after minutes
            there.asked.append(uid)
            shutil.copytree(store / uid, downloadDir, dirs_exist_ok=True)

    monkeypatch.setitem(sys.modules, "idc_index", SimpleNamespace(IDCClient=Client))
    idc_pairs._client.cache_clear()
    plain = manifest.load
    monkeypatch.setattr(manifest, "load", lambda name, *a: found if name == NAME else plain(name, *a))
    monkeypatch.setattr(manifest, "data_folder", lambda name, root=None: tmp_path / "data" / "real" / name)
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    there.folder, there.found = tmp_path / "data" / "real" / NAME / "pairs", found
    return there


def test_an_interrupted_fetch_goes_on_with_what_is_missing(commons):
    commons.gone, said = {"1.2.2"}, []
    assert fetch.fetch(NAME, say=said.append) == [commons.folder / "P1"]
    assert "2 pairs, 2 to fetch, 0.0 GB" in said[0] and "CC0" in said[0], "whose they are, before anything comes"
    assert "P2, cbct: nothing of series 1.2.2 came" in said[-2] and "1 of 2 pairs are here" in said[-1]
    assert commons.asked == ["1.1.1", "1.1.2", "1.2.1"]
    assert [p.patient for p, _ in idc_pairs.here(commons.found)] == ["P1"]
    commons.gone = set()
    assert len(fetch.fetch(NAME, say=said.append)) == 2
    assert commons.asked[3:] == ["1.2.2"], "what is here is not fetched again"
    assert [p.patient for p, _ in idc_pairs.here(commons.found)] == ["P1", "P2"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("a slice is missing", "23 of 24 slices"),
        ("another series", "another series"),
        ("cut in its header", "000.dcm came damaged"),
        ("cut in its pixels", "000.dcm came damaged"),
        ("empty", "000.dcm came damaged"),
    ],
)
def test_a_series_that_is_not_whole_or_not_the_one_is_not_kept(commons, fault, says):
    for uid in ("1.1.2", "1.2.2"):
        first = commons.store / uid / "000.dcm"
        if fault == "a slice is missing":
            first.unlink()
        elif fault == "another series":
            shutil.copy(commons.store / "1.1.1" / "000.dcm", first)
        else:
            first.write_bytes(
                first.read_bytes()[: {"cut in its header": 200, "cut in its pixels": -500, "empty": 0}[fault]]
            )
    said = []
    with pytest.raises(UserError, match="none of its pairs"):
        fetch.fetch(NAME, say=said.append)
    assert says in said[1]
    assert not list(commons.folder.glob("*/cbct")) and not list(commons.folder.glob("*/.fetching_*"))
    assert not idc_pairs.here(commons.found)


def test_without_a_network_a_fetch_ends_with_its_first_series(commons):
    """It took two minutes a patient, and then said that slices were missing."""
    commons.gone, asked = {"1.1.1"}, []
    with pytest.raises(idc_pairs.Unreachable, match="check the network"):
        fetch.fetch(NAME, say=asked.append)
    assert commons.asked == [] and len(asked) == 1


def test_the_first_pairs_alone_can_be_had_and_the_list_says_how_many_are_here(commons, monkeypatch, capsys):
    assert fetch.fetch(NAME, say=lambda _: None, limit=1) == [commons.folder / "P1"]
    monkeypatch.setattr(manifest, "names", lambda *_: [NAME])
    data.run(SimpleNamespace(name=None, source=None, limit=None))
    assert "1 of 2 pairs" in capsys.readouterr().out


def test_a_slice_that_was_lost_later_is_fetched_again(commons):
    fetch.fetch(NAME, say=lambda _: None)
    (commons.folder / "P1" / "cbct" / "003.dcm").unlink()
    assert [p.patient for p, _ in idc_pairs.here(commons.found)] == ["P2"]
    fetch.fetch(NAME, say=lambda _: None)
    assert len(idc_pairs.here(commons.found)) == 2 and commons.asked.count("1.1.2") == 2


def test_a_disk_without_room_is_said_before_anything_comes(commons, monkeypatch):
    commons.found.pairs[0].__dict__["megabytes"] = 5000.0
    monkeypatch.setattr(idc_pairs.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e9))
    with pytest.raises(UserError, match="5.0 GB are to come and 2.0 GB are free"):
        fetch.fetch(NAME, say=lambda _: None)
    assert commons.asked == []


def test_the_study_estimates_a_reference_draws_it_and_writes_rows(commons, phantom, tmp_path, monkeypatch):
    """From nothing to the rows of the starts and of an optimiser, in one go; the second run makes nothing again."""
    fixed, _, truth = phantom
    commons.found.pairs.pop()  # one patient is enough
    monkeypatch.setattr(populations, "held_out", lambda *_: [])
    text = (
        f"name: x\nquestion: q\ncases: {{source: real_pairs, scans: {NAME}, ranges: {{tight: {[6] * 6}}}, starts: 2}}\n"
    )
    (tmp_path / "x.yaml").write_text(text + "methods: [initial, itk_tuned]\n")
    study = schema.load("x", tmp_path)
    said = []
    run.Loop(run.load_config("cpu"), study, say=said.append).run()
    kept = json.loads((commons.folder / "P1" / "consensus.json").read_text())
    assert error(np.array(kept["pose"]), fixed, truth) < 0.6 and kept["off_mm"] < 2 and kept["margin"] > 0.05
    assert (commons.folder / "P1" / "consensus.png").stat().st_size > 20_000
    found = rows.read(tmp_path / "results", "x")
    tuned, start = (found[found["method"] == name] for name in ("itk_tuned", "initial"))
    assert len(found) == 4 and set(found["case"]) == {f"{NAME}_P1"} and set(found["dataset"]) == {NAME}
    assert tuned["final_error_mm"].max() < 2.0 < start["final_error_mm"].min()
    assert sum("to fetch" in line for line in said) == 1, "people are looked for once, though several methods ask"
    monkeypatch.setattr(consensus, "estimate", None)  # it would be an error to ask again
    run.Loop(run.load_config("cpu"), study, say=said.append).run()
    assert "all rows are there" in said[-1]


SURE = {"off_mm": 2.0, "margin": 0.1, "agreement": 0.5, "likeness": 0.5, "lead": 0.2, "overlap": 0.9}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"off_mm": 24.0}, "greatest 24 mm from"),
        ({"lead": 0.01}, "nearly as likely"),
        ({"overlap": 0.3}, "only 30% of the CBCT"),
    ],
)
def test_where_the_measures_differ_nothing_is_measured(commons, monkeypatch, other, why):
    monkeypatch.setattr(consensus, "estimate", lambda *_: consensus.Consensus(np.eye(4).tolist(), **SURE | other))
    for _ in range(2):  # also where it is known already
        said = []
        assert consensus.usable([NAME], said.append) == []
        assert sum(f"left out: {NAME}, P" in line and why in line for line in said) == 2
    commons.found.pairs[0].__dict__["seen"] = True
    said = []
    assert consensus.usable([NAME], said.append) == [] and "P1" not in "".join(said), "what was looked at is not tried"
    text = f"name: x\nquestion: q\ncases: {{source: real_pairs, scans: {NAME}, ranges: near}}\nmethods: initial\n"
    (commons.folder.parent / "x.yaml").write_text(text)
    with pytest.raises(UserError, match="nobody to register; the lines above say why"):
        run.Loop(run.load_config("cpu"), schema.load("x", commons.folder.parent), say=said.append).run()


def test_a_patient_that_cannot_be_read_is_named_and_the_others_go_on(commons, phantom, monkeypatch, tmp_path):
    """One of them, damaged after its reference was found, ended the study at every run."""
    monkeypatch.setattr(consensus, "estimate", lambda *_: consensus.Consensus(phantom[2].tolist(), **SURE))
    text = (
        f"name: x\nquestion: q\ncases: {{source: real_pairs, scans: {NAME}, ranges: {{tight: {[6] * 6}}}, starts: 1}}\n"
    )
    text += "methods: initial\n"
    (tmp_path / "x.yaml").write_text(text)
    assert len(consensus.usable([NAME], lambda _: None)) == 2
    slice_ = commons.folder / "P1" / "ct" / "002.dcm"
    slice_.write_bytes(slice_.read_bytes()[:-500])
    said = []
    run.Loop(run.load_config("cpu"), schema.load("x", tmp_path), say=said.append).run()
    assert any(line.startswith(f"left out: {NAME}_P1: ") for line in said)
    assert set(rows.read(tmp_path / "results", "x")["case"]) == {f"{NAME}_P2"}


@pytest.mark.skipif(not (PAIR / "planCT.nii.gz").exists(), reason="the real pair is not on this machine")
def test_the_real_pair_has_a_consensus():
    """Mutual information comes to rest anywhere there, and a rule that counted its runs had left the pair out."""
    fixed = pair_images.shrink(pair_images.trim(read.read_image(PAIR / "cbct_CB02.nii.gz", kind="cbct")), 2.0, True)
    moving = pair_images.shrink(read.read_image(PAIR / "planCT.nii.gz", kind="ct"), 2.0, False)
    one = consensus.estimate(fixed, moving)
    known = as_pose(PAIR / "derived_CB02_spine_rigid.tfm")  # an estimate, too: docs/real_scans.md
    assert one.doubt == "" and error(np.array(one.pose), fixed, known) < 2.0
    assert one.off_mm < 10 and one.margin > 0.02


def test_pairs_that_are_not_here_are_named_with_their_command(commons):
    commons.gone, said = {"1.1.1"}, []
    with pytest.raises(UserError, match=f"make data DATASET={NAME}"):
        consensus.usable([NAME], said.append)
    assert "check the network" in said[-1]


@pytest.mark.parametrize(
    ("name", "n", "gigabytes"),
    [("pelvic_reference_data", 58, 7.2), ("pancreatic_ct_cbct_seg", 40, 4.8), ("4d_lung", 20, 1.7)],
)
def test_the_collections_name_ct_and_cbct_of_every_patient(name, n, gigabytes):
    pairs = manifest.load(name).pairs
    assert len({p.patient for p in pairs}) == n and len({u for p in pairs for u in (p.ct, p.cbct)}) == 2 * n
    assert round(sum(p.megabytes for p in pairs) / 1000, 1) == gigabytes
    assert all(min(p.slices) > 20 for p in pairs)
    if name == "pancreatic_ct_cbct_seg":
        assert [p.patient for p in pairs if p.seen] == ["Pancreas-CT-CB_001"]
