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
    """(n, channels, w, w) -> (n, 6). `norm`: "batch" (the paper) or "none". Raises UserError on a small window."""

    def __init__(self, window: int, observation: str = "difference", norm: str = "batch", outputs: int = 6):
        super().__init__()
        batch = norm == "batch"
        channels, size, layers = CHANNELS[observation], window, []
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
        self.body, self.head = nn.Sequential(*layers), nn.Linear(width, outputs)
        for module in self.body:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, MEAN_VALUE)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(observation))
