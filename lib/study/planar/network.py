"""The paper's network in two dimensions: 8, 32, 32, 128, 128 filters of 3x3, pooling after the first two, 512, 512, 64
neurons, batch normalisation and ReLU on all but the last layer, six action values."""

from __future__ import annotations

import torch
from torch import nn

from lib.base.errors import UserError
from lib.network import CHANNELS

FILTERS, NEURONS = (8, 32, 32, 128, 128), (512, 512, 64)
MEAN_VALUE = 6.5  # mean of the exact values over the range of starts; the same help for every method


class PlanarNetwork(nn.Module):
    """(n, channels, w, w) -> (n, outputs). Raises UserError on a small window.

    norm: "batch" (the paper) or "none". dueling: a state's value and the actions' advantages have a last layer each (Wang
    et al. 2016). half: all but the last layer in bfloat16, images laid out channels last; the last layer stays float32,
    since values near the truth differ by less than bfloat16 can tell.
    """

    def __init__(
        self,
        window: int,
        observation: str = "difference",
        norm: str = "batch",
        outputs: int = 6,
        dueling: bool = False,
        half: bool = False,
    ):
        super().__init__()
        channels = 1 if observation == "moved" else CHANNELS[observation]
        self.body, width = nn.Sequential(*_layers(window, channels, norm == "batch")), NEURONS[-1]
        self.half = half
        for module in self.body:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.head, self.value = _last(width, outputs), _last(width, 1) if dueling else None
        if half:
            self.to(memory_format=torch.channels_last)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        if self.half:
            observation = observation.contiguous(memory_format=torch.channels_last)
        with torch.autocast(observation.device.type, torch.bfloat16, enabled=self.half):
            features = self.body(observation)
        values = self.head(features.float())
        return values if self.value is None else duel(self.value(features.float()), values)


def duel(value: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """Q = V + A - mean A: a state's value (n, 1) and the actions' advantages (n, k) -> (n, k)."""
    return value + advantages - advantages.mean(dim=1, keepdim=True)


def _last(width: int, outputs: int) -> nn.Linear:
    """A last layer: small weights around the mean value."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, MEAN_VALUE)
    return layer


def _layers(window: int, channels: int, batch: bool) -> list[nn.Module]:
    """All layers but the last. Raises UserError where the window is too small for them."""
    size, layers = window, []
    for depth, filters in enumerate(FILTERS):
        layers += [nn.Conv2d(channels, filters, 3, bias=not batch)]
        layers += [nn.BatchNorm2d(filters)] * batch + [nn.ReLU(inplace=True)]
        size -= 2
        if depth < 2:
            layers.append(nn.MaxPool2d(2))
            size //= 2
        channels = filters
    if size < 1:
        raise UserError(f"drl.window is {window}; five convolutions and two poolings need at least 36 pixels.")
    layers.append(nn.Flatten())
    width = channels * size**2
    for neurons in NEURONS:
        layers += [nn.Linear(width, neurons, bias=not batch)]
        layers += [nn.BatchNorm1d(neurons)] * batch + [nn.ReLU(inplace=True)]
        width = neurons
    return layers
