"""DRL as of today on a chain whose values are known: n-step returns, a dueling network; the control, half precision."""

import dataclasses

import torch

from lib import mdp
from lib.study.planar import learn, runs
from lib.study.planar import pairs as planar_pairs
from lib.study.planar import world as drl_world
from lib.study.planar.network import PlanarNetwork, duel
from tests.planar import SMALL

GAMMA, CHAIN = mdp.GAMMA, 4  # places of the chain beside its end


class Chain:
    """Places 1 to `CHAIN` on a line, its end at 0. Even actions lead nearer, odd ones away; 1 a step, the bonus at the
    end. A pose is a shift by the place."""

    def __init__(self, agents: int, generator, episode: int = 20):
        self.rows, self.generator, self.episode = torch.zeros(agents, dtype=torch.long), generator, episode
        self.poses = torch.eye(3, dtype=torch.float64).repeat(agents, 1, 1)
        self.ages = torch.zeros(agents, dtype=torch.long)
        self._begin(torch.ones(agents, dtype=torch.bool))

    def _begin(self, which):
        self.poses[which, 0, 2] = torch.randint(1, CHAIN + 1, (int(which.sum()),), generator=self.generator).double()
        self.ages[which] = 0

    def step(self, actions):
        before, after = self.poses.clone(), self.poses.clone()
        after[:, 0, 2] = (before[:, 0, 2] + torch.where(actions % 2 == 0, -1, 1)).clamp(max=CHAIN)
        ends = after[:, 0, 2] == 0
        rewards = before[:, 0, 2] - after[:, 0, 2] + mdp.BONUS * ends
        self.poses, self.ages = after.clone(), self.ages + 1
        again = ends | (self.ages >= self.episode)
        self._begin(again)
        moved = {"rows": self.rows, "before": before, "actions": actions, "rewards": rewards}
        return moved | {"after": after, "ends": ends, "again": again}


def known() -> torch.Tensor:
    """The chain's exact values, (CHAIN, 2): nearer, away."""
    value = [0.0] + [sum(GAMMA**k for k in range(x)) + mdp.BONUS * GAMMA ** (x - 1) for x in range(1, CHAIN + 1)]
    away = [-1 + GAMMA * value[x + 1] for x in range(1, CHAIN)] + [GAMMA * value[CHAIN]]
    return torch.tensor([value[1:], away]).T


class Tabular(torch.nn.Module):
    """A value and six advantages a place, put together as a dueling network does."""

    def __init__(self):
        super().__init__()
        self.value, self.advantage = torch.nn.Linear(CHAIN + 1, 1), torch.nn.Linear(CHAIN + 1, 6)

    def forward(self, seen):
        return duel(self.value(seen), self.advantage(seen))


def chain_values(pairs, n_steps: int, epsilon_end: float) -> torch.Tensor:
    """What double DQN with a dueling network makes of the chain, (CHAIN, 6)."""
    torch.manual_seed(0)
    settings = dataclasses.replace(SMALL, batch=64, explore=32, warmup=256, memory=1024, steps=900, target_every=10)
    settings = dataclasses.replace(settings, epsilon_end=epsilon_end, dqn_learning_rate=0.05)
    generator = torch.Generator().manual_seed(0)
    job = learn.DeepQ(pairs, settings, Tabular(), generator, double=True, n_steps=n_steps)
    job.world = Chain(settings.explore, generator)
    job._see = lambda rows, poses: torch.nn.functional.one_hot(poses[:, 0, 2].round().long(), CHAIN + 1).float()
    for step in range(settings.steps):
        job.optimiser.param_groups[0]["lr"] = 0.05 if step < 600 else 0.002
        job.step(step / settings.steps)
    with torch.no_grad():
        return job.network(torch.eye(CHAIN + 1)[1:])


def test_one_step_targets_find_the_chains_values_for_every_action(pairs):
    found = chain_values(pairs, 1, epsilon_end=1.0)  # whatever the policy that explores
    assert torch.allclose(found[:, :2], known(), atol=0.2) and torch.allclose(found[:, 4:], known(), atol=0.2)


def test_three_step_targets_find_the_values_of_the_best_actions(pairs):
    found = chain_values(pairs, 3, epsilon_end=0.0)
    assert (found.argmax(dim=1) % 2 == 0).all(), "nearer, everywhere"
    assert torch.allclose(found.max(dim=1).values, known()[:, 0], atol=0.2)


def test_rewards_of_three_steps_are_discounted_up_to_where_an_agent_began_again():
    def moved(rewards, ends, again, place):
        pose = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
        pose[:, 0, 2] = place
        ends, again = torch.tensor(ends), torch.tensor(again)
        first = {"rows": torch.arange(3), "actions": torch.arange(3), "before": pose, "after": pose + 1}
        return first | {"rewards": torch.tensor(rewards).double(), "ends": ends, "again": again}

    no = [False] * 3
    recent = [
        moved([1.0, 1.0, 1.0], no, [False, False, True], 10.0),  # the third grew too old
        moved([-1.0, 11.0, 5.0], [False, True, False], [False, True, False], 20.0),  # the second arrived
        moved([1.0, 7.0, 7.0], no, no, 30.0),
    ]
    made = learn.n_step(recent, 0.5)
    assert made["rewards"].tolist() == [1 - 0.5 + 0.25, 1 + 5.5, 1.0]
    assert made["discounts"].tolist() == [0.125, 0.25, 0.5]
    assert made["ends"].tolist() == [False, True, False]
    assert made["before"][:, 0, 2].tolist() == [10.0] * 3 and made["after"][:, 0, 2].tolist() == [31.0, 21.0, 11.0]
    single = learn.n_step(recent[:1], 0.5)
    assert torch.equal(single["rewards"], recent[0]["rewards"]) and single["discounts"].tolist() == [0.5] * 3


def test_a_dueling_networks_advantages_only_tell_actions_apart():
    value, advantages = torch.tensor([[2.0]]), torch.tensor([[1.0, 2.0, 6.0]])
    assert duel(value, advantages).tolist() == [[0.0, 1.0, 5.0]]
    assert torch.equal(duel(value, advantages + 7), duel(value, advantages))


def test_the_control_sees_nothing_of_the_fixed_image(pairs):
    rows, poses = torch.arange(6), drl_world.draw(6, (30.0,) * 3, torch.Generator().manual_seed(0))
    seen = planar_pairs.render(pairs, rows, poses, "moved")
    other = planar_pairs.Pairs(torch.full_like(pairs.fixed, -128), pairs.moving, pairs.patient, pairs.spacing)
    assert seen.shape == (6, 1, 36, 36) and torch.equal(seen, planar_pairs.render(other, rows, poses, "moved"))
    assert seen.abs().mean() > 0.01
    assert PlanarNetwork(36, "moved").eval()(seen).shape == (6, 6)
    assert runs.curve_settings("dsl_moved_alone", SMALL)[1].observation == "moved"


def test_half_precision_changes_little_and_values_stay_float32(pairs):
    rows, poses = torch.arange(6), drl_world.draw(6, (30.0,) * 3, torch.Generator().manual_seed(0))
    seen, found = planar_pairs.render(pairs, rows, poses), []
    for half in (False, True):
        torch.manual_seed(3)
        network = PlanarNetwork(36, half=half, dueling=True).train()
        found.append(network(seen).detach())
    assert found[1].dtype == torch.float32 and not torch.equal(*found)
    assert (found[0] - found[1]).abs().max() < 0.05
    assert network.body[0].weight.is_contiguous(memory_format=torch.channels_last)
