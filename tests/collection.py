"""`python -m tests.collection FOLDER`: does a collection of patients cost memory that grows with it?

Makes patients of 64 x 64 x 96 voxels (one drawn body, another pose each), then for 25, 50, 100 and 200 of them, each in a
process of its own: starts, the walk of a small untrained agent, rows, as notebook 04 does with `-r dataset NAME`. Prints
processor seconds and peak memory. Not part of `make test`: minutes. docs/scaling.md has what was seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COUNTS = (25, 50, 100, 200)
NAME = "totalsegmentator"  # any collection of data_manifests/ that serves the spine


def make(root: Path, count: int) -> None:
    """`count` patients on disk, where `python -m lib data NAME --from` would have put them."""
    import torch

    from lib import rigid
    from lib.images.volume import Volume
    from lib.patients import collected, store

    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    body = torch.where(torch.rand(96, 64, 64, generator=generator) < 0.02, 600.0, 40.0)
    body[:, :6], body[:, -6:] = -1000.0, -1000.0
    moving = Volume(body, 4.0, (-126.0, -126.0, -190.0))
    for n in range(count):
        truth = rigid.params_to_matrix(np.concatenate([rng.uniform(-20, 20, 3), rng.uniform(-5, 5, 3)]))
        fixed = moving.with_array(body + 20 * torch.randn(body.shape, generator=generator))
        fixed = Volume(fixed.array, 4.0, rigid.apply(truth, moving.origin[None])[0], truth[:3, :3])
        points = rng.normal(0, 40, (8, 3))
        id = f"{NAME}_{n:04d}_spine"
        one = store.Patient(id, "spine", NAME, fixed, moving, truth, rigid.apply(truth, points), points)
        store.save(one, collected.folder_of(NAME, root) / id)


def walk(root: Path, count: int, out: Path) -> None:
    """What notebook 04 does with the first `count` patients."""
    import torch

    from lib import agent, augment, cases, network, train
    from lib.patients import collected
    from lib.study import config, walk

    torch.set_num_threads(1)
    cfg = config.load("smoke", ("evaluation", "agent"), experiment="spine", dataset=NAME)
    cfg = dataclasses.replace(cfg, agent=agent.AgentSettings(coarse_steps=10, fine_steps=0, refine="none"))
    lesson = train.Lesson(
        augment.StreamSettings(window=24), train.TrainSettings(filters=(4, 4, 4, 4, 4)), "spine", "coarse", "dsl"
    )
    metadata = {"agent": "dsl", "stage": "coarse", "voxel": 8.0, "source": 4.0, "interpolation": "nearest"}
    network.save(network.ActionValueNetwork(lesson.shape), out / "dsl_coarse.safetensors", metadata)
    patients = collected.load(NAME, "spine", root)[:count]
    tried = [case for patient in patients for case in cases.starts(patient, 2, (5.0,) * 6, 2017, 0.25)]
    results = walk.walk(cfg, agent.Agent.load(out, "dsl"), tried)
    rows = walk.write(cfg, "dsl", tried, results, out)
    assert len({row["case"] for row in rows}) == count
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{count},{len(tried)},{time.process_time():.1f},{used.ru_maxrss / 1024:.0f}", flush=True)


def main() -> None:
    """Make, walk with each count, print a table."""
    add = argparse.ArgumentParser(prog="python -m tests.collection", description=__doc__.splitlines()[0])
    add.add_argument("folder", type=Path)
    add.add_argument("--count", type=int, help="walk with so many, in this process")
    options = add.parse_args()
    folder = options.folder.resolve()
    if options.count:
        (folder / f"out{options.count}").mkdir(exist_ok=True)
        walk(folder / "data", options.count, folder / f"out{options.count}")
        return
    make(folder / "data", max(COUNTS))
    print("patients,starts,processor_seconds,peak_mb", flush=True)
    for count in COUNTS:
        words = [sys.executable, "-m", "tests.collection", str(folder), "--count", str(count)]
        subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
