"""The 2-D problem of Fig. 4, second half: a world of many agents at once, its reward (Eq. 4) and exact Q (Eq. 3).

Poses are (n, 3, 3) float64, moving -> fixed plane points; the truth is the identity, the residual V = T^-1.
The six actions are +-1 mm in x, +-1 mm in y, +-1 degree. Arrival is the study's one rule (`lib.mdp`): D <=
0.5, or no action leads nearer. It ends an episode of the reinforcement learner and pays the same bonus.
"""

from __future__ import annotations

import torch

from lib import mdp, rigid

ACTIONS = rigid.actions_2d()


def embed(residuals: torch.Tensor) -> torch.Tensor:
    """(n, 3, 3) planar residuals as (n, 4, 4) rotations about z, so that `lib.mdp` serves both problems."""
    matrix = torch.eye(4, dtype=residuals.dtype, device=residuals.device).repeat(len(residuals), 1, 1)
    matrix[:, :2, :2], matrix[:, :2, 3] = residuals[:, :2, :2], residuals[:, :2, 2]
    return matrix


def exact_q(poses: torch.Tensor, gamma=mdp.GAMMA, bonus=mdp.BONUS) -> torch.Tensor:
    """Eq. 3 in two dimensions: poses (n, 3, 3) -> (n, 6)."""
    residuals = embed(torch.linalg.inv(poses))
    return mdp.q_targets(residuals, gamma=gamma, bonus=bonus, allowed=mdp.PLANAR_ACTIONS)


def parameters(poses: torch.Tensor) -> torch.Tensor:
    """v = params(T_g T^-1), (n, 3): mm, mm, degrees."""
    return rigid.matrix_to_params_2d(torch.linalg.inv(poses))


def distance(poses: torch.Tensor) -> torch.Tensor:
    """D(T_g, T), (..., 3, 3) -> (...)."""
    return parameters(poses).square().sum(-1).sqrt()


def act(poses: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """a T: poses (n, 3, 3), action numbers (n,) -> poses after one action each."""
    return torch.as_tensor(ACTIONS, dtype=poses.dtype, device=poses.device)[actions] @ poses


def arrived(poses: torch.Tensor) -> torch.Tensor:
    """bool (n,): within tolerance, or no action leads nearer."""
    every = torch.as_tensor(ACTIONS, dtype=poses.dtype, device=poses.device)
    now, best = distance(poses), distance(every @ poses[:, None]).min(dim=1).values
    return (now <= mdp.TOLERANCE) | (best >= now - 1e-6)


def draw(n: int, ranges, generator: torch.Generator, near_share: float = 0.0, near: float = 5.0, device="cpu"):
    """Random poses (n, 3, 3): v uniform in +-`ranges`; a share of them within +-`near` of the truth instead."""
    spread = torch.as_tensor(ranges, dtype=torch.float64, device=device).repeat(n, 1)
    close = torch.rand(n, generator=generator, device=device) < near_share
    spread[close] = spread[close].clamp(max=near)
    v = (2 * torch.rand(n, 3, generator=generator, device=device, dtype=torch.float64) - 1) * spread
    return torch.linalg.inv(rigid.params_to_matrix_2d(v))


def displacement(poses: torch.Tensor, half_edge_mm: float) -> torch.Tensor:
    """Mean displacement (mm) of the pose from the truth over the window's inner square, (n, 3, 3) -> (n,).

    The inner square has half the window's edge: as the landmarks of the TRE it lies where the anatomy is.
    """
    axis = torch.linspace(-half_edge_mm / 2, half_edge_mm / 2, 9, dtype=poses.dtype, device=poses.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=-1)
    moved = points @ poses[:, :2, :2].transpose(1, 2) + poses[:, None, :2, 2]
    return (moved - points).norm(dim=-1).mean(dim=1)


class World:
    """`agents` registrations at once, each on a random pair from a random start, begun again when it ends."""

    def __init__(self, n_pairs: int, agents: int, ranges, generator, episode: int, device="cpu", bonus=mdp.BONUS):
        self.n_pairs, self.ranges, self.generator = n_pairs, tuple(ranges), generator
        self.episode, self.device, self.bonus = episode, device, bonus
        self.rows = torch.zeros(agents, dtype=torch.long, device=device)
        self.poses = torch.eye(3, dtype=torch.float64, device=device).repeat(agents, 1, 1)
        self.ages = torch.zeros(agents, dtype=torch.long, device=device)
        self._begin(torch.ones(agents, dtype=torch.bool, device=device))

    def _begin(self, which: torch.Tensor):
        n = int(which.sum())
        self.rows[which] = torch.randint(self.n_pairs, (n,), generator=self.generator, device=self.device)
        self.poses[which] = draw(n, self.ranges, self.generator, device=self.device)
        self.ages[which] = 0

    def step(self, actions: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one action each (n,) and return the transitions: rows, before, actions, rewards, after, ends, again.

        `ends` is arrival. An agent that leaves the paper's range, or grows too old, begins again too (`again`), but its
        transition does not end there: its value goes on.
        """
        before = self.poses.clone()
        after = act(before, actions)
        ends = arrived(after)
        rewards = distance(before) - distance(after) + self.bonus * ends
        self.poses, self.ages = after.clone(), self.ages + 1
        limit = torch.as_tensor(self.ranges, dtype=after.dtype, device=after.device) + 1.0
        outside = (parameters(after).abs() > limit).any(dim=1)
        again = ends | outside | (self.ages >= self.episode)
        moved = {
            "rows": self.rows.clone(),
            "before": before,
            "actions": actions,
            "rewards": rewards,
            "after": after,
            "ends": ends,
            "again": again,
        }
        self._begin(again)
        return moved

    def state(self) -> dict:
        """What a checkpoint needs."""
        return {"rows": self.rows, "poses": self.poses, "ages": self.ages}

    def restore(self, state: dict) -> None:
        """Undo `state`."""
        self.rows, self.poses, self.ages = (state[name].to(self.device) for name in ("rows", "poses", "ages"))
