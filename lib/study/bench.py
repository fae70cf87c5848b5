"""`make bench`: what this machine does in a second. Ratios within one run; absolute times are noisy.

Volumes are drawn here, so that nothing needs to be fetched or trained first; untrained networks cost what trained
ones do. Prints one line a figure, with the goal beside it where the study has one.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from lib import agent, augment, mdp, network, rigid
from lib.base.errors import UserError
from lib.base.provenance import ROOT
from lib.images import normalise
from lib.images.volume import AIR, Volume, write
from lib.loss import q_loss


def seconds(work, repeats: int = 3) -> float:
    """The least of several timings, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def body(size=(140, 120, 200), spacing: float = 2.5, seed: int = 0) -> Volume:
    """A soft ellipsoid with bright rods in it: as large as a patient's CT, in HU."""
    generator = torch.Generator().manual_seed(seed)
    volume = Volume(torch.zeros(*size[::-1]), spacing, -np.array(size) * spacing / 2)
    points = volume.points()
    hu = torch.where((points / torch.tensor([160.0, 130, 400])).square().sum(-1) < 1, 40.0, AIR)
    for _ in range(12):
        centre = (torch.rand(3, generator=generator) - 0.5) * torch.tensor([200.0, 150, 400])
        hu = torch.where(((points - centre) / 18).square().sum(-1) < 1, 600.0, hu)
    return volume.with_array(hu)


def cone(ct: Volume) -> Volume:
    """The middle of it as a cylindrical field of view, 250 mm wide and 190 mm high."""
    points = ct.points()
    inside = (points[..., 0] ** 2 + points[..., 1] ** 2 < 125**2) & (points[..., 2].abs() < 95)
    return ct.with_array(torch.where(inside, ct.array, torch.tensor(AIR - 200)))


def _pair(ct, cbct, voxel) -> augment.TrainingPair:
    middle = normalise.field_of_view_centre(cbct)[None]
    sources = normalise.prepare(cbct, True, voxel), normalise.prepare(ct, False, voxel)
    return augment.TrainingPair("bench", *sources, np.eye(4), middle)


