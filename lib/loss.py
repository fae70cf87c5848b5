"""Eq. 5: the loss of twelve action values, split into what all actions share and what tells them apart."""

from __future__ import annotations

import torch


def q_loss(prediction: torch.Tensor, target: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Eq. 5, mean over samples and actions, of values (n, 12). The error splits into its mean over the actions (the state's
    value) and the rest (which action is better); only the rest decides a roll-out, so the first may be given less `weight`:
    1 is Eq. 5 as printed."""
    error = prediction - target
    common = error.mean(dim=1, keepdim=True)
    return (error - common).square().mean() + weight * common.square().mean()


def value_weight(least: float, ramp: float, step: int, steps: int) -> float:
    """The `weight` of `q_loss` at a step, counted from 0: `least`, and in the last share `ramp` of all steps rising linearly
    to 1."""
    rising = ramp * steps
    risen = min(1.0, max(0.0, (step + 1 - steps + rising) / rising)) if rising else 0.0
    return least + risen * (1.0 - least)
