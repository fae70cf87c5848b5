"""Attention: where the coarse network looks (after Simonyan et al. 2013), and the centre of the region of interest.

One back-propagation of the sum of the network's outputs gives the saliency map; the voxels above its 95th percentile,
weighted by their saliency, give the centre. We take the magnitude of the derivative, the largest over channels, at the
last state of coarse registration, smoothed by one voxel (docs/deviations.md).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


def maps(windows, poses: np.ndarray, stage) -> np.ndarray:
    """Saliency (n, w, w, w) [k, j, i] of the observations at world poses (n, 4, 4)."""
    observation = windows.observe(torch.as_tensor(np.asarray(poses, dtype=np.float64))).detach()
    out = []
    for part in observation.split(16):
        part = part.clone().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(stage.outputs(part).sum(), part)
        magnitude = gradient.float().abs().max(dim=1, keepdim=True).values
        # The strided network's gradient has a checkerboard; one voxel of smoothing removes it.
        out.append(F.avg_pool3d(magnitude, 3, 1, 1)[:, 0].cpu())
    return torch.cat(out).numpy()


def centres(saliency: np.ndarray, window_centres: np.ndarray, voxel: float, percentile: float = 95.0) -> np.ndarray:
    """Weighted centre (n, 3), world LPS mm, of the voxels above the percentile; windows are axis-aligned in the world."""
    size = saliency.shape[-1]
    offset = (np.arange(size) - (size - 1) / 2) * voxel
    result = np.empty((len(saliency), 3))
    for row, (volume, centre) in enumerate(zip(saliency, np.asarray(window_centres), strict=False)):
        weight = np.where(volume >= np.percentile(volume, percentile), volume, 0.0)
        total = max(weight.sum(), 1e-12)
        shift = [(weight.sum(axis=axes) * offset).sum() / total for axes in ((0, 1), (0, 2), (1, 2))]
        result[row] = np.asarray(centre) + shift
    return result
