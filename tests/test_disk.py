"""Files are written whole or not at all: errors, kills, and a disk that is full (a small one of its own, where tests may
mount one)."""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import rigid, train
from lib.augment import StreamSettings
from lib.base import disk, provenance, weights
from lib.base.errors import UserError
from lib.images import volume
from lib.images.volume import Volume
from tests.test_agent import pair  # noqa: F401 - a fixture
from workflow.reason import reason


def test_atomic_leaves_nothing_behind(tmp_path):
    target = tmp_path / "new" / "table.csv.gz"
    with pytest.raises(RuntimeError), provenance.atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with provenance.atomic(target) as temporary:
        assert temporary.name.endswith("table.csv.gz")
        temporary.write_text("whole")
    assert [path.name for path in target.parent.iterdir()] == ["table.csv.gz"]


def test_atomic_replaces_folders(tmp_path):
    for text in ("one", "two"):
        with provenance.atomic(tmp_path / "patient") as temporary:
            temporary.mkdir()
            (temporary / "ct").write_text(text)
    assert (tmp_path / "patient" / "ct").read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 1


def test_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "a.npz"
    says = "^The disk is full: a.npz was not written; it needs more than the"
    with pytest.raises(UserError, match=says), provenance.atomic(path) as temporary:
        temporary.write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_lacks_is_said_before_anything_is_written(tmp_path, monkeypatch):
    class Usage:
        free = 20_000_000

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError) as caught, provenance.atomic(tmp_path / "a.npz", needs=54_300_000):
        raise AssertionError("began to write")
    assert str(caught.value) == (
        "The disk is full: a.npz was not written; it needs 54.3 MB, 20.0 MB are free and 34.3 MB are missing; free some "
        "space and run again."
    )


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(IsADirectoryError), provenance.atomic(tmp_path / "a"):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path, monkeypatch, number):
    def closed(self, *words, **names):
        raise OSError(number, os.strerror(number), str(self))

    with pytest.raises(OSError), provenance.atomic(tmp_path / "a.csv"):
        raise OSError(number, os.strerror(number), "/elsewhere/b/c.csv")  # of a file that the writer reads
    monkeypatch.setattr(disk.Path, "mkdir", closed)
    with pytest.raises(UserError, match="a.csv was not written"), provenance.atomic(tmp_path / "new" / "a.csv"):
        raise AssertionError("began to write")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_kill_left_is_swept_at_the_next_write(tmp_path, kind):
    """A process is killed while it writes; the next one that writes the same name removes what it left, and no more."""
    script = f"""
import os, signal
from lib.base.provenance import atomic
with atomic({str(tmp_path / "a b.csv")!r}) as temporary:
    if {kind!r} == "folder":
        temporary.mkdir()
        temporary = temporary / "ct"
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=provenance.ROOT, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert disk.OURS.match(left.name)
    living = tmp_path / left.name.replace(f".{disk.OURS.match(left.name)[1]}-", f".{os.getpid()}-")
    living.write_text("another of this machine is writing")
    elsewhere = tmp_path / re.sub(r"^(\.\d+)-[0-9a-f]{6}", r"\1-000000", left.name)
    elsewhere.write_text("another machine is writing")
    other = tmp_path / left.name.replace("a b.csv", "xa b.csv")
    other.write_text("of another file")
    with provenance.atomic(tmp_path / "a b.csv") as temporary:
        temporary.write_text("whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "a b.csv", living, elsewhere, other}
    os.utime(elsewhere, (time.time() - 2 * disk.DAY,) * 2)
    disk.sweep(tmp_path / "a b.csv")
    assert not elsewhere.exists()


@pytest.fixture
def small(tmp_path):
    """Mounts a disk of so many bytes."""
    place = tmp_path / "small disk"
    place.mkdir()

    def mount(size: int) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def noise(n: int) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 1000, (n, n, n)).astype(np.float32)
    return Volume(torch.from_numpy(values), np.ones(3), np.zeros(3))


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.mha", "ct.nrrd"])
def test_a_volume_that_does_not_fit(small, name):
    """NIfTI is written to a full disk without a word by the library: half a scan would take the name."""
    place = small(1 << 20)
    with pytest.raises(UserError, match=f"^The disk is full: {name} was not written"):
        volume.write(noise(100), place / name)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii"])
def test_half_a_scan_does_not_take_the_name(tmp_path, name, monkeypatch):
    """Space may be free again when one looks: what was written is looked at, too."""
    import SimpleITK as sitk

    write = sitk.WriteImage

    def cut(image, path, **words):
        write(image, path, **words)
        os.truncate(path, os.path.getsize(path) // 2)

    volume.write(noise(20), tmp_path / f"sound_{name}")
    monkeypatch.setattr(sitk, "WriteImage", cut)
    with pytest.raises(UserError, match=f"{name}: could not be written"):
        volume.write(noise(20), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [f"sound_{name}"]


def test_a_transform_that_does_not_fit(small):
    place = small(1 << 20)
    (place / "fill").write_bytes(b"x" * (1 << 20))
    with pytest.raises(UserError, match="^The disk is full: pose.tfm was not written"):
        volume.write_transform(rigid.translation([1, 2, 3]), place / "pose.tfm")
    assert [path.name for path in place.iterdir()] == ["fill"]


def test_a_training_that_fills_the_disk_keeps_its_last_checkpoint(small, pair, monkeypatch):  # noqa: F811
    """The second checkpoint does not fit beside the first: one sentence; the run goes on from the first."""
    place = small(9 << 20)
    tiny = train.TrainSettings(samples=1600, batch=16, report_every=50, validation_samples=16, filters=(4, 4, 4, 4, 4))
    lesson = train.Lesson(StreamSettings(window=32), tiny, "spine", "coarse", "dsl")
    clock = iter(range(0, 10_000_000, 100))  # checkpoints at every block
    monkeypatch.setattr(train.time, "time", lambda: float(next(clock)))
    with pytest.raises(UserError, match="dsl_coarse.checkpoint was not written; it needs .* MB are missing; free some"):
        train.train(lesson, [pair], [], place, say=lambda line: None)
    assert sorted(path.name for path in place.iterdir()) == ["dsl_coarse.checkpoint", "dsl_coarse_log.csv"]
    assert weights.load(place / "dsl_coarse.checkpoint")[1]["step"] == "50"
    assert "The disk is full" not in reason(place / "dsl.log")
    (place / "fill").write_bytes(b"x" * shutil.disk_usage(place).free)
    assert reason(place / "dsl.log").startswith("The disk is full: ")


def test_a_limit_on_the_size_of_files(tmp_path):
    """`ulimit -f`, in a process of its own."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
from lib.base.provenance import atomic
with atomic({str(tmp_path / "a.csv")!r}) as temporary:
    temporary.write_text("x" * (1 << 17))
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=provenance.ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip().endswith(
        "a.csv was not written: files may not be as large here (ulimit -f); raise that and run again."
    )
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_door():
    """Nothing but `lib.base.disk` gives a file its name: no other place renames, and plain writes go to a temporary."""
    renames = re.compile(r"os\.(replace|rename)\(|shutil\.move")
    writes = re.compile(r"\.write_(?:text|bytes)\(|sitk\.Write\w+\(")
    files = [path for path in (provenance.ROOT / "lib").rglob("*.py") if path.name != "disk.py"]
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not renames.search(line), (path.name, line)
            assert not writes.search(line) or "temporary" in line or "place[" in line, (path.name, line)
