"""Appendix A, checked in numbers: is Q of the greedy action maximal?

The proposition speaks of *continuous* actions: every step a with |v' - v| = 1 in the six parameters. The greedy one
goes straight to the origin, so the value of a state depends on its distance alone, and there are two ways to count it:

* `value_in_steps`: Appendix A. Every reward on the way is 1: F(p) for p = ceil(D - 0.5) steps.
* `value_exact`: Eq. 3 and 4 to the letter. The last step is as long as the others and may overshoot the
  origin: from 0.5 < d <= 1.5 it lands at |d - 1| and earns only d - |d - 1|, which is less than 1 for d < 1.

`best_other` asks the proposition's question of random states: by how much is the best of all other unit steps
better? And one question on Eq. 5: how much of what it weighs tells the actions of a state apart (`conditioning`)?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from lib import mdp, rigid
from lib.augment import StreamSettings, draw_residuals
from lib.base.limits import ONCE, Count, Number, Rule

Discount = Annotated[float, Rule(lambda x: 0 < x < 1, "more than 0 and less than 1")]


@dataclass(frozen=True)
class TheorySettings:
    """How many random states are asked, and with which discount factors."""

    states: Count = 5000  # random states checked per question
    seed: Number = 0  # seed of the random states
    # Discount factors at which R > gamma / (1 - gamma) is probed.
    gammas: Annotated[tuple[Discount, ...], ONCE] = (0.5, 0.8, 0.9, 0.95)


def steps_to_goal(distance, tolerance: float = mdp.TOLERANCE):
    """How many unit steps straight to the origin until D <= tolerance (at least 0)."""
    return np.maximum(np.ceil(np.asarray(distance, dtype=np.float64) - tolerance - 1e-12), 0)


def value_in_steps(distance, gamma: float = mdp.GAMMA, bonus: float = mdp.BONUS):
    """Q(s, a*) as Appendix A counts it: F(p). Inside the tolerance F(0) = R / gamma, which Eq. 3 pays on entry."""
    return mdp.closed_form(steps_to_goal(distance), gamma, bonus)


def value_exact(distance, gamma: float = mdp.GAMMA, bonus: float = mdp.BONUS):
    """Q(s, a*) by following Eq. 3 and 4 along the straight path, the last step's own reward included."""
    distance = np.asarray(distance, dtype=np.float64)
    before = np.maximum(steps_to_goal(distance) - 1, 0)  # steps that earn exactly 1
    last = distance - before
    final = last - np.abs(last - 1) + bonus
    value = (1 - gamma**before) / (1 - gamma) + gamma**before * final
    return np.where(steps_to_goal(distance) == 0, bonus / gamma, value)


def value_by_walking(v: np.ndarray, gamma: float = mdp.GAMMA, bonus: float = mdp.BONUS) -> np.ndarray:
    """Q(s, a*) by really walking: states v (n, 6), unit steps to the origin, rewards summed. (n,)."""
    v, value, discount = np.array(v, dtype=np.float64), np.zeros(len(v)), np.ones(len(v))
    alive = np.linalg.norm(v, axis=1) > mdp.TOLERANCE
    while alive.any():
        here = np.linalg.norm(v[alive], axis=1)
        v[alive] -= v[alive] / here[:, None]
        there = np.linalg.norm(v[alive], axis=1)
        ended = there <= mdp.TOLERANCE
        value[alive] += discount[alive] * (here - there + bonus * ended)
        discount[alive] *= gamma
        alive[np.flatnonzero(alive)[ended]] = False
    return value


def random_states(n: int, seed: int, low: float = 0.5, high: float = 170.0) -> np.ndarray:
    """States v (n, 6): direction uniform on the sphere, distance uniform in (low, high)."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(n, 6))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * rng.uniform(low, high, (n, 1))


def random_steps(v: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(len(v), n, 6) unit steps a, |a| = 1 exactly: from 0 to 180 degrees off the straight one, denser near it, turned
    out of it in random directions. (Uniformly drawn ones all stand near 90 degrees.)"""
    rng = np.random.default_rng(seed)
    straight = -v / np.linalg.norm(v, axis=1, keepdims=True)
    aside = rng.normal(size=(len(v), n, 6))
    aside -= (aside * straight[:, None]).sum(-1, keepdims=True) * straight[:, None]
    aside /= np.linalg.norm(aside, axis=-1, keepdims=True)
    cosine = (1 - 2 * np.linspace(0, 1, n + 1)[1:] ** 1.5)[None, :, None]
    return cosine * straight[:, None] + np.sqrt(1 - cosine**2) * aside


def action_values(distance, after, value, gamma: float = mdp.GAMMA, bonus: float = mdp.BONUS):
    """Q(s, a) = D - D' + gamma V(D'), or + R on arrival (which `value` gives as R / gamma inside the tolerance)."""
    return distance - after + gamma * value(after, gamma, bonus)


