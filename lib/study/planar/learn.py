"""The two ways to learn that Figure 4 compares, `Supervised` (DSL) and `DeepQ` (DQN, double DQN, and DQN as of today with
n-step returns and a dueling network), and `Refined`, the authors' future work: the first, then the second from its weights.

All have `network`, `optimiser`, `base_rate` (its learning rate before decay), `step(progress) -> loss`, `images`
(observations seen so far) and `state`/`restore` for a checkpoint.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
import torch.nn.functional as F

from lib import mdp, rigid
from lib.loss import q_loss
from lib.network import half_precision
from lib.study.planar import world
from lib.study.planar.network import PlanarNetwork
from lib.study.planar.pairs import Pairs, render
from lib.study.planar.settings import DrlSettings


class Supervised:
    """DSL: random poses with exact targets, made `AHEAD` batches at a time. value_weight: see `q_loss`."""

    AHEAD = 64

    def __init__(self, pairs: Pairs, settings: DrlSettings, network, generator, value_weight: float = 1.0):
        self.pairs, self.settings, self.network, self.generator = pairs, settings, network, generator
        self.base_rate, self.value_weight = settings.learning_rate, value_weight
        self.optimiser = torch.optim.RMSprop(network.parameters(), lr=self.base_rate)
        self.stock, self.count = [], 0

    def _prepare(self):
        s, device = self.settings, self.pairs.fixed.device
        n = self.AHEAD * s.batch
        poses = world.draw(n, s.ranges, self.generator, s.near_share, device=device)
        rows = torch.randint(len(self.pairs), (n,), generator=self.generator, device=device)
        targets = world.exact_q(poses).float()
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
        loss = q_loss(values, targets, self.value_weight)
        return _update(self.optimiser, self.network, loss)

    def state(self) -> dict:
        return {"stock": self.stock, "count": self.count}

    def restore(self, state: dict):
        self.stock, self.count = state["stock"], state["count"]


class Replay:
    """The replay memory, a ring of `capacity` transitions: pair, both poses, action, reward, end, and how much what
    comes after counts."""

    def __init__(self, capacity: int, device):
        self.capacity, self.size, self.head = capacity, 0, 0
        types = {"rows": torch.int32, "actions": torch.int8, "rewards": torch.float32, "ends": torch.bool}
        types["discounts"] = torch.float32
        self.data = {name: torch.zeros(capacity, dtype=kind, device=device) for name, kind in types.items()}
        for name in ("before", "after"):
            self.data[name] = torch.zeros(capacity, 3, device=device)

    def add(self, transitions: dict[str, torch.Tensor]):
        """Keep transitions of `n_step`; poses as their three parameters."""
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


def n_step(recent: list[dict[str, torch.Tensor]], gamma: float = mdp.GAMMA) -> dict[str, torch.Tensor]:
    """Transitions from the first of `recent` steps of the same agents (`World.step`) to the last, or to where an agent
    began again: rewards are the discounted sum, `discounts` what the value of `after` is to be multiplied by.

    One step: the transition of DQN itself."""
    first = recent[0]
    after, ends, going = first["after"], torch.zeros_like(first["ends"]), torch.ones_like(first["ends"])
    rewards, discounts = torch.zeros_like(first["rewards"]), torch.ones_like(first["rewards"])
    for moved in recent:
        rewards = rewards + torch.where(going, discounts * moved["rewards"], 0.0)
        discounts = torch.where(going, discounts * gamma, discounts)
        after = torch.where(going[:, None, None], moved["after"], after)
        ends = ends | (going & moved["ends"])
        going = going & ~moved["again"]
    kept = {name: first[name] for name in ("rows", "before", "actions")}
    return kept | {"rewards": rewards, "after": after, "ends": ends, "discounts": discounts}


class DeepQ:
    """DQN as in Mnih et al. 2015; `double` for double DQN (van Hasselt et al. 2016), `n_steps` rewards a transition.

    Batch normalisation: the network that learns normalises by its batch; the one that acts and the target network use
    running averages, copied with the weights, so that targets do not depend on their batch.
    """

    def __init__(
        self,
        pairs: Pairs,
        settings: DrlSettings,
        network,
        generator,
        double: bool,
        first_epsilon: float = 1.0,
        n_steps: int = 1,
    ):
        self.pairs, self.settings, self.network, self.generator = pairs, settings, network, generator
        self.double, self.count, self.first_epsilon = double, 0, first_epsilon
        self.n_steps, self.recent = n_steps, []
        self.target = copy.deepcopy(network).eval()
        self.base_rate = settings.dqn_learning_rate
        self.optimiser = torch.optim.RMSprop(network.parameters(), lr=self.base_rate)
        device = pairs.fixed.device
        self.world = world.World(len(pairs), settings.explore, settings.ranges, generator, settings.episode, device)
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
        self.recent = [*self.recent, self.world.step(actions)][-self.n_steps :]
        if len(self.recent) == self.n_steps:
            self.memory.add(n_step(self.recent))

    @torch.no_grad()
    def targets(self, batch) -> torch.Tensor:
        """r + gamma max Q(s', .) by the target network, of n steps gamma^n; nothing after an end."""
        seen = self._see(batch["rows"], batch["after"])
        values = self.target(seen)
        chosen = self.network.eval()(seen).argmax(dim=1) if self.double else values.argmax(dim=1)
        future = values.gather(1, chosen[:, None])[:, 0]
        return batch["rewards"] + batch["discounts"] * future * ~batch["ends"]

    @property
    def images(self) -> int:
        """Exploration steps so far."""
        return self.settings.warmup + self.count * self.settings.explore

    def step(self, progress: float) -> float:
        """Exploration, then one training step; `progress` 0..1 sets epsilon. Returns the loss."""
        s = self.settings
        while self.memory.size < min(s.warmup, self.memory.capacity):
            self.explore(self.first_epsilon)
        fall = (self.first_epsilon - s.epsilon_end) * min(progress / s.epsilon_share, 1.0)
        self.explore(self.first_epsilon - fall)
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
            "recent": self.recent,
            "head": self.memory.head,
            "size": self.memory.size,
        }

    def restore(self, state: dict):
        self.target.load_state_dict(state["target"])
        self.world.restore(state["world"])
        self.count, self.recent = state["count"], state["recent"]
        self.memory.head, self.memory.size = state["head"], state["size"]
        for name, values in state["memory"].items():
            self.memory.data[name][: len(values)] = values.to(self.memory.data[name])


