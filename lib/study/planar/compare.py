"""DSL against DRL (Fig. 4): the paper's supervised targets and a DQN (Mnih et al. 2015) on the same 2-D problem.

Everything both methods can share they share: images, network, initial weights, batch, number of training steps,
discount, reward and bonus, rule of arrival, test cases. What only a DQN needs is in `DrlSettings`, chosen on pairs of
held-out *training* patients (docs/deviations.md).

* dsl: random poses, exact Q of all six actions as targets (Eq. 3, 5).
* dsl_weighted: the same with the loss of our 3-D agents, in which the error that all actions share counts less.
* dqn: epsilon-greedy exploration by many agents at once, replay memory, target network, Huber loss.
* double_dqn: the same, the online network chooses the action that the target network values (van Hasselt
  2016).
* dqn_today: double DQN with n-step returns and a dueling network, three of what DQN has learnt since.
* dsl_refined: dsl for the first half of the steps, then double_dqn from its weights (the authors' future work).

The replay memory keeps *poses*, not images, and renders them again when they are drawn: the same batches as Mnih's
memory would give at 38 bytes a transition, so that no memory limit stands between DRL and its best.
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

    `checkpoint` (path): written every `keep_every` seconds and at every point of the curve, resumed from if its settings
    are the same; what follows is what would have followed, sample by sample.
    """
    job, name = learner(method, pairs, settings, seed), name or method
    starts = test_starts(len(test), settings, test.fixed.device)
    run = _resume(checkpoint, job, settings)
    first, begun, kept = run.step, time.time(), time.monotonic()
    if not run.rows:
        run.rows.append(_row(name, seed, run, evaluate(job.network, test, starts, settings), float("nan"), 0))
    for step in range(first + 1, settings.steps + 1):
        _one_step(job, settings, run, step)
        if step % settings.evaluate_every == 0 or step == settings.steps:
            result = evaluate(job.network, test, starts, settings)
            run.rows.append(_row(name, seed, run, result, run.loss, job.images))
            _keep(checkpoint, job, settings, run)
            kept = time.monotonic()
            left = (time.time() - begun) / (step - first) * (settings.steps - step)
            say(
                f"{name:22s} seed {seed}  step {step:6d} of {settings.steps}"
                f"  success {result['success']:4.0%}"
                f"  median {result['median_mm']:5.1f} mm  loss {run.loss:.3f}  about {left / 60:.1f} min left"
            )
        elif time.monotonic() - kept >= settings.keep_every:
            _keep(checkpoint, job, settings, run)
            kept = time.monotonic()
    return run.rows


@dataclasses.dataclass
class Run:
    """How far a training is: points of its curve, step, running loss, seconds of training by the clock and of its
    processor (evaluation left out of both)."""

    rows: list[dict] = dataclasses.field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    processor_seconds: float = 0.0


def _one_step(job, settings, run: Run, step: int) -> None:
    """One step of training, and what it took."""
    tick, busy = time.time(), time.process_time()
    job.optimiser.param_groups[0]["lr"] = job.base_rate * settings.decay ** (step // settings.decay_every)
    run.loss += (job.step(step / settings.steps) - run.loss) * max(0.02, 1 / step)
    run.step = step
    run.seconds += time.time() - tick
    run.processor_seconds += time.process_time() - busy


def _row(name, seed, run: Run, result, loss, images):
    """A point of a curve: success and median on the test cases, running loss, images seen, training seconds."""
    row = {"method": name, "seed": seed, "step": run.step, **result, "loss": loss, "images": images}
    return row | {"seconds": round(run.seconds, 2), "processor_seconds": round(run.processor_seconds, 2)}


def signature(settings: DrlSettings) -> dict:
    """The settings that decide what a training comes to."""
    values = dataclasses.asdict(settings)
    idle = ("methods", "seeds", "keep_every", "workers", "device")
    return {name: values[name] for name in values if name not in idle}


def _keep(path, job, settings, run: Run) -> None:
    if path is None:
        return
    from lib.base.provenance import atomic

    state = {
        "settings": signature(settings),
        "run": dataclasses.asdict(run),
        "job": job.state(),
        "network": job.network.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "generator": job.generator.get_state(),
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def _resume(path, job, settings) -> Run:
    """How far an earlier run of the same settings came; else an empty start."""
    if path is None or not path.exists():
        return Run()
    state = torch.load(path, map_location=job.pairs.fixed.device, weights_only=True)
    if state["settings"] != signature(settings):
        return Run()
    job.network.load_state_dict(state["network"])
    job.generator.set_state(state["generator"].cpu())
    job.restore(state["job"])
    job.optimiser.load_state_dict(state["optimiser"])
    return Run(**state["run"])
