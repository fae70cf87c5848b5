"""The Markov decision process of the paper: reward, greedy path and exact Q targets (Eq. 2-4, Appendix A).

The state is the residual `V = T_g T^-1` (4x4, in coordinates centred at the fixed window) and v = params(V). Action `a`
turns T into `a T`, hence V into `V a^-1`. Write V = [R | t] and u = R^T t. Then

* a translation by +-e_i turns u into u -+ e_i and leaves R alone,
* a rotation leaves |u| alone: u turns with it, R becomes R a^-1,

so D^2 = |u|^2 + |angles(R)|^2 splits in two, and the greedy path of Eq. 2 is followed exactly at a few operations a
step, with true compositions and no small-angle approximation.

Where Eq. 3 ends. Unit steps leave a residual of up to half a unit on each of six axes, so D <= 0.5 is often out of
reach and the recursion would not end. Our rule: a state is *arrived* when D <= tolerance, or when no action brings it
nearer; entering it earns the bonus. See docs/deviations.md.
"""

from __future__ import annotations

import torch

from lib import rigid

GAMMA, TOLERANCE, BONUS = 0.9, 0.5, 10.0
ALL_ACTIONS = tuple(range(12))
PLANAR_ACTIONS = (0, 1, 2, 3, 10, 11)  # tx, ty and the rotation about z: the 2-D problem of Fig. 4
HORIZON = 80  # gamma^80 is 2e-4; beyond it the last reward stands for the rest


def successors(residuals: torch.Tensor, step: float = 1.0) -> torch.Tensor:
    """V a^-1 for the 12 actions: (n, 4, 4) -> (n, 12, 4, 4)."""
    actions = torch.as_tensor(rigid.actions(step), dtype=residuals.dtype, device=residuals.device)
    return residuals[:, None] @ rigid.invert(actions)


def norm(residuals: torch.Tensor) -> torch.Tensor:
    """D of residuals V: (..., 4, 4) -> (...)."""
    return rigid.matrix_to_params(residuals).square().sum(-1).sqrt()


def rewards(residuals: torch.Tensor) -> torch.Tensor:
    """Eq. 4 for each of the 12 actions: (n, 4, 4) -> (n, 12)."""
    return norm(residuals)[:, None] - norm(successors(residuals))


def greedy_actions(residuals: torch.Tensor, tie: float = 1e-6) -> torch.Tensor:
    """Eq. 2: which actions lead to the least distance, ties included. (n, 4, 4) -> bool (n, 12)."""
    distances = norm(successors(residuals))
    return distances <= distances.min(dim=1, keepdim=True).values + tie


def closed_form(steps, gamma: float = GAMMA, bonus: float = BONUS):
    """Appendix A: F(p + 1) = (1 - gamma^(p+1)) / (1 - gamma) + gamma^p R for p + 1 = `steps` unit steps."""
    return (1 - gamma**steps) / (1 - gamma) + gamma ** (steps - 1) * bonus


