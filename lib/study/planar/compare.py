"""DSL against DRL (Fig. 4): the paper's supervised targets and a DQN (Mnih et al. 2015) on the same 2-D problem.

Everything both methods can share they share: images, network, initial weights, batch, number of training steps,
discount, reward and bonus, rule of arrival, test cases. What only a DQN needs is in `DrlSettings`, chosen on pairs of
held-out *training* patients (docs/deviations.md).

* dsl: random poses, exact Q of all six actions as targets (Eq. 3, 5).
* dsl_weighted: the same with the loss of our 3-D agents, in which the error that all actions share counts less.
* dqn: epsilon-greedy exploration by many agents at once, replay memory, target network, Huber loss.
* double_dqn: the same, the online network chooses the action that the target network values (van Hasselt
  2016).
* dsl_refined: dsl for the first half of the steps, then double_dqn from its weights (the authors' future work).

The replay memory keeps *poses*, not images, and renders them again when they are drawn: the same batches as Mnih's
memory would give at 34 bytes a transition, so that no memory limit stands between DRL and its best.
"""

from __future__ import annotations

import dataclasses
import time

import torch

from lib.study.planar import world
from lib.study.planar.learn import DeepQ, Refined, Replay, Supervised, learner  # noqa: F401  (one door)
from lib.study.planar.pairs import Pairs, render
from lib.study.planar.settings import CURVES, METHODS, DrlSettings  # noqa: F401


@torch.no_grad()
def walk(network, pairs: Pairs, starts: torch.Tensor, settings: DrlSettings) -> torch.Tensor:
    """Final poses (n, 3, 3) of an agent that takes the best action `settings.actions` times, pair i from start i.

    The walk is deterministic: a pair that is back where it was two steps ago would go back and forth until the end, so it
    is left there.
    """
    network.eval()
    poses, older = starts.clone(), torch.full_like(starts, float("nan"))
    active = torch.arange(len(starts), device=starts.device)
    for _ in range(settings.actions):
        here = poses[active]
        values = network(render(pairs, active, here, settings.observation))
        after = world.act(here, values.argmax(dim=1))
        going = (after - older[active]).abs().amax(dim=(1, 2)).nan_to_num(1.0) > 1e-9
        older[active], poses[active] = here, after
        active = active[going]
        if not len(active):
            break
    return poses


def evaluate(network, pairs: Pairs, starts: torch.Tensor, settings: DrlSettings) -> dict[str, float]:
    """Share of test cases that end within `success_mm`, and the median of the mean displacement (mm)."""
    final = walk(network, pairs, starts, settings)
    error = world.displacement(final, settings.window * settings.spacing / 2)
    return {
        "success": float((error <= settings.success_mm).float().mean()),
        "median_mm": float(error.median()),
    }


def test_starts(n: int, settings: DrlSettings, device="cpu") -> torch.Tensor:
    """The starts of the test cases: the same for every method and seed."""
    return world.draw(n, settings.ranges, torch.Generator().manual_seed(20170204)).to(device)


def train(method, seed: int, pairs: Pairs, test: Pairs, settings: DrlSettings, checkpoint=None, say=print, name=""):
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
    """A point of a curve: success and median on the test cases, running loss, images seen, training seconds."""
    row = {"method": name, "seed": seed, "step": step, **result, "loss": loss}
    return row | {"images": images, "seconds": round(seconds, 2)}


def _signature(settings: DrlSettings) -> dict:
    values = dataclasses.asdict(settings)
    return {name: values[name] for name in values if name not in ("methods", "seeds", "workers", "device")}


def _keep(path, job, settings, rows, step, loss):
    if path is None:
        return
    from lib.base.provenance import atomic

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
