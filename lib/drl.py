"""DSL against DRL (Fig. 4): the paper's supervised targets and a DQN (Mnih et al. 2015) on the same 2-D
problem.

Everything both methods can share they share: images, network, initial weights, batch, number of training
steps, discount, reward and bonus, rule of arrival, test cases. What only a DQN needs is in `DrlSettings`,
chosen on pairs of held-out *training* patients (docs/deviations.md).

* dsl: random poses, exact Q of all six actions as targets (Eq. 3, 5).
* dsl_weighted: the same with the loss of our 3-D agents, in which the error that all actions share counts less.
* dqn: epsilon-greedy exploration by many agents at once, replay memory, target network, Huber loss.
* double_dqn: the same, the online network chooses the action that the target network values (van Hasselt
  2016).
* dsl_refined: dsl for the first half of the steps, then double_dqn from its weights (the authors' future work).

The replay memory keeps *poses*, not images, and renders them again when they are drawn: the same batches as
Mnih's memory would give at 34 bytes a transition, so that no memory limit stands between DRL and its best.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import torch

from lib import drl_world
from lib.drl_learn import DeepQ, Refined, Replay, Supervised, learner  # noqa: F401  (one door)
from lib.drl_pairs import Pairs, render

METHODS = ("dsl", "dsl_weighted", "dqn", "double_dqn", "dsl_refined")
CURVES = (*METHODS, *(f"{method}_two_channel" for method in METHODS))  # lib.drl_runs: who sees what


@dataclass(frozen=True)
class DrlSettings:
    """Notebook 06. The defaults are the smoke profile: they prove the plumbing and claim nothing."""

    methods: tuple[str, ...] = CURVES  # curves of the figure
    seeds: tuple[int, ...] = (0,)  # one training of each method a seed; the shading
    pairs: int = 48  # image pairs for training (paper: 2000)
    cases: int = 16  # unseen pairs, from test patients, one start each (paper: 100)
    window: int = 36  # pixels along an edge (paper: 128)
    spacing: float = 5.0  # mm a pixel (the paper does not say)
    observation: str = "difference"  # what curves without _two_channel see: difference (the paper)
    ranges: tuple[float, float, float] = (30.0, 30.0, 30.0)  # starts: mm, mm, degrees
    steps: int = 20  # training steps of every method
    batch: int = 32  # samples a step (paper: 32)
    evaluate_every: int = 10  # steps between two points of the curve
    actions: int = 100  # actions of an agent at test; the farthest start needs about 90
    success_mm: float = 10.0  # mean displacement over the inner window that counts as success
    near_share: float = 0.0  # DSL: share of samples within 5 mm and 5 degrees of the truth
    learning_rate: float = 1.0e-3  # DSL: RMSprop without momentum (paper: 6e-5 over far more steps)
    value_weight: float = 0.05  # dsl_weighted: `training.value_weight`
    decay: float = 0.7  # factor on the learning rate, both methods ...
    decay_every: int = 10000  # ... every so many steps
    dqn_learning_rate: float = 2.0e-3  # DQN: RMSprop
    dqn_norm: str = "batch"  # DQN's normalisation: batch (the paper's network) | none
    memory: int = 1_000_000  # transitions in the replay memory (Mnih: 1 M)
    warmup: int = 512  # random transitions before the first training step
    explore: int = 32  # exploration steps a training step; = batch: as many images as DSL sees (Mnih: 4)
    episode: int = 60  # an exploring agent begins again after so many steps
    epsilon_end: float = 0.1  # exploration falls from 1 to this (Mnih) ...
    epsilon_share: float = 0.3  # ... over this share of the training
    target_every: int = 100  # steps between two copies into the target network
    workers: int = 1  # processes side by side, one training each
    device: str = "auto"  # auto | cpu | cuda


@torch.no_grad()
def walk(network, pairs: Pairs, starts: torch.Tensor, settings: DrlSettings) -> torch.Tensor:
    """Final poses (n, 3, 3) of an agent that takes the best action `settings.actions` times, pair i from
    start i.

    The walk is deterministic: who has returned to where it stood two steps ago goes to and fro for ever and
    is left where it stands.
    """
    network.eval()
    poses, older = starts.clone(), torch.full_like(starts, float("nan"))
    active = torch.arange(len(starts), device=starts.device)
    for _ in range(settings.actions):
        here = poses[active]
        values = network(render(pairs, active, here, settings.observation))
        after = drl_world.act(here, values.argmax(dim=1))
        going = (after - older[active]).abs().amax(dim=(1, 2)).nan_to_num(1.0) > 1e-9
        older[active], poses[active] = here, after
        active = active[going]
        if not len(active):
            break
    return poses


def evaluate(network, pairs: Pairs, starts: torch.Tensor, settings: DrlSettings) -> dict[str, float]:
    """Share of test cases that end within `success_mm`, and the median of the mean displacement (mm)."""
    final = walk(network, pairs, starts, settings)
    error = drl_world.displacement(final, settings.window * settings.spacing / 2)
    return {
        "success": float((error <= settings.success_mm).float().mean()),
        "median_mm": float(error.median()),
    }


def test_starts(n: int, settings: DrlSettings, device="cpu") -> torch.Tensor:
    """The starts of the test cases: the same for every method and seed."""
    return drl_world.draw(n, settings.ranges, torch.Generator().manual_seed(20170204)).to(device)


def train(
    method, seed: int, pairs: Pairs, test: Pairs, settings: DrlSettings, checkpoint=None, say=print, name=""
):
    """Train one method with one seed; returns the rows of its curve (`_row`), under `name`.

    `checkpoint` (path): written at every point of the curve, resumed from if its settings are the same.
    """
    job, name = learner(method, pairs, settings, seed), name or method
    starts = test_starts(len(test), settings, test.fixed.device)
    rows, done, loss = _resume(checkpoint, job, settings)
    used, first, begun = (rows[-1]["seconds"] if rows else 0.0), done, time.time()
    if not rows:
        rows.append(_row(name, seed, 0, evaluate(job.network, test, starts, settings), float("nan"), 0, 0.0))
    for step in range(done + 1, settings.steps + 1):
        tick = time.time()
        job.optimiser.param_groups[0]["lr"] = job.base_rate * settings.decay ** (step // settings.decay_every)
        loss += (job.step(step / settings.steps) - loss) * max(0.02, 1 / step)
        used += time.time() - tick
        if step % settings.evaluate_every == 0 or step == settings.steps:
            result = evaluate(job.network, test, starts, settings)
            rows.append(_row(name, seed, step, result, loss, job.images, used))
            _keep(checkpoint, job, settings, rows, step, loss)
            left = (time.time() - begun) / (step - first) * (settings.steps - step)
            say(
                f"{name:22s} seed {seed}  step {step:6d} of {settings.steps}"
                f"  success {result['success']:4.0%}"
                f"  median {result['median_mm']:5.1f} mm  loss {loss:.3f}  about {left / 60:.1f} min left"
            )
    return rows


def _row(name, seed, step, result, loss, images, seconds):
    """A point of a curve: success and median on the test cases, running loss, images seen, training
    seconds."""
    row = {"method": name, "seed": seed, "step": step, **result, "loss": loss}
    return row | {"images": images, "seconds": round(seconds, 2)}


def _signature(settings: DrlSettings) -> dict:
    values = dataclasses.asdict(settings)
    return {name: values[name] for name in values if name not in ("methods", "seeds", "workers", "device")}


def _keep(path, job, settings, rows, step, loss):
    if path is None:
        return
    from lib.provenance import atomic

    state = {
        "settings": _signature(settings),
        "rows": rows,
        "step": step,
        "loss": loss,
        "job": job.state(),
        "network": job.network.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "generator": job.generator.get_state(),
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def _resume(path, job, settings):
    """Rows, step and loss of an earlier, interrupted run of the same settings; else an empty start."""
    if path is None or not path.exists():
        return [], 0, 0.0
    state = torch.load(path, map_location=job.pairs.fixed.device, weights_only=True)
    if state["settings"] != _signature(settings):
        return [], 0, 0.0
    job.network.load_state_dict(state["network"])
    job.generator.set_state(state["generator"].cpu())
    job.restore(state["job"])
    job.optimiser.load_state_dict(state["optimiser"])
    return state["rows"], state["step"], state["loss"]