def best_other(v: np.ndarray, value, n: int = 400, gamma=mdp.GAMMA, bonus=mdp.BONUS, seed: int = 1):
    """The best of `n` other unit steps from each state, against the greedy one; in parts, to save memory.

    Returns (gain, landing), both (len(v),): largest Q(s, a) minus Q(s, a*), which the proposition says is never above
    zero, and the distance at which that best other step ends."""
    gains, landings = [], []
    for part, states in enumerate(np.array_split(v, max(1, len(v) // 1000))):
        distance = np.linalg.norm(states, axis=1)
        after = np.linalg.norm(states[:, None] + random_steps(states, n, seed + 1000 * part), axis=-1)
        q = action_values(distance[:, None], after, value, gamma, bonus)
        best = q.argmax(axis=1)[:, None]
        greedy = action_values(distance, np.abs(distance - 1), value, gamma, bonus)
        gains.append(np.take_along_axis(q, best, 1)[:, 0] - greedy)
        landings.append(np.take_along_axis(after, best, 1)[:, 0])
    return np.concatenate(gains), np.concatenate(landings)


def gain(v: np.ndarray, value, n: int = 400, gamma=mdp.GAMMA, bonus=mdp.BONUS, seed: int = 1) -> np.ndarray:
    """Only the gain of `best_other`, (len(v),)."""
    return best_other(v, value, n, gamma, bonus, seed)[0]


def predicted_share(level, gamma: float, bonus: float):
    """Share of states whose greedy step ends within 1 before the next whole step p = `level` that are better off
    dawdling, Appendix A's counting: gamma (F(p + 1) - F(p)) = gamma^p (gamma - (1 - gamma) R), if positive. Zero
    exactly from R = gamma / (1 - gamma) on."""
    return np.clip(gamma ** np.asarray(level) * (gamma - (1 - gamma) * bonus), 0, 1)


def discrete_gain(residuals: torch.Tensor, gamma=mdp.GAMMA, bonus=mdp.BONUS, horizon: int = 1000) -> dict:
    """The twelve actions really used, exact Q of each. Residuals V (n, 4, 4) -> dict of (n,) arrays: `gain` = largest Q
    minus the largest Q among greedy actions (0 where greedy is best), `spread` = largest minus smallest Q, `loss_mm` =
    how much less the best-valued action reduces D than the greedy one, `distance` = D."""
    q = mdp.q_targets(residuals, gamma=gamma, bonus=bonus, horizon=horizon)
    greedy, reward = mdp.greedy_actions(residuals), mdp.rewards(residuals)
    best = q.argmax(dim=1, keepdim=True)
    top = q.masked_fill(~greedy, -torch.inf).max(dim=1).values
    out = {
        "gain": q.max(dim=1).values - top,
        "spread": q.max(dim=1).values - q.min(dim=1).values,
        "loss_mm": reward.max(dim=1).values - reward.gather(1, best)[:, 0],
        "distance": mdp.norm(residuals),
    }
    return {name: values.numpy() for name, values in out.items()}


def discrete_states(n: int, seed: int, ranges=(30, 30, 150, 30, 30, 30)) -> torch.Tensor:
    """Residuals V (n, 4, 4) with v uniform in +-`ranges` (mm, degrees)."""
    v = np.random.default_rng(seed).uniform(-1, 1, (n, 6)) * np.asarray(ranges, dtype=np.float64)
    return torch.as_tensor(rigid.params_to_matrix(v))


def follow(residuals: torch.Tensor, policy: str, steps: int = 400, horizon: int = mdp.HORIZON) -> dict:
    """Walk from each residual by `policy`: "greedy" (Eq. 2) or "q" (the largest exact Q, which is what a perfectly
    trained network does) until arrival. Returns `steps` taken and the `distance` left, (n,) arrays."""
    V, taken = residuals.clone(), np.zeros(len(residuals), dtype=int)
    alive = torch.arange(len(V))
    for _ in range(steps):
        here, following = mdp.norm(V[alive]), mdp.successors(V[alive])
        after = mdp.norm(following)
        going = (here > mdp.TOLERANCE) & (after.min(dim=1).values < here - 1e-6)
        alive, following, after = alive[going], following[going], after[going]
        if not len(alive):
            break
        q = mdp.q_targets(V[alive], horizon=horizon) if policy == "q" else -after
        V[alive] = following[torch.arange(len(alive)), q.argmax(dim=1)]
        taken[alive.numpy()] += 1
    return {"steps": taken, "distance": mdp.norm(V).numpy()}


PLANAR = (30.0, 30.0, 0.0, 0.0, 0.0, 30.0)  # Figure 4's starts: mm, mm and degrees about z; drawn evenly


def conditioning(stream: StreamSettings, n: int, seed: int) -> dict[str, dict[str, float]]:
    """What Eq. 5 weighs, over n residuals drawn as training draws them: problem -> `shared`, the variance of the mean of a
    state's action values, and `between`, the mean variance of those values about it. Eq. 5 counts both alike; only the
    second says which action to take."""
    wide, near = stream.coarse_voxel / 2, stream.fine_voxel / 2  # half a window's voxel: the nearest dense residuals
    problems = {
        "E1, coarse": (stream.spine_range, stream.dense_share, wide, mdp.ALL_ACTIONS),
        "E2, coarse": (stream.heart_range, stream.dense_share, wide, mdp.ALL_ACTIONS),
        "E1, fine": (stream.fine_range, stream.dense_share, near, mdp.ALL_ACTIONS),
        "Figure 4, 2-D": (PLANAR, 0.0, near, mdp.PLANAR_ACTIONS),
    }
    found = {}
    for name, (limits, dense, least, allowed) in problems.items():
        v = draw_residuals(n, limits, dense, torch.Generator().manual_seed(seed), least)
        q = mdp.q_targets(torch.as_tensor(rigid.params_to_matrix(v.double())), allowed=allowed)
        shared, between = q.mean(dim=1).var(correction=0), q.var(dim=1, correction=0).mean()
        found[name] = {"shared": float(shared), "between": float(between)}
    return found
