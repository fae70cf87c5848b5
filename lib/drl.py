"""DSL against DRL (Fig. 4): the paper's supervised targets and a DQN (Mnih et al. 2015) on the same 2-D problem.

Everything both methods can share they share: images, network, initial weights, batch, number of training steps,
discount, reward and bonus, rule of arrival, test cases. What only a DQN needs is in `DrlSettings`, chosen on
pairs of held-out *training* patients (docs/deviations.md).

* dsl: random poses, exact Q of all six actions as targets (Eq. 3, 5).
* dqn: epsilon-greedy exploration by many agents at once, replay memory, target network, Huber loss.
* double_dqn: the same, the online network chooses the action that the target network values (van Hasselt 2016).

The replay memory keeps *poses*, not images, and renders them again when they are drawn: the same batches as
Mnih's memory would give at 64 bytes a transition, so that no memory limit stands between DRL and its best.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lib import drl_world, mdp, rigid
from lib.drl_network import PlanarNetwork
from lib.drl_pairs import Pairs, render

METHODS = ("dsl", "dqn", "double_dqn")
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
    decay: float = 0.7  # factor on the learning rate, both methods ...
    decay_every: int = 10000  # ... every so many steps
    dqn_learning_rate: float = 5.0e-4  # DQN: RMSprop
    dqn_norm: str = "batch"  # DQN's normalisation: batch (the paper's network) | none
    memory: int = 1_000_000  # transitions in the replay memory (Mnih: 1 M)
    warmup: int = 512  # random transitions before the first training step
    explore: int = 32  # exploration steps a training step; = batch: as many images as DSL sees (Mnih: 4)
    episode: int = 60  # an exploring agent begins again after so many steps
    epsilon_end: float = 0.1  # exploration falls from 1 to this (Mnih) ...
    epsilon_share: float = 0.5  # ... over this share of the training
    target_every: int = 100  # steps between two copies into the target network
    workers: int = 1  # processes side by side, one training each
    device: str = "auto"  # auto | cpu | cuda


class Supervised:
    """DSL: random poses with exact targets, made `AHEAD` batches at a time."""

    AHEAD = 64

    def __init__(self, pairs: Pairs, settings: DrlSettings, network, generator):
        self.pairs, self.settings, self.network, self.generator = pairs, settings, network, generator
        self.optimiser = torch.optim.RMSprop(network.parameters(), lr=settings.learning_rate)
        self.stock, self.count = [], 0

    def _prepare(self):
        s, device = self.settings, self.pairs.fixed.device
        n = self.AHEAD * s.batch
        poses = drl_world.draw(n, s.ranges, self.generator, s.near_share, device=device)
        rows = torch.randint(len(self.pairs), (n,), generator=self.generator, device=device)
        targets = drl_world.exact_q(poses).float()
        self.stock = list(zip(rows.split(s.batch), poses.split(s.batch), targets.split(s.batch), strict=True))

    @property
    def images(self) -> int:
        """Different observations seen so far."""
        return self.count * self.settings.batch

    def step(self, progress: float) -> float:
        """One training step; returns the loss (Eq. 5, the mean instead of the sum)."""
        self.count += 1
        if not self.stock:
            self._prepare()
        rows, poses, targets = self.stock.pop()
        self.network.train()
        values = self.network(render(self.pairs, rows, poses, self.settings.observation))
        loss = F.mse_loss(values, targets)
        return _update(self.optimiser, self.network, loss)

    def state(self) -> dict:
        return {"stock": self.stock, "count": self.count}

    def restore(self, state: dict):
        self.stock, self.count = state["stock"], state["count"]


class Replay:
    """The replay memory, a ring of `capacity` transitions: pair, both poses, action, reward, end."""

    def __init__(self, capacity: int, device):
        self.capacity, self.size, self.head = capacity, 0, 0
        types = {"rows": torch.int32, "actions": torch.int8, "rewards": torch.float32, "ends": torch.bool}
        self.data = {name: torch.zeros(capacity, dtype=kind, device=device) for name, kind in types.items()}
        for name in ("before", "after"):
            self.data[name] = torch.zeros(capacity, 3, device=device)

    def add(self, transitions: dict[str, torch.Tensor]):
        """Keep transitions of `World.step`; poses as their three parameters."""
        n = len(transitions["rows"])
        places = (self.head + torch.arange(n, device=self.data["rows"].device)) % self.capacity
        for name, values in transitions.items():
            values = rigid.matrix_to_params_2d(values) if values.dim() == 3 else values
            self.data[name][places] = values.to(self.data[name].dtype)
        self.head, self.size = (self.head + n) % self.capacity, min(self.size + n, self.capacity)

    def sample(self, n: int, generator) -> dict[str, torch.Tensor]:
        """`n` transitions, uniformly, with replacement."""
        places = torch.randint(self.size, (n,), generator=generator, device=self.data["rows"].device)
        batch = {name: values[places] for name, values in self.data.items()}
        for name in ("before", "after"):
            batch[name] = rigid.params_to_matrix_2d(batch[name].double())
        return batch | {"rows": batch["rows"].long(), "actions": batch["actions"].long()}


class DeepQ:
    """DQN as in Mnih et al. 2015; `double` for double DQN.

    Batch normalisation: the network that learns normalises by its batch; the one that acts and the target
    network use running averages, copied with the weights, so that targets do not depend on their batch.
    """

    def __init__(self, pairs: Pairs, settings: DrlSettings, network, generator, double: bool):
        self.pairs, self.settings, self.network, self.generator = pairs, settings, network, generator
        self.double, self.count = double, 0
        self.target = copy.deepcopy(network).eval()
        self.optimiser = torch.optim.RMSprop(network.parameters(), lr=settings.dqn_learning_rate)
        device = pairs.fixed.device
        self.world = drl_world.World(
            len(pairs), settings.explore, settings.ranges, generator, settings.episode, device
        )
        self.memory = Replay(
            max(min(settings.memory, settings.warmup + settings.steps * settings.explore), settings.explore),
            device,
        )

    def _see(self, rows, poses):
        return render(self.pairs, rows, poses, self.settings.observation)

    @torch.no_grad()
    def explore(self, epsilon: float):
        """Every agent takes one step: at random with probability epsilon, else the best action known."""
        n, device = self.settings.explore, self.pairs.fixed.device
        actions = torch.randint(6, (n,), generator=self.generator, device=device)
        greedy = torch.rand(n, generator=self.generator, device=device) >= epsilon
        if greedy.any():
            seen = self._see(self.world.rows[greedy], self.world.poses[greedy])
            actions[greedy] = self.network.eval()(seen).argmax(dim=1)
        self.memory.add(self.world.step(actions))

    @torch.no_grad()
    def targets(self, batch) -> torch.Tensor:
        """r + gamma max Q(s', .) by the target network; nothing after an end."""
        seen = self._see(batch["rows"], batch["after"])
        values = self.target(seen)
        chosen = self.network.eval()(seen).argmax(dim=1) if self.double else values.argmax(dim=1)
        future = values.gather(1, chosen[:, None])[:, 0]
        return batch["rewards"] + mdp.GAMMA * future * ~batch["ends"]

    @property
    def images(self) -> int:
        """Exploration steps so far."""
        return self.settings.warmup + self.count * self.settings.explore

    def step(self, progress: float) -> float:
        """Exploration, then one training step; `progress` 0..1 sets epsilon. Returns the loss."""
        s = self.settings
        while self.memory.size < min(s.warmup, self.memory.capacity):
            self.explore(1.0)
        self.explore(1.0 - (1.0 - s.epsilon_end) * min(progress / s.epsilon_share, 1.0))
        batch = self.memory.sample(s.batch, self.generator)
        targets = self.targets(batch)
        values = self.network.train()(self._see(batch["rows"], batch["before"]))
        loss = F.smooth_l1_loss(values.gather(1, batch["actions"][:, None])[:, 0], targets)
        value = _update(self.optimiser, self.network, loss)
        self.count += 1
        if self.count % s.target_every == 0:
            self.target.load_state_dict(self.network.state_dict())
        return value

    def state(self) -> dict:
        memory = {name: values[: self.memory.size].clone() for name, values in self.memory.data.items()}
        return {
            "target": self.target.state_dict(),
            "world": self.world.state(),
            "count": self.count,
            "memory": memory,
            "head": self.memory.head,
            "size": self.memory.size,
        }

    def restore(self, state: dict):
        self.target.load_state_dict(state["target"])
        self.world.restore(state["world"])
        self.count, self.memory.head, self.memory.size = state["count"], state["head"], state["size"]
        for name, values in state["memory"].items():
            self.memory.data[name][: len(values)] = values.to(self.memory.data[name])


def _update(optimiser, network, loss) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return float(loss.detach())


def learner(method: str, pairs: Pairs, settings: DrlSettings, seed: int):
    """A learner of `method` with its network; equal seeds start from equal weights."""
    torch.manual_seed(seed)
    norm = "batch" if method == "dsl" else settings.dqn_norm
    network = PlanarNetwork(settings.window, settings.observation, norm).to(pairs.fixed.device)
    generator = torch.Generator(pairs.fixed.device).manual_seed(1000 + seed)
    if method == "dsl":
        return Supervised(pairs, settings, network, generator)
    return DeepQ(pairs, settings, network, generator, double=method == "double_dqn")


@torch.no_grad()
def walk(network, pairs: Pairs, starts: torch.Tensor, settings: DrlSettings) -> torch.Tensor:
    """Final poses (n, 3, 3) of an agent that takes the best action `settings.actions` times, pair i from start i.

    The walk is deterministic: who has returned to where it stood two steps ago goes to and fro for ever and is
    left where it stands.
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
        base = settings.learning_rate if method == "dsl" else settings.dqn_learning_rate
        job.optimiser.param_groups[0]["lr"] = base * settings.decay ** (step // settings.decay_every)
        loss += (job.step(step / settings.steps) - loss) * max(0.02, 1 / step)
        used += time.time() - tick
        if step % settings.evaluate_every == 0 or step == settings.steps:
            result = evaluate(job.network, test, starts, settings)
            rows.append(_row(name, seed, step, result, loss, job.images, used))
            _keep(checkpoint, job, settings, rows, step, loss)
            left = (time.time() - begun) / (step - first) * (settings.steps - step)
            say(
                f"{name:22s} seed {seed}  step {step:6d} of {settings.steps}  success {result['success']:4.0%}"
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
    job.optimiser.load_state_dict(state["optimiser"])
    job.generator.set_state(state["generator"].cpu())
    job.restore(state["job"])
    return state["rows"], state["step"], state["loss"]