def training(window: int, shape: network.NetworkSettings, batch: int, pair, voxel: float) -> tuple[float, float]:
    """Seconds a batch of the stream alone, and of the stream with a training step."""
    settings = augment.StreamSettings(window=window, coarse_voxel=voxel)
    stream = augment.Stream([pair] * 10, settings, "spine", "coarse", shape.observation, device=network.device_for())
    device = network.device_for()
    model = network.ActionValueNetwork(shape).to(device).to(memory_format=torch.channels_last_3d).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    half = network.half_precision("auto", device)

    def draw():
        for _ in range(5):
            stream.batch(batch)

    def step():
        for _ in range(5):
            x, q, _ = stream.batch(batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = q_loss(model(x.to(memory_format=torch.channels_last_3d)).float(), q)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return seconds(draw, 2) / 5, seconds(step, 2) / 5


def roll_out(ct: Volume, cbct: Volume, settings: agent.AgentSettings) -> float:
    """Seconds of one case, 200 coarse and 100 fine steps, volumes in memory to final pose."""
    stages = []
    for voxel, source, linear in ((8.0, 4.0, False), (3.0, 2.5, True)):
        net = network.ActionValueNetwork(network.NetworkSettings(32, "two_channel")).eval()
        device = network.device_for()
        half = network.half_precision("auto", device)
        model = network.fuse(net).to(device).to(memory_format=torch.channels_last_3d)
        model = model.to(torch.bfloat16) if half else model
        stages.append(network.Stage(model, "two_channel", 32, voxel, source, device, half, linear))
    walker = agent.Agent("dsl_two_channel", *stages)
    return seconds(lambda: agent.register(cbct, ct, np.eye(4), walker, settings), 1)


PEERS = {"itk_tuned": "SimpleITK, tuned mutual information", "elastix": "elastix", "ants": "ANTs", "greedy": "greedy"}


def peers(ct: Volume, cbct: Volume) -> dict[str, float]:
    """Seconds of each of `PEERS` on the same case, one thread, one start; settings as in the study."""
    from lib.baselines import methods
    from lib.baselines.settings import BaselineSettings

    start = rigid.params_to_matrix(np.array([8.0, -6, 10, 4, -3, 5]))
    mask, settings, found = normalise.field_of_view(cbct), BaselineSettings(), {}
    for name in PEERS:
        method, rng = methods.load(name), np.random.default_rng(0)
        found[name] = seconds(lambda m=method, r=rng: m(cbct, ct, start, settings, mask=mask, rng=r), 1)
    return found


# A process inherits its parent's peak memory, which is large here: this small one in between does not pass that on.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, file=sys.stderr)
sys.exit(code)
"""


def command(ct: Volume, cbct: Volume, size=(160, 512, 512)) -> dict[str, float] | None:
    """`python -m lib register` on files, the CT of `size` (k, j, i) voxels (gzipped NIfTI): seconds from start to written
    transform (wall, cpu), of the agent and of the search, and peak memory in GB. None where no agent is released."""
    from lib.registration.register import AGENTS

    if not any((AGENTS / "spine").glob("*_coarse.safetensors")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        fine = torch.nn.functional.interpolate(ct.array[None, None], size, mode="trilinear")[0, 0]
        fine = fine + 20 * torch.randn(size, generator=torch.Generator().manual_seed(0))
        spacing = ct.spacing * np.array(ct.size) / np.array(size[::-1])
        write(Volume(fine, spacing, ct.origin), f"{folder}/ct.nii.gz")
        write(cbct, f"{folder}/cbct.nii.gz")
        words = ["register", f"{folder}/cbct.nii.gz", f"{folder}/ct.nii.gz", "-o", f"{folder}/o.tfm"]
        ours = ("MALLOC_", "OMP_NUM_THREADS")  # the Makefile's; a person's shell has none of them
        usual = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        began = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", LAUNCHER, "-m", "lib", *words], capture_output=True, text=True, cwd=ROOT, env=usual
        )
        wall = time.perf_counter() - began
    if child.returncode not in (0, 3):  # 3: written, and not to be trusted
        raise UserError(f"python -m lib register ended with {child.returncode}; run it by hand to see why.")
    took = {who: float(re.search(rf"([\d.]+) s for the {who}", child.stdout)[1]) for who in ("agent", "search")}
    cpu, memory = (float(x) for x in child.stderr.split()[-2:])
    return {"wall": wall, "cpu": cpu, "memory": memory} | took


def _line(what: str, value: str, goal: str = "") -> None:
    print(f"{what:<56} {value:>14}  {goal}", flush=True)


def arguments(add) -> None:
    """The command takes nothing."""


def run(options) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    ct = body()
    cbct = cone(ct)
    device = network.device_for()
    _line("device, threads", f"{device.type}, 1", "bf16" if network.half_precision("auto", device) else "fp32")
    _learning(_pair(ct, cbct, 4.0))
    others = _walking(ct, cbct)
    found = command(ct, cbct)
    if found:
        _registering(found, others)
    _line("peak memory", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB", "goal: 8 GB")


def _learning(pair) -> None:
    """Targets, the stream, training steps."""
    v = (torch.rand(10_000, 6) * 2 - 1) * torch.tensor([30.0, 30, 150, 30, 30, 30])
    residuals = rigid.params_to_matrix(v)
    taken = seconds(lambda: mdp.q_targets(residuals), 2)
    _line("exact Q targets of 10,000 states", f"{taken:.2f} s", "goal: 2 s on two cores")
    drawn, stepped = training(32, network.NetworkSettings(32, "two_channel"), 64, pair, 8.0)
    _line("stream alone, 32^3, two channels", f"{64 / drawn:.0f} samples/s")
    goal = "goal: 160 on two cores, two processes"
    _line("stream and training step, 32^3, one process", f"{64 / stepped:.0f} samples/s", goal)
    paper = network.NetworkSettings(64, "difference", "valid", "pool", (8, 32, 32, 128, 128))
    drawn, stepped = training(64, paper, 32, pair, 4.0)
    what = "stream and training step, the paper's network, 64^3"
    _line(what, f"{32 / stepped:.0f} samples/s", "goal: 20 on two cores")


def _walking(ct: Volume, cbct: Volume) -> dict[str, float]:
    """An agent's walks beside `PEERS`, whose seconds are returned."""
    long = roll_out(ct, cbct, agent.AgentSettings())
    _line("roll-out, 200 + 100 actions, one case", f"{long:.2f} s", "goal: 3 s")
    short = roll_out(ct, cbct, agent.AgentSettings(coarse_steps=67, fine_steps=33, adaptive=True))
    _line("roll-out, adaptive, 67 + 33 actions", f"{short:.2f} s", f"{long / short:.1f} times faster")
    others = peers(ct, cbct)
    for name, taken in others.items():
        _line(f"{PEERS[name]}, the same case", f"{taken:.2f} s", f"the agent takes {long / taken:.1f} times as long")
    return others


def _registering(found: dict[str, float], others: dict[str, float]) -> None:
    """The command, and how many times as long it and its search take as `others` do on the same case."""
    what = "register, from files of 512 x 512 x 160 to the transform"
    _line(what, f"{found['wall']:.1f} s", "goal: 6 s on two cores")
    _line("   of which processor time", f"{found['cpu']:.1f} s")
    for name in ("elastix", "greedy"):
        _line(
            f"   as many times as {PEERS[name]}",
            f"{found['cpu'] / others[name]:.1f}",
            "processor time, reading included",
        )
    _line("   of which the agent, five starts", f"{found['agent']:.1f} s", "goal: 3 s")
    times = ", ".join(f"{found['search'] / others[name]:.1f} times {PEERS[name]}" for name in ("elastix", "greedy"))
    _line("   of which the search", f"{found['search']:.1f} s", f"goal: 3 s; {times}")
    _line("   its peak memory", f"{found['memory']:.1f} GB", "goal: 1.5 GB")
