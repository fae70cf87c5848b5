"""The network: five 3x3x3 convolutions and three fully connected layers, twelve action values (Network Architecture).

As in the paper: 8, 32, 32, 128, 128 filters; 2x2x2 max-pooling after the first two; 512, 512, 64 neurons; batch
normalisation and ReLU on every layer but the last, whose 12 outputs are plain numbers (values may be of any sign).
`padding="valid"` on 64^3 windows is the paper's network: 65,536 features before the first fully connected layer.

For two CPU cores there is a smaller one, a declared deviation: `stem="strided"` replaces the first two
convolution-and-pooling pairs by strided convolutions (16 and 32 filters) and `padding="mixed"` keeps the first three
layers padded, so that a 32^3 window ends in 4^3 x 128 features.

`Stage` is a trained network with all that it needs to be asked, `Windows` what it sees of a batch of cases.
"""

from __future__ import annotations

import os
from copy import copy
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from lib import mdp, rigid
from lib.base import weights
from lib.base.errors import UserError
from lib.images.normalise import Source, prepare
from lib.images.volume import Volume
from lib.images.windows import SourceBank, cut

CHANNELS = {"difference": 1, "two_channel": 2, "three_channel": 3}


def device_for(name: str = "auto") -> torch.device:
    """The GPU where there is one, else the CPU; `AGENT_DEVICE` overrides."""
    name = os.environ.get("AGENT_DEVICE", name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def half_precision(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16. auto: on GPUs that have it, and on CPUs with instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = torch.cpu  # Intel's matrix units, or AVX512-BF16 (Zen 4 and later: 1.6 times as many samples a second)
    return any(getattr(cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16"))


@dataclass(frozen=True)
class NetworkSettings:
    """What decides the shape of a network; stored beside its weights."""

    window: int = 32  # voxels along each edge of the cubic window
    observation: str = "difference"  # difference (the paper) | two_channel | three_channel
    padding: str = "mixed"  # valid (the paper, 64^3) | mixed (32^3) | same
    stem: str = "strided"  # pool (the paper) | strided
    filters: tuple[int, ...] = (16, 32, 32, 128, 128)  # the paper: 8, 32, 32, 128, 128
    outputs: int = 12  # action values; 6 for one-shot regression

    def layers(self) -> list[tuple[int, int, bool, int]]:
        """Of each convolution its padding, stride, whether pooling follows, and the edge of what it leaves in voxels;
        below 1: the window is too small."""
        found, size = [], self.window
        for depth in range(len(self.filters)):
            pad = int(self.padding == "same" or (self.padding == "mixed" and depth < 3))
            stride = 2 if self.stem == "strided" and depth < 2 else 1
            pool = self.stem == "pool" and depth < 2
            size = ((size + 2 * pad - 3) // stride + 1) // (2 if pool else 1)
            found.append((pad, stride, pool, size))
        return found

    def disagree(self) -> str:
        """Whether anything is left of a window behind the convolutions."""
        if min(size for *_, size in self.layers()) >= 1:
            return ""
        return f"window {self.window} is too small for padding {self.padding!r}; use 64 or 'mixed'."


def _convolution(inputs, outputs, stride, pad):
    layer = nn.Conv3d(inputs, outputs, 3, stride, pad, bias=False)
    return [layer, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


class ActionValueNetwork(nn.Module):
    """(n, channels, w, w, w) -> (n, outputs) action values; `mean_target`: what they are before training, one or one each
    (true ones have a mean of 5 to 5.6, which a network learns in its first steps)."""

    def __init__(self, settings: NetworkSettings, mean_target=7.0):
        super().__init__()
        self.settings = settings
        channels = CHANNELS[settings.observation]
        if settings.disagree():
            raise UserError(settings.disagree())
        layers, size = [], settings.layers()[-1][-1]
        for filters, (pad, stride, pool, _) in zip(settings.filters, settings.layers(), strict=True):
            layers += _convolution(channels, filters, stride, pad)
            layers += [nn.MaxPool3d(2)] * pool
            channels = filters
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


def save(network: ActionValueNetwork, path, metadata: dict | None = None) -> None:
    """Write weights as safetensors, a quarter of their size in memory."""
    settings = {k: " ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in asdict(network.settings).items()}
    weights.save(
        weights.packed(network.state_dict()),
        path,
        {**{f"network.{k}": v for k, v in settings.items()}, **(metadata or {})},
    )


def load(path) -> tuple[ActionValueNetwork, dict[str, str]]:
    """A network in eval mode and its metadata. Raises UserError if the file is missing, damaged or of another shape."""
    tensors, metadata = weights.load(path)
    fields = {k.removeprefix("network."): v for k, v in metadata.items() if k.startswith("network.")}
    try:
        for name in ("window", "outputs"):
            fields[name] = int(fields[name])
        fields["filters"] = tuple(int(f) for f in fields["filters"].split())
        network = ActionValueNetwork(NetworkSettings(**fields))
        network.load_state_dict(weights.unpacked(tensors))
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{path}: these weights are not one of this study's agents; give an agent trained here."
        ) from None
    return network.eval(), metadata


@dataclass
class Stage:
    """One trained network, ready to run, with the windows it was trained on."""

    model: nn.Module
    observation: str
    window: int
    voxel: float
    source: float
    device: torch.device
    half: bool
    linear: bool = True  # False: windows take the nearest voxel of their finer source; 4 times faster
    contrast: str = "local"  # as `lib.images.normalise.prepare` takes it
    scale: torch.Tensor | None = None  # (6,) of a regression network: its outputs times this are mm and degrees

    @classmethod
    def load(cls, path, device: str = "auto") -> Stage:
        """From the file that training left. Raises UserError as `load` does."""
        net, meta = load(path)
        place = device_for(device)
        half = half_precision("auto", place)
        model = fuse(net).to(place).to(memory_format=torch.channels_last_3d)
        return cls(
            model.to(torch.bfloat16) if half else model,
            net.settings.observation,
            net.settings.window,
            float(meta["voxel"]),
            float(meta["source"]),
            place,
            half,
            linear={"linear": True, "nearest": False}.get(meta.get("interpolation"), meta.get("stage") != "coarse"),
            contrast=meta.get("contrast", "local"),
            scale=torch.tensor([float(x) for x in meta["range"].split()]) if net.settings.outputs == 6 else None,
        )

    def source_of(self, volume: Volume, is_cbct: bool) -> Source:
        """A volume as this network's windows are cut from it."""
        return prepare(volume, is_cbct, self.source, self.contrast)

    def outputs(self, observation: torch.Tensor) -> torch.Tensor:
        """What the network says, (n, outputs), float32."""
        x = observation.to(self.device).to(memory_format=torch.channels_last_3d)
        return self.model(x.to(torch.bfloat16) if self.half else x).float()

    def read(self, outputs: torch.Tensor):
        """(values (n, 12), left (n, 6) or None, arrived (n,) or None) of a network's outputs.

        A regression network says which residual v is left; the value of an action is then its reward (Eq. 4). A 13th
        output is the bonus times the probability of having arrived.
        """
        if self.scale is not None:
            left = outputs * self.scale.to(outputs.device)
            return mdp.rewards(rigid.params_to_matrix(left)), left, None
        return outputs[:, :12], None, outputs[:, 12] / mdp.BONUS if outputs.shape[1] > 12 else None

    def values(self, observation: torch.Tensor) -> torch.Tensor:
        """Action values (n, 12), float32."""
        return self.read(self.outputs(observation))[0]


class Windows:
    """What a stage sees of a batch of n cases: fixed windows, cut once, and moving windows at any poses.

    centres (n, 3): of the windows, fixed world. fixed_of, moving_of (n,): which source is whose; by default each its own.
    """

    def __init__(self, stage: Stage, fixed: list[Source], moving: list[Source], centres, fixed_of=None, moving_of=None):
        each = torch.arange(len(centres))
        which = each if fixed_of is None else torch.as_tensor(fixed_of)
        self.stage, self.centres = stage, torch.as_tensor(np.asarray(centres))
        self.moving = SourceBank.of(moving, stage.device)
        self.moving_of = each if moving_of is None else torch.as_tensor(moving_of)
        self.shift = torch.eye(4, dtype=torch.float64).repeat(len(centres), 1, 1)  # window -> fixed world
        self.shift[:, :3, 3] = self.centres
        bank = SourceBank.of(fixed, stage.device)
        self.fixed, self.fixed_ok = self._cut(bank, which, bank.to_index.cpu()[which] @ self.shift)

    def _cut(self, bank: SourceBank, which: torch.Tensor, frames: torch.Tensor):
        stage = self.stage
        where = which.to(stage.device), frames.to(stage.device)
        return cut(bank, *where, stage.window, stage.voxel, stage.linear)

    def windows(self, poses: torch.Tensor):
        """poses (n, 4, 4) float64, world, moving -> fixed. Returns fixed, moved and valid (n, w, w, w)."""
        frames = self.moving.to_index.cpu()[self.moving_of] @ rigid.invert(poses) @ self.shift
        moved, ok = self._cut(self.moving, self.moving_of, frames)
        return self.fixed, moved, ok & self.fixed_ok

    def only(self, which) -> Windows:
        """The same windows for some of the cases."""
        part, which = copy(self), torch.as_tensor(which)
        part.centres, part.moving_of, part.shift = self.centres[which], self.moving_of[which], self.shift[which]
        on_device = which.to(self.fixed.device)
        part.fixed, part.fixed_ok = self.fixed[on_device], self.fixed_ok[on_device]
        return part

    def observe(self, poses: torch.Tensor) -> torch.Tensor:
        """The network's input (n, channels, w, w, w) at poses as `windows` takes them."""
        return observe(*self.windows(poses), self.stage.observation)

    def act(self, actions: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """Poses (n, 4, 4), world, after actions (n, 4, 4) in coordinates centred at the windows: `a T`."""
        return self.shift @ actions @ rigid.invert(self.shift) @ poses