class _GreedyPath:
    """Follows the greedy path of many residuals at once, one action a call to `step`."""

    def __init__(self, residuals: torch.Tensor, allowed):
        self.R = residuals[:, :3, :3].clone()
        self.u = (self.R.transpose(1, 2) @ residuals[:, :3, 3:])[..., 0]
        self.axes = torch.tensor([a // 2 for a in allowed if a < 6 and a % 2 == 0], device=self.u.device)
        turns = [a for a in allowed if a >= 6]
        matrices = torch.as_tensor(rigid.actions(), dtype=self.u.dtype, device=self.u.device)
        self.turn = matrices[turns, :3, :3]  # what a rotation does to u
        self.turn_inverse = self.turn.transpose(1, 2)  # what it does to R, from the right
        self._turns = self.turn_inverse.permute(1, 0, 2).reshape(3, -1)
        self.angle2 = rigid.rotation_to_angles(self.R).square().sum(-1)
        self.next_angle2 = torch.empty_like(self.angle2)
        self.next_turn = torch.zeros_like(self.angle2, dtype=torch.long)
        self._look_ahead(slice(None))

    def _look_ahead(self, rows):
        """The best rotation from here, for the rows whose R has changed."""
        R = self.R[rows]
        products = (R.reshape(-1, 3) @ self._turns).reshape(len(R), 3, -1, 3).transpose(1, 2)  # all R a^-1 in one GEMM
        candidates = rigid.rotation_to_angles(products).square().sum(-1)
        self.next_angle2[rows], self.next_turn[rows] = candidates.min(dim=1)

    def distance(self):
        return (self.u.square().sum(-1) + self.angle2).sqrt()

    def keep(self, rows):
        for name in ("R", "u", "angle2", "next_angle2", "next_turn"):
            setattr(self, name, getattr(self, name)[rows])

    def step(self, stuck_tolerance: float = 1e-6) -> torch.Tensor:
        """Take the best action where one helps; returns where none did (bool)."""
        along = self.u[:, self.axes]
        largest, which = along.abs().max(dim=1)
        gain_shift = 2 * largest - 1  # decrease of D^2
        gain_turn = self.angle2 - self.next_angle2
        stuck = torch.maximum(gain_shift, gain_turn) <= stuck_tolerance
        turning = gain_turn > gain_shift
        shift = torch.nonzero(~turning & ~stuck)[:, 0]
        axis = self.axes[which[shift]]
        self.u[shift, axis] -= torch.sign(self.u[shift, axis])
        turn = torch.nonzero(turning & ~stuck)[:, 0]
        if len(turn):
            k = self.next_turn[turn]
            self.u[turn] = (self.turn[k] @ self.u[turn][..., None])[..., 0]
            self.R[turn] = self.R[turn] @ self.turn_inverse[k]
            self.angle2[turn] = self.next_angle2[turn]
            self._look_ahead(turn)
        return stuck


def greedy_value(residuals, gamma=GAMMA, tolerance=TOLERANCE, bonus=BONUS, allowed=ALL_ACTIONS, horizon=HORIZON):
    """Q(s, a*): the discounted reward along the greedy path from each residual (n, 4, 4) -> (n,).

    A state that is already arrived gives R / gamma: seen one step earlier it is the bonus R that Eq. 3 pays on entering it.
    """
    n, device = len(residuals), residuals.device
    value = torch.zeros(n, dtype=residuals.dtype, device=device)
    rows = torch.arange(n, device=device)
    path = _GreedyPath(residuals, allowed)
    discount, distance, reward = 1.0, path.distance(), None
    arrived = distance <= tolerance
    for _ in range(horizon):
        stuck = path.step()
        now = path.distance()
        end = arrived | stuck
        # The bonus belongs to the step that entered this state, so it is discounted one step less than the next reward.
        reward = distance - now
        value[rows] += torch.where(end, bonus * discount / gamma, discount * reward)
        if end.any():
            alive = ~end
            path.keep(alive)
            rows, now, reward = rows[alive], now[alive], reward[alive]
        if not len(rows):
            return value
        distance, arrived, discount = now, now <= tolerance, discount * gamma
    # Beyond the horizon the reward changes slowly: the geometric series of the last one is exact to about 1e-4.
    value[rows] += discount / (1 - gamma) * reward
    return value


def q_targets(residuals, gamma=GAMMA, tolerance=TOLERANCE, bonus=BONUS, allowed=ALL_ACTIONS, horizon=HORIZON):
    """Eq. 3: the exact Q(s, a) of every allowed action. Residuals V (n, 4, 4) -> (n, len(allowed))."""
    following = successors(residuals)[:, list(allowed)]
    after = norm(following)
    reward = norm(residuals)[:, None] - after
    flat = following.reshape(-1, 4, 4)
    future = greedy_value(flat, gamma, tolerance, bonus, allowed, horizon).reshape(after.shape)
    return reward + gamma * future
