"""What everything rests on: processes that end with their parent, weights that are equal bytes for equal tensors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from lib.base import weights

ROOT = Path(__file__).resolve().parents[1]

PARENT = """
import os, time
from lib.base import pools

def work(seconds):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(seconds)

if __name__ == "__main__":
    with pools.pool(2) as pool:
        list(pool.map(work, [300, 300]))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    """Before, they stayed for half an hour and more, with 0.6 to 0.8 GB each."""
    (tmp_path / "parent.py").write_text(PARENT)
    there = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdout": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], start_new_session=True, **there)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(alive(pid) for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=60)
    until = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    metadata = {f"name {k}": f"value {k}" for k in range(20)}
    for name in ("first", "second"):
        weights.save(tensors, tmp_path / name, metadata)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    read, said = weights.load(tmp_path / "first")
    assert said == metadata and all(torch.equal(read[k], tensors[k]) for k in tensors)


def test_released_weights_are_read_as_they_were_written():
    """Files from before metadata was one entry."""
    _, said = weights.load(ROOT / "results/agents/spine/dsl_two_channel_coarse.safetensors")
    assert said["agent"] == "dsl_two_channel" and float(said["voxel"]) == 6.0 and "identity" in said
