"""One training by several processes: the learning curve of one process, files by one of them alone."""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch

from lib.base import ranks, weights
from lib.base.errors import UserError
from lib.base.folders import ROOT

# What each process runs: a training of 16 steps on one small pair, in float32; the loss of each step is kept.
TRAINING = """
import json
import sys
import torch
from lib import augment, train
from lib.base import ranks
from tests.test_agent import SETTINGS, body, cone
from lib.images import normalise
import numpy as np

torch.set_num_threads(1)
ct = body()
cbct = cone(ct)
centre = normalise.field_of_view_centre(cbct)[None]
sources = normalise.prepare(cbct, True, 5.0), normalise.prepare(ct, False, 5.0)
pair = augment.TrainingPair("a", *sources, np.eye(4), centre)
settings = train.TrainSettings(
    samples=16 * 8, batch=8, validation_samples=16, precision="fp32", filters=(4, 4, 4, 4, 4), optimiser="rmsprop",
    learning_rate=6e-5, schedule="step",
)
losses, step = [], train._Learner.step


def kept(self, n):
    losses.append(float(step(self, n)))
    return torch.tensor(losses[-1])


train._Learner.step = kept
lesson = train.Lesson(SETTINGS, settings, "spine", "coarse", "dsl")
train.train(lesson, [pair], [], sys.argv[1])
ranks.alone(json.dump, losses, open(sys.argv[1] + ".json", "w") if ranks.rank() == 0 else None)
"""


def curve(folder) -> list[dict]:
    with open(folder / "dsl_coarse_log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_two_processes_give_the_learning_curve_of_one(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    environment = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    said = []
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])):
        words = [sys.executable, *launcher, str(script), str(tmp_path / name)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, **environment)
        assert done.returncode == 0, done.stderr
        said.append([line for line in done.stdout.splitlines() if "step 16/16" in line])
    assert [len(lines) for lines in said] == [1, 1], "process 0 alone speaks"
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) == 1
    losses = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")]
    assert len(losses[0]) == 16
    # Slices' gradients not averaged: 1e-2 apart from the second step on. Normalised slice by slice: 3e-3 from the first.
    assert losses[1][:4] == pytest.approx(losses[0][:4], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3), "rounding grows from step to step"
    for column in ("loss", "val_loss", "learning_rate"):
        assert float(two[0][column]) == pytest.approx(float(one[0][column]), rel=1e-3), column
    first, second = (weights.load(tmp_path / name / "dsl_coarse.safetensors")[0] for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0.02, rtol=0.05, msg=name)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["dsl_coarse.safetensors", "dsl_coarse_log.csv"]


def test_without_the_launcher_nothing_changes():
    batch = torch.arange(6.0)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    assert ranks.join(7) == 7 and ranks.size() == 1 and ranks.rank() == 0
    assert torch.equal(ranks.part(batch), batch) and ranks.mean(batch) is batch
    assert type(ranks.shared(model)[0]) is torch.nn.BatchNorm1d
    ranks.average(model)
    ranks.wait()


def test_a_batch_that_cannot_be_shared_is_one_sentence(monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: 3)
    with pytest.raises(UserError, match="batch is 32; 3 processes"):
        ranks.join(32)


def test_shared_normalisation_of_one_is_torchs_own(monkeypatch):
    monkeypatch.setattr(ranks.distributed, "all_reduce", lambda x: None)
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(6, 4, 5, 5, 5)
    plain, ours = torch.nn.BatchNorm3d(4), ranks.SharedNorm(4)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    results = plain(a), ours(b)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)
    for result in results:
        (result * torch.linspace(0, 1, x.numel()).view_as(x)).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(plain.running_var, ours.running_var)
    torch.testing.assert_close(plain.running_mean, ours.running_mean)
