"""The network: five 3x3x3 convolutions and three fully connected layers, twelve action values (Network Architecture).

As in the paper: 8, 32, 32, 128, 128 filters; 2x2x2 max-pooling after the first two; 512, 512, 64 neurons; batch
normalisation and ReLU on every layer but the last, whose 12 outputs are plain numbers (values may be of any sign).
`padding="valid"` on 64^3 windows is the paper's network: 65,536 features before the first fully connected layer.

For two CPU cores there is a smaller one, a declared deviation: `stem="strided"` replaces the first two
convolution-and-pooling pairs by strided convolutions (16 and 32 filters) and `padding="mixed"` keeps the first
three layers padded, so that a 32^3 window ends in 4^3 x 128 features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from lib.base import weights
from lib.base.errors import UserError

CHANNELS = {"difference": 1, "two_channel": 2, "three_channel": 3}


@dataclass(frozen=True)
class NetworkSettings:
    """What decides the shape of a network; stored beside its weights."""

    window: int = 32  # voxels along each edge of the cubic window
    observation: str = "difference"  # difference (the paper) | two_channel | three_channel
    padding: str = "mixed"  # valid (the paper, 64^3) | mixed (32^3) | same
    stem: str = "strided"  # pool (the paper) | strided
    filters: tuple[int, ...] = (16, 32, 32, 128, 128)  # the paper: 8, 32, 32, 128, 128
    outputs: int = 12  # action values; 6 for one-shot regression


def _convolution(inputs, outputs, stride, pad):
    layer = nn.Conv3d(inputs, outputs, 3, stride, pad, bias=False)
    return [layer, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


class ActionValueNetwork(nn.Module):
    """(n, channels, w, w, w) -> (n, outputs) action values; `mean_target`: their mean at the start, one or one each."""

    def __init__(self, settings: NetworkSettings, mean_target=7.0):
        super().__init__()
        self.settings = settings
        channels = CHANNELS[settings.observation]
        layers, size = [], settings.window
        for depth, filters in enumerate(settings.filters):
            pad = int(settings.padding == "same" or (settings.padding == "mixed" and depth < 3))
            stride = 2 if settings.stem == "strided" and depth < 2 else 1
            layers += _convolution(channels, filters, stride, pad)
            size = (size + 2 * pad - 3) // stride + 1
            if settings.stem == "pool" and depth < 2:
                layers.append(nn.MaxPool3d(2))
                size //= 2
            channels = filters
        if size < 1:
            raise UserError(
                f"window {settings.window} is too small for padding {settings.padding!r}; use 64 or 'mixed'."
            )
        self.features = nn.Sequential(*layers)
        dense, width = [], channels * size**3
        for neurons in (512, 512, 64):
            dense += [nn.Linear(width, neurons, bias=False), nn.BatchNorm1d(neurons), nn.ReLU(inplace=True)]
            width = neurons
        self.dense = nn.Sequential(*dense)
        self.head = nn.Linear(width, settings.outputs)
        self._initialise(mean_target)

    def _initialise(self, mean_target):
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Values near their mean from the start: otherwise the first thousand steps only find the offset.
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            self.head.bias.copy_(torch.as_tensor(mean_target))

    def forward(self, observation):
        return self.head(self.dense(self.features(observation).flatten(1)))


def observe(fixed: torch.Tensor, moved: torch.Tensor, valid: torch.Tensor, observation: str) -> torch.Tensor:
    """Windows (n, w, w, w) and where both have data -> network input (n, channels, w, w, w).

    difference: the paper's d = I_r - T o I_f. two_channel: both images. three_channel: both and their difference.
    """
    if observation == "difference":
        return (fixed - moved).mul_(valid)[:, None]
    if observation == "two_channel":
        return torch.stack([fixed, moved], dim=1).mul_(valid[:, None])
    return torch.stack([fixed, moved, fixed - moved], dim=1).mul_(valid[:, None])


def fuse(network: ActionValueNetwork) -> nn.Module:
    """The same function with batch normalisation folded into the weights: what roll-outs and saliency use."""
    network = network.eval()
    features, dense = [], []
    for layers, fused, merge in (
        (network.features, features, torch.nn.utils.fusion.fuse_conv_bn_eval),
        (network.dense, dense, torch.nn.utils.fusion.fuse_linear_bn_eval),
    ):
        pending = None
        for layer in layers:
            if isinstance(layer, nn.Conv3d | nn.Linear):
                pending = layer
            elif isinstance(layer, nn.BatchNorm3d | nn.BatchNorm1d):
                fused.append(merge(pending, layer))
            else:
                fused.append(nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*features, nn.Flatten(), *dense, network.head)


def _packed(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights for the disk: bfloat16, and 8 bits with a scale a row for the one large matrix (half of a file)."""
    if tensor.dim() == 2 and tensor.numel() > 1_000_000:
        scale = tensor.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        return {f"{name}.int8": (tensor / scale).round().to(torch.int8), f"{name}.scale": scale.float()}
    return {name: tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.dim() > 1 else tensor}


def _unpacked(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(".int8"):
            found[name.removesuffix(".int8")] = tensor.float() * tensors[name.removesuffix("int8") + "scale"]
        elif not name.endswith(".scale"):
            found[name] = tensor.float() if tensor.is_floating_point() else tensor
    return found


def save(network: ActionValueNetwork, path, metadata: dict | None = None) -> None:
    """Write weights as safetensors, a quarter of their size in memory."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensors |= _packed(name, tensor)
    settings = {k: " ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in asdict(network.settings).items()}
    weights.save(tensors, path, {**{f"network.{k}": v for k, v in settings.items()}, **(metadata or {})})


def load(path) -> tuple[ActionValueNetwork, dict[str, str]]:
    """A network in eval mode and its metadata. Raises UserError if the file is missing, damaged or of another shape."""
    tensors, metadata = weights.load(path)
    fields = {k.removeprefix("network."): v for k, v in metadata.items() if k.startswith("network.")}
    try:
        for name in ("window", "outputs"):
            fields[name] = int(fields[name])
        fields["filters"] = tuple(int(f) for f in fields["filters"].split())
        network = ActionValueNetwork(NetworkSettings(**fields))
        network.load_state_dict(_unpacked(tensors))
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{path}: these weights are not one of this study's agents; give an agent trained here."
        ) from None
    return network.eval(), metadata