class Refined:
    """DSL for the first half of the steps, then double DQN from its weights: DRL refines the learned policy.

    The second half explores with `epsilon_end` only, since its policy is learned already, with the learning rate of
    DSL; its memory is filled by that policy. The same number of steps in all as any other method.
    """

    SHARE = 0.5

    def __init__(self, pairs: Pairs, settings: DrlSettings, network, generator):
        self.network, self.second = network, False
        self.teacher = Supervised(pairs, settings, network, generator)
        half = dataclasses.replace(settings, dqn_learning_rate=settings.learning_rate)
        self.student = DeepQ(pairs, half, network, generator, True, first_epsilon=settings.epsilon_end)

    @property
    def job(self):
        """Who is at work."""
        return self.student if self.second else self.teacher

    @property
    def optimiser(self):
        return self.job.optimiser

    @property
    def base_rate(self) -> float:
        return self.job.base_rate

    @property
    def pairs(self) -> Pairs:
        return self.teacher.pairs

    @property
    def generator(self):
        return self.teacher.generator

    @property
    def images(self) -> int:
        return self.teacher.images + (self.student.images if self.second else 0)

    def step(self, progress: float) -> float:
        """One step of the half that `progress` (0..1) is in."""
        if progress > self.SHARE and not self.second:
            self.second = True
            self.student.target.load_state_dict(self.network.state_dict())
        return self.job.step(progress)

    def state(self) -> dict:
        return {"second": self.second, "teacher": self.teacher.state(), "student": self.student.state()}

    def restore(self, state: dict):
        self.second = state["second"]
        self.teacher.restore(state["teacher"])
        self.student.restore(state["student"])


def _update(optimiser, network, loss) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return float(loss.detach())


def learner(method: str, pairs: Pairs, settings: DrlSettings, seed: int):
    """A learner of `method` with its network; equal seeds start from equal weights."""
    torch.manual_seed(seed)
    norm = "batch" if method.startswith("dsl") else settings.dqn_norm
    place, today = pairs.fixed.device, method == "dqn_today"
    half = half_precision(settings.precision, place)
    network = PlanarNetwork(settings.window, settings.observation, norm, dueling=today, half=half).to(place)
    generator = torch.Generator(place).manual_seed(1000 + seed)
    if method == "dsl":
        return Supervised(pairs, settings, network, generator)
    if method == "dsl_weighted":
        return Supervised(pairs, settings, network, generator, settings.value_weight)
    if method == "dsl_refined":
        return Refined(pairs, settings, network, generator)
    steps = settings.n_steps if today else 1
    return DeepQ(pairs, settings, network, generator, double=today or method == "double_dqn", n_steps=steps)
