"""Other looks of the same anatomy: cheap changes of a cone-beam window, as another scanner might have made it.

Ours, not the paper's. The training patients know one scanner; what differs between scanners besides is imitated here, on
windows of local contrast (-1 to 1, bone bright): gains of bone and of soft tissue that are not one and curves between, a
bias that varies slowly (cupping of either sign among it), blur with a direction, noise with grain, rings, streaks, and
fields of view of other shapes, which need not have the spine in the middle. Each is there in half of the changed windows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

HALF = 0.5  # share of changed windows that have each change
BONE, SOFT = (0.5, 1.3), (0.5, 1.2)  # gains of what is bright and of what is dark
BEND = 0.4  # of the curve, log of its exponent
BIAS = 0.3  # of each term of the bias at the window's border
BLUR = 3.0  # mm, most along each axis
GRAIN, RINGS, STREAKS = 0.15, 0.08, 0.5  # most of their amplitudes
LEAST = 0.5  # share of the window's width that the smallest field of view has


class Looks:
    """Draws a look for each window of a batch; `share` of the windows get one. voxel: mm of the windows."""

    def __init__(self, share: float, voxel: float, generator: torch.Generator):
        self.share, self.voxel, self.generator = share, voxel, generator

    def __call__(self, images: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed windows (n, w, w, w) and where they hold data (bool): the same windows, some of them changed."""
        rows = self._some(len(images), self.share, images.device)
        some, seen, place = images[rows], valid[rows], _places(images.shape[-1]).to(images.device)
        for change in (self._curve, self._blur, self._bias, self._grain, self._rings, self._streaks):
            these = self._some(len(some), HALF, images.device)
            if len(these):
                some[these] = change(some[these], place)
        these = self._some(len(some), HALF, images.device)
        seen[these] &= self._view(len(these), place)
        return images.index_copy(0, rows, some.clamp(-1.5, 1.5)), valid.index_copy(0, rows, seen)

    def _some(self, n: int, share: float, device) -> torch.Tensor:
        """Numbers below n, each with that probability."""
        return torch.nonzero(self._uniform(n) < share)[:, 0].to(device)

    def _uniform(self, *shape, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def _curve(self, images, place):
        """Bone and soft tissue each with its own gain and exponent: monotone, and 0 stays 0."""
        n = len(images)
        bone, soft = (_wide(self._uniform(n, low=a, high=b), images) for a, b in (BONE, SOFT))
        bend = [_wide(self._uniform(n, low=-BEND, high=BEND).exp(), images) for _ in range(2)]
        bright, dark = images.clamp(min=0), (-images).clamp(min=0)
        return bone * bright ** bend[0] - soft * dark ** bend[1]

    def _blur(self, images, place):
        """A Gaussian of up to `BLUR` mm along each axis of its own."""
        for axis in (1, 2, 3):
            sigma = self._uniform(len(images), high=BLUR / self.voxel).clamp(min=1e-3)
            weights = torch.exp(-0.5 * (torch.arange(3) / sigma[:, None]) ** 2)
            weights = weights / (weights[:, :1] + 2 * weights[:, 1:].sum(dim=1, keepdim=True))
            blurred = _wide(weights[:, 0], images) * images
            for step in (1, 2):
                near = _shifted(images, axis, step) + _shifted(images, axis, -step)
                blurred = blurred + _wide(weights[:, step], images) * near
            images = blurred
        return images

    def _bias(self, images, place):
        """A polynomial of second degree in the window's coordinates."""
        terms = torch.cat([place, place.square() - 1 / 3])  # (6, w, w, w)
        factors = self._uniform(len(images), 6, low=-BIAS, high=BIAS).to(images.device)
        return images + torch.einsum("nk,kzyx->nzyx", factors, terms)

    def _grain(self, images, place):
        """Noise as coarse as one to four voxels."""
        n, w = len(images), images.shape[-1]
        size = max(2, w // int(torch.randint(1, 5, (1,), generator=self.generator)))
        noise = torch.randn(n, 1, size, size, size, generator=self.generator).to(images.device)
        noise = F.interpolate(noise, size=(w, w, w), mode="trilinear", align_corners=True)[:, 0]
        return images + _wide(self._uniform(n, high=GRAIN), images) * noise

    def _rings(self, images, place):
        """Circles about an axis along the body, their strength coming and going across the radius."""
        x, y, often, slow, turn, most = (
            _wide(self._uniform(len(images), low=low, high=high), images)
            for low, high in ((-1, 1), (-1, 1), (6, 25), (1, 4), (0, 2 * math.pi), (0, RINGS))
        )
        radius = torch.hypot(place[0] - x, place[1] - y)
        return images + most * torch.cos(often * radius + turn) * torch.cos(slow * radius + turn)

    def _streaks(self, images, place):
        """Rays from a point across the body, as from metal or too few views."""
        x, y, z, turn, most = (
            _wide(self._uniform(len(images), low=low, high=high), images)
            for low, high in ((-1, 1), (-1, 1), (-1, 1), (0, 2 * math.pi), (0, STREAKS))
        )
        count = torch.randint(2, 9, (len(images),), generator=self.generator)
        dx, dy = place[0] - x, place[1] - y
        near = torch.exp(-2.0 * torch.hypot(dx, dy) - (place[2] - z).square() / 0.1)
        return images + most * near * torch.cos(_wide(count, images) * torch.atan2(dy, dx) + turn)

    def _view(self, n: int, place) -> torch.Tensor:
        """bool (n, w, w, w): an elliptic cylinder along the body about a point of its own."""
        half, middle = self._uniform(n, 2, low=LEAST, high=1.5), self._uniform(n, 2, low=-0.4, high=0.4)
        across = [(place[k] - _wide(middle[:, k], place)) / _wide(half[:, k], place) for k in (0, 1)]
        return across[0].square() + across[1].square() <= 1


def _places(edge: int) -> torch.Tensor:
    """(3, w, w, w): x, y, z of each voxel, -1 to 1 within the window, indexed [z, y, x]."""
    axis = torch.linspace(-1.0, 1.0, edge)
    z, y, x = torch.meshgrid(*(axis,) * 3, indexing="ij")
    return torch.stack([x, y, z])


def _wide(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(n,) -> (n, 1, 1, 1) where `like` is."""
    return values.to(like.device)[:, None, None, None]


def _shifted(images: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """The images moved by `step` voxels along an axis, the border repeated."""
    size = images.shape[axis]
    return images.index_select(axis, (torch.arange(size, device=images.device) - step).clamp(0, size - 1))
