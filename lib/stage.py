"""One trained network at work: what it says of an observation, and what that means."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lib import mdp, rigid
from lib import network as networks
from lib.images.normalise import Source, prepare
from lib.images.volume import Volume
from lib.train import device_for, half_precision


@dataclass
class Stage:
    """One trained network, ready to run, with the windows it was trained on."""

    model: torch.nn.Module
    observation: str
    window: int
    voxel: float
    source: float
    device: torch.device
    half: bool
    linear: bool = (
        True  # coarse windows take the nearest voxel of their finer source, as in training: four times faster
    )
    contrast: str = "local"  # as `lib.images.normalise.prepare` takes it
    scale: torch.Tensor | None = None  # (6,) of a regression network: its outputs times this are mm and degrees

    @classmethod
    def load(cls, path, device: str = "auto") -> Stage:
        net, meta = networks.load(path)
        device = device_for(device)
        half = half_precision("auto", device)
        model = networks.fuse(net).to(device).to(memory_format=torch.channels_last_3d)
        if half:
            model = model.to(torch.bfloat16)
        s = net.settings
        return cls(
            model,
            s.observation,
            s.window,
            float(meta["voxel"]),
            float(meta["source"]),
            device,
            half,
            meta.get("stage") != "coarse",
            meta.get("contrast", "local"),
            torch.tensor([float(x) for x in meta["range"].split()]) if s.outputs == 6 else None,
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
