"""The command for scripts and lists (F19, F21): exit status, JSON, tables of pairs, fair words, nothing walks away."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

import lib
from lib import rigid
from lib.__main__ import main
from lib.base.errors import UserError
from lib.images import pair as images
from lib.images.volume import Given, Volume, read_transform, write
from lib.registration import fair, register, trust
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


def test_exchanged_scans_are_named():
    moving = body()
    fixed = cone(moving, np.eye(4))
    assert not fair.exchanged(fixed, moving) and fair.exchanged(moving, fixed)
    good = trust.judge(GOOD)
    assert any("exchanged" in text for text in fair.doubts(moving, fixed, good, [False], 5))
    assert fair.doubts(fixed, moving, good, [False], 5) == []


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
