"""The command for scripts and lists (F19, F21): exit status, JSON, tables of pairs, fair words, nothing walks away."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import lib
from lib import rigid
from lib.__main__ import main
from lib.base.errors import UserError
from lib.images import pair as images
from lib.images import read
from lib.images.volume import Given, Volume, read_transform, write
from lib.registration import couch, fair, files, register, trust
from tests.field_files import folder
from tests.test_cli import pair  # noqa: F401
from tests.test_register import GOOD, agent, body, cone, quick  # noqa: F401


def call(pair, agent, *more):  # noqa: F811
    words = ["register", str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), "-o", str(pair / "o.tfm")]
    return main([*words, "--agent", str(agent), "--only", "agent", "--starts", "2", *more])


def test_what_is_not_to_be_trusted_leaves_3_and_says_so_in_json(pair, agent, capsys, monkeypatch):  # noqa: F811
    """The untrained agent wanders; a good verdict leaves 0."""
    assert call(pair, agent, "--json", str(pair / "o.json")) == 3
    assert "do not trust" in capsys.readouterr().out and (pair / "o.tfm").exists()
    found = json.loads((pair / "o.json").read_text())
    assert found["verdict"] == "do not trust" and found["reasons"] and found["settings"]["starts"] == 2
    np.testing.assert_allclose(found["pose_moving_to_fixed_lps_mm"], read_transform(pair / "o.tfm"), atol=1e-6)
    six = rigid.params_to_matrix(np.array([found["six_numbers"][n] for n in ("tx", "ty", "tz", "rx", "ry", "rz")]))
    np.testing.assert_allclose(rigid.about(six, found["centre_lps_mm"]), read_transform(pair / "o.tfm"), atol=1e-6)
    assert len(found["couch"]["numbers"]) == 6
    settings = register.RegisterSettings(starts=2, scouts="agent")
    same = lib.register(str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), agent=str(agent), settings=settings).summary()
    for name in ("pose_moving_to_fixed_lps_mm", "six_numbers", "verdict", "reasons", "couch", "settings"):
        assert json.loads(json.dumps(same[name])) == found[name], name
    monkeypatch.setattr(trust, "failed", lambda n, limits: {})
    monkeypatch.setattr(register, "doubts", lambda *words: [])
    assert call(pair, agent) == 0


def test_exit_status_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["register", "--help"])
    assert "3 written, do not trust" in " ".join(capsys.readouterr().out.split())


def test_formats_on_the_command_line(pair, agent, capsys):  # noqa: F811
    assert call(pair, agent, "--format", "greedy") == 2 and "must end in .mat" in capsys.readouterr().err
    assert call(pair, agent, "--format", "dicom", "-o", str(pair / "o.dcm")) == 2
    assert "no DICOM series" in capsys.readouterr().err and not (pair / "o.dcm").exists()
    assert call(pair, agent, "--resampled", str(pair / "x.mha"), "--json", str(pair / "x.json")) == 3
    assert call(pair, agent, "--resampled", str(pair / "x.nii.gz"), "--report", str(pair / "o.tfm")) == 2


def test_a_table_of_pairs(pair, agent, capsys):  # noqa: F811
    """A bad pair is named and left; the second run does the rest only."""
    lines = ["fixed,moving,json", "cbct.nii.gz,ct.mha,one.json", "cbct.nii.gz,no.mha,", "cbct.nii.gz,ct.mha,"]
    (pair / "pairs.csv").write_text("\n".join(lines) + "\n")
    words = [
        "register",
        "--list",
        str(pair / "pairs.csv"),
        "-o",
        str(pair / "r.csv"),
        "--agent",
        str(agent),
        "--only",
        "agent",
        "--starts",
        "2",
    ]
    assert main(words) == 2
    said = capsys.readouterr().out
    assert "1/3" in said and "3/3" in said and "0 good, 2 not to be trusted, 1 not registered" in said
    rows = list(csv.DictReader((pair / "r.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["3", "2", "3"] and "no such file" in rows[1]["reasons"]
    assert (
        (pair / "one.json").exists() and (pair / "r_001.tfm").exists() and float(rows[0]["tx"]) == float(rows[2]["tx"])
    )
    stamp = (pair / "r_001.tfm").stat().st_mtime_ns
    write(body(), pair / "no.mha")
    assert main(words) == 3
    said = capsys.readouterr().out
    assert said.count("(kept)") == 2 and (pair / "r_001.tfm").stat().st_mtime_ns == stamp
    (pair / "pairs.csv").write_text("fixed,movin\na,b\n")
    assert main(words) == 2 and "unknown column 'movin'" in capsys.readouterr().err


def test_one_start_cannot_agree(agent):  # noqa: F811
    moving = body()
    settings = register.RegisterSettings(starts=1, coarse_steps=4, fine_steps=2, scouts="agent")
    result = register.register(cone(moving, np.eye(4)), moving, agent=agent, settings=settings)
    assert any("starts cannot agree" in reason for reason in result.trust.reasons)
    two = register.register(cone(moving, np.eye(4)), moving, agent=agent, settings=quick())
    assert not any("starts cannot agree" in reason for reason in two.trust.reasons)


def test_a_small_field_of_view_is_refused_at_once(agent):  # noqa: F811
    whole = cone(body(), np.eye(4))
    small = Volume(whole.array[12:26, 16:34, 16:34], whole.spacing, (whole.affine @ [16, 16, 12, 1])[:3])
    with pytest.raises(UserError, match="7 x 7 x 6 cm, too small for the agent"):
        register.register(small, body(), agent=agent, settings=quick())


def test_no_path_leaves_the_training_range():
    class Path:
        def __init__(self, poses):
            self.poses = poses

    away = np.stack([rigid.translation([0, 0, 10.0 * k]) for k in range(60)])
    near = np.repeat(np.eye(4)[None], 60, axis=0)
    results = [
        type("R", (), {"coarse": Path(away.copy()), "fine": Path(near + 0)}),
        type("R", (), {"coarse": Path(near), "fine": None}),
    ]
    assert fair.within(results, "spine", [0, 0, 0]) == [True, False]
    assert results[0].coarse.poses[:, 2, 3].max() == fair.FARTHEST["spine"] == results[0].fine.poses[-1][2, 3]
    assert (results[0].coarse.poses[:20] == away[:20]).all()


def test_the_same_image_twice_and_two_patients_are_named(tmp_path):
    """Both were called good: a couch that need not move, and a registration across two people."""
    ct, good = body(), trust.judge(GOOD)
    assert fair.doubts(ct, ct.with_array(ct.array.clone()), good, [False], 5) == [
        "the CT and the CBCT are the same image"
    ]
    noisy = ct.with_array(ct.array + torch.randn(ct.array.shape))
    assert fair.doubts(noisy, ct, good, [False], 5) == [], "another scan of the same size is another image"
    for name, other in (("a", "7"), ("b", "8"), ("c", None)):
        folder(tmp_path / name, lambda k, other=other: {"PatientID": other} if other else {})
    seven, eight, nobody = (read.read_image(tmp_path / name) for name in "abc")
    assert fair.other_patients(seven, eight) and not fair.other_patients(seven, seven)
    assert not fair.other_patients(seven, nobody) and not fair.other_patients(ct, seven)


def test_a_start_that_was_not_theirs_is_said():
    ct, cbct = body(), cone(body(), np.eye(4))
    away = Volume(ct.array, ct.spacing, ct.origin + [0, 0, 3700.0], ct.direction)
    assert fair.notes(cbct, ct, (cbct, ct), None) == []
    assert "do not meet" in fair.notes(cbct, away, (cbct, away), None)[0]
    assert fair.notes(cbct, away, (cbct, away), np.eye(4)) == []


def test_an_isocentre_far_from_its_image_is_refused():
    ct, cbct = body(), cone(body(), np.eye(4))
    couch.check_points(cbct, ct, (cbct.centre + [900, 0, 0], None))
    for points, name in (
        ((cbct.centre + [0, 0, 1e9], None), "--isocentre"),
        ((None, [0, -5000, 0]), "--plan-isocentre"),
    ):
        with pytest.raises(UserError, match=f"{name} .* m outside the image"):
            couch.check_points(cbct, ct, points)


def test_exchanged_scans_are_named():
    moving = body()
    fixed = cone(moving, np.eye(4))
    assert not fair.exchanged(fixed, moving) and fair.exchanged(moving, fixed)
    good = trust.judge(GOOD)
    assert any("exchanged" in text for text in fair.doubts(moving, fixed, good, [False], 5))
    assert fair.doubts(fixed, moving, good, [False], 5) == []


def test_a_small_ct_of_the_heart_is_not_called_a_cone_beam_scan():
    """Of thirty drawn hearts four had a CT smaller than the CBCT every way, and were not trusted for it."""
    ct = body()
    cbct = cone(ct, np.eye(4))
    small, large, good = cbct, ct, trust.judge(GOOD)  # by size alone they are exchanged
    assert fair.doubts(large, small, good, [False], 5) != []
    assert fair.doubts(large, small, good, [False], 5, "heart") == []


def test_values_are_named_as_the_cause():
    fixed = cone(body(), np.eye(4))
    fixed.given = Given("a.nii", guessed="values are no HU")
    bad, good = trust.judge(GOOD | {"likeness": 0.0}), trust.judge(GOOD)
    assert "values are no HU" in fair.doubts(fixed, body(), bad, [False], 5)[-1]
    assert fair.doubts(fixed, body(), good, [False], 5) == []


def test_before_is_how_the_scans_came(agent):  # noqa: F811
    moving = body()
    far = cone(moving, np.eye(4))
    far = Volume(far.array, far.spacing, far.origin + 1000.0)
    result = register.register(far, moving, agent=agent, settings=quick())
    np.testing.assert_array_equal(result.before, np.eye(4))  # not the start on each other's middle
    assert images.overlap(far, moving, result.trajectory[0]) > 0.5
    start = rigid.translation([1000.0, 1000, 1000])
    given = register.register(far, moving, agent=agent, settings=quick(), initial=start)
    np.testing.assert_array_equal(given.before, start)


def test_a_2d_transform_as_initial_ends_the_command(pair, agent, capsys):  # noqa: F811
    sitk.WriteTransform(sitk.Euler2DTransform(), pair / "2d.tfm")
    assert call(pair, agent, "--initial", str(pair / "2d.tfm")) == 2
    said = capsys.readouterr().err.strip()
    assert "2 dimensions" in said and "\n" not in said


def test_two_series_name_the_right_option(pair, agent, capsys):  # noqa: F811
    folder(pair / "p" / "a")
    folder(pair / "p" / "b", lambda k: {"SeriesInstanceUID": "1.2.4"})
    words = ["register", str(pair / "p"), str(pair / "ct.mha"), "-o", str(pair / "o.tfm"), "--agent", str(agent)]
    assert main(words) == 2 and "--fixed-series" in capsys.readouterr().err


def test_cone_beam_is_a_word_of_its_own():
    """Not a part of mobile, Robin, Mobius: such pairs were never trusted."""

    def says(**header):
        return fair._says_cone_beam(Volume(torch.zeros(2, 2, 2), 1.0, given=Given("a", dicom=header)))

    no, yes = (
        ("Mobile chest", "Robin", "CT thorax second", ""),
        ("CBCT pelvis", "kV cone-beam", "XVI", "OBI 1.4", "kV_CBCT_2", "Patient Verification"),
    )
    assert not any(says(Modality="CT", SeriesDescription=text) for text in no)
    assert not says(Modality="CT", ManufacturerModelName="Mobius AIRO") and says(Modality="XA")
    assert all(says(Modality="CT", SeriesDescription=text) for text in yes)


def table(pair, agent, lines, name="pairs.csv"):  # noqa: F811
    (pair / name).write_text("\n".join(lines) + "\n")
    words = ["register", "--list", str(pair / name), "-o", str(pair / "r.csv"), "--agent", str(agent)]
    return main([*words, "--only", "agent", "--starts", "2"])


@pytest.mark.parametrize(
    "lines",
    [
        ["fixed,moving,output", "cbct.nii.gz,ct.mha,a.tfm", "cbct.nii.gz,ct.mha,a.tfm"],
        ["fixed,moving,output", "cbct.nii.gz,ct.mha,", "cbct.nii.gz,ct.mha,r_001.tfm"],
        ["fixed,moving,json", "cbct.nii.gz,ct.mha,a.json", "cbct.nii.gz,ct.mha,a.json"],
        ["fixed,moving,resampled", "cbct.nii.gz,ct.mha,", "cbct.nii.gz,ct.mha,ct.mha"],
    ],
)
def test_no_row_of_a_table_writes_over_another_ones_files(pair, agent, capsys, lines):  # noqa: F811
    """The second transform took the place of the first, and both rows said good."""
    before = {p: p.read_bytes() for p in pair.iterdir()}
    assert table(pair, agent, lines) == 2 and "name of its own" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in pair.iterdir() if p.name != "pairs.csv"} == before


def test_a_table_goes_on_after_what_nobody_foresaw(pair, agent, capsys, monkeypatch):  # noqa: F811
    one_pair = files.one_pair

    def work(one, *words):
        if one.report:
            raise RuntimeError("something\nin a tool")
        return one_pair(one, *words)

    monkeypatch.setattr(files, "one_pair", work)
    lines = ["fixed,moving,report", ",ct.mha,", "cbct.nii.gz,ct.mha,a.html", "cbct.nii.gz,ct.mha,"]
    assert table(pair, agent, lines) == 2
    rows = list(csv.DictReader((pair / "r.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["2", "2", "3"] and "something in a tool" in rows[1]["reasons"]
    assert "is empty in this row" in rows[0]["reasons"] and rows[1]["reasons"].startswith("unexpected RuntimeError")
    capsys.readouterr()
    write(body(), pair / "ct.mha")  # exported again: the same name, another file
    monkeypatch.setattr(files, "one_pair", one_pair)
    assert table(pair, agent, lines[:1] + lines[3:] * 2) in (2, 3) and "(kept)" not in capsys.readouterr().out
    assert table(pair, agent, lines[:1] + lines[3:] * 2) == 3 and capsys.readouterr().out.count("(kept)") == 2


@pytest.mark.parametrize("words", [["--isocentre", "nan", "0", "0"], ["--plan-isocentre", "0", "inf", "0"]])
def test_an_isocentre_is_three_numbers(pair, agent, capsys, words):  # noqa: F811
    with pytest.raises(SystemExit) as stopped:
        call(pair, agent, *words)
    assert stopped.value.code == 2 and not (pair / "o.tfm").exists()


def test_names_that_itk_would_refuse_at_the_end_are_refused_at_the_start(pair, agent, capsys):  # noqa: F811
    """And a file in a folder of slices is no place for a result."""
    assert call(pair, agent, "-o", str(pair / "o.TFM")) == 2 and "small letters" in capsys.readouterr().err
    slices = folder(pair / "scan", lambda k: {"FrameOfReferenceUID": "1.2.8.1"})
    words = ["register", str(slices), str(pair / "ct.mha"), "-o", str(slices / "003.dcm"), "--format", "dicom"]
    assert main(words) == 2 and "one of the inputs" in capsys.readouterr().err


def test_volumes_with_holes_are_refused():
    moving = body()
    with pytest.raises(UserError, match="The CT: it holds NaN"):
        register.register(
            cone(moving, np.eye(4)), moving.with_array(moving.array.log()), settings=quick(scouts="search")
        )


def test_bone_is_found_where_a_ct_shows_no_air():
    """A reconstruction of the spine alone: its darkest voxels are fat, and took the threshold to 1,080 HU."""
    hu = torch.full((12, 12, 12), 40.0)
    hu[:, :, :3], hu[4:8, 4:8, 6:9] = -120.0, 400.0
    found = images.near_bone(Volume(hu, 4.0), 4.0).array
    assert bool(found[6, 6, 7]) and not bool(found[6, 6, 1])
