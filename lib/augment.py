"""The training stream: labelled samples without end from a few aligned pairs (Data Augmentation and Sampling Strategy).

From an aligned pair (fixed, moving, truth T_g) a sample is drawn as in the paper: both images are co-deformed by one
affine T_A (Eq. 6), the fixed window is put at a random rigid pose P, the moving image at a residual V = T_g T^-1. In
coordinates x of the window, with c its centre,

    fixed window (x) = I_r(c + T_A P x)         moved window (x) = I_f(T_g^-1 (c + T_A P V x))

so each image is interpolated once, and the label is exact: Q(s, a) of V (Eq. 3). Denser near the truth: a share of
the residuals lies where greedy paths run, v clipped to +-m with m log-uniform.

The same code runs on CPU and GPU, with torch and NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch

from lib import mdp, rigid
from lib.base.errors import UserError
from lib.base.limits import Count, HalfRanges, Positive, Rule, Share, Size, Turn
from lib.base.provenance import atomic
from lib.images.looks import Looks
from lib.images.normalise import Source
from lib.images.windows import SourceBank, cut
from lib.network import observe

# Two of them, in four bytes a voxel, are 128 MB a sample at 256.
Window = Annotated[int, Rule(lambda n: 1 <= n <= 256, "1 to 256")]


@dataclass(frozen=True)
class StreamSettings:
    """Windows and the distribution of training samples."""

    window: Window = 32  # voxels along each edge (the paper: 64)
    coarse_voxel: Positive = 8.0  # mm, window voxel of the first network
    fine_voxel: Positive = 3.0  # mm, window voxel of the second
    coarse_source: Positive = 4.0  # mm, pyramid level the coarse windows are cut from
    fine_source: Positive = 2.0  # mm, pyramid level the fine windows are cut from
    contrast: Literal["local", "window"] = "local"  # local contrast, or one window of HU (lib.images.normalise)
    spine_range: HalfRanges = (30.0, 30.0, 150.0, 30.0, 30.0, 30.0)  # +- mm, degrees: coarse residuals, E1
    heart_range: HalfRanges = (60.0,) * 6  # the same for E2: as far as two perturbations of 30 lead
    fine_range: HalfRanges = (10.0, 10.0, 12.0, 8.0, 8.0, 8.0)  # fine residuals (the paper: 5 mm, 5 degrees)
    fixed_shift: Size = 12.0  # mm, the fixed window's own random shift, coarse (the paper: 30)
    fixed_turn: Turn = 6.0  # degrees, its own random rotation, coarse (the paper: 30)
    fine_shift: Size = 12.0  # the same two for the fine network (the paper: 5 mm, 5 degrees)
    fine_turn: Turn = 6.0
    affine: Share = 0.12  # Eq. 6: bound of the nine random elements (the paper: 0.25); 0 turns co-deformation off
    # What is even within the range: the residual, or the start, whose inverse it is: so test starts are drawn.
    drawn: Literal["residual", "start"] = "residual"
    dense_share: Share = 0.5  # share of samples drawn near the truth and along greedy paths
    keep_inside: bool = True  # a residual that takes the window past the CT's ends is folded back (not in the paper)
    mirror: bool = True  # half of the samples left-right mirrored (not in the paper)
    perturb: bool = True  # noise, soft blobs, cropped ends on top of the simulated physics (not in the paper)
    looks: Share = 0.0  # share of the samples whose CBCT gets another look, as from other scanners (lib.images.looks)
    gain: Share = 0.0  # with perturb: an image's own random gain, 1 +- gain, and offset (see docs/deviations.md)
    # Share of batches interpolated linearly; the rest takes the nearest source voxel. 0 and 1: the agent walks the same
    # way. Between them, as the released agents: it walks by the nearest voxel coarsely, linearly at the end.
    linear_share: Share = 0.1
    poses_per_window: Count = 4  # moved windows that share one fixed window

    def voxel(self, stage: str) -> float:
        return self.coarse_voxel if stage == "coarse" else self.fine_voxel

    def source(self, stage: str) -> float:
        return self.coarse_source if stage == "coarse" else self.fine_source

    def fixed(self, stage: str) -> tuple[float, float]:
        """The fixed window's own random shift (mm) and rotation (degrees)."""
        return (self.fixed_shift, self.fixed_turn) if stage == "coarse" else (self.fine_shift, self.fine_turn)

    @property
    def interpolation(self) -> str:
        """How an agent trained so cuts its windows: linear | nearest | mixed."""
        return {0.0: "nearest", 1.0: "linear"}.get(float(self.linear_share), "mixed")

    def range(self, experiment: str, stage: str) -> tuple[float, ...]:
        if stage == "fine":
            return self.fine_range
        return self.spine_range if experiment == "spine" else self.heart_range


@dataclass
class TrainingPair:
    """An aligned pair at one pyramid level. truth maps moving to fixed; anchors (n, 3) are window centres, fixed world."""

    id: str
    fixed: Source
    moving: Source
    truth: np.ndarray
    anchors: np.ndarray

    def save(self, path) -> None:
        """Write an NPZ. Two trainings may prepare the same pair at once."""
        images = {"fixed": self.fixed.codes.numpy(), "moving": self.moving.codes.numpy()}
        frames = {"fixed_affine": self.fixed.affine, "moving_affine": self.moving.affine}
        needs = sum(array.nbytes for array in images.values())
        with atomic(path, needs) as temporary, open(temporary, "wb") as file:
            np.savez(file, id=self.id, truth=self.truth, anchors=self.anchors, **images, **frames)

    @classmethod
    def load(cls, path) -> TrainingPair:
        try:
            data = np.load(path, allow_pickle=False)
            sources = [Source(torch.from_numpy(data[k]), data[f"{k}_affine"]) for k in ("fixed", "moving")]
            return cls(str(data["id"]), *sources, data["truth"], data["anchors"])
        except (OSError, ValueError, KeyError):
            raise UserError(f"{path}: not a complete training pair; delete it and run notebook 01 again.") from None


def draw_residuals(n: int, limits, dense_share: float, generator: torch.Generator, least: float = 0.5) -> torch.Tensor:
    """Parameters v (n, 6): uniform within +-limits; a share clipped to +-m, m log-uniform in least..30 (greedy paths).

    Below half a window voxel (`least`) nothing can be seen, and the labels would be noise.
    """
    limits = torch.as_tensor(limits, dtype=torch.float32)
    v = (torch.rand(n, 6, generator=generator) * 2 - 1) * limits
    m = least * (30.0 / least) ** torch.rand(n, 1, generator=generator)
    dense = torch.rand(n, 1, generator=generator) < dense_share
    return torch.where(dense, torch.maximum(torch.minimum(v, m), -m), v)


class Stream:
    """Endless batches of (observation, Q targets, residual parameters v) from training pairs."""

    def __init__(
        self,
        pairs: list[TrainingPair],
        settings: StreamSettings,
        experiment: str,
        stage: str,
        observation: str = "difference",
        seed: int = 0,
        device="cpu",
    ):
        if not pairs:
            raise UserError("no training pairs were found; run notebook 01 (make reproduce does) first.")
        self.settings, self.observation, self.device = settings, observation, torch.device(device)
        self.limits = settings.range(experiment, stage)
        self.stage, self.voxel = stage, settings.voxel(stage)
        self.fixed = SourceBank.of([p.fixed for p in pairs], self.device)
        self.moving = SourceBank.of([p.moving for p in pairs], self.device)
        self.truth_inverse = torch.as_tensor(np.stack([rigid.invert(p.truth) for p in pairs]))
        self.anchors = [torch.as_tensor(p.anchors) for p in pairs]
        self.generator = torch.Generator().manual_seed(seed)
        self._planned = None  # samples drawn but not cut yet
        few = max(1, 4 * 32**3 // settings.window**3)  # windows at a time, as many as stay in the cache
        self.chunk = few if self.device.type == "cpu" else 1 << 30
        self.noise = torch.randn(1 << 22, generator=self.generator).to(self.device)
        self.looks = Looks(settings.looks, self.voxel, self.generator)

    def reseed(self, seed: int) -> None:
        """Start the sequence of samples that belongs to `seed`."""
        self.generator.manual_seed(seed)
        self._planned = None

    def _uniform(self, *shape, low=-1.0, high=1.0):
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def _fixed_frames(self, n):
        """Random patient, window centre, affine and pose of the fixed window: which (n,), frames (n, 4, 4) window -> world."""
        s = self.settings
        which = torch.randint(len(self.anchors), (n,), generator=self.generator)
        centre = torch.stack(
            [
                self.anchors[w][torch.randint(len(self.anchors[w]), (1,), generator=self.generator)[0]]
                for w in which.tolist()
            ]
        )
        shear = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
        shear[:, :3, :3] += self._uniform(n, 3, 3).double() * s.affine
        if s.mirror:
            shear[:, :3, 0] *= torch.where(torch.rand(n, 1, generator=self.generator) < 0.5, -1.0, 1.0)
        shift, turn = s.fixed(self.stage)
        limits = torch.tensor([shift] * 3 + [turn] * 3)
        pose = rigid.params_to_matrix((self._uniform(n, 6) * limits).double())
        frames = shear @ pose
        frames[:, :3, 3] += centre
        return which, frames

    def _z_range(self, bank, which, share):
        """Cropped ends along the source's last axis, drawn independently of the residual (no shortcut through them)."""
        nz = bank.sizes[which.to(bank.sizes.device), 2].cpu().float()
        span = nz - 3
        cut_low, cut_high = (torch.rand(len(which), generator=self.generator) ** 2 * share * span for _ in range(2))
        return torch.stack([1 + cut_low, nz - 2 - cut_high], dim=1)

    def residuals(self, n: int) -> torch.Tensor:
        """Parameters v (n, 6) of the next n residuals."""
        v = draw_residuals(n, self.limits, self.settings.dense_share, self.generator, self.voxel / 2)
        if self.settings.drawn == "residual":
            return v
        return rigid.matrix_to_params(rigid.invert(rigid.params_to_matrix(v.double()))).to(v)

    def bounded(self, v, which, frames):
        """Keep the window's middle inside the moving image's length: fold the residual's tz back where it leaves."""
        if not self.settings.keep_inside:
            return v
        nz = self.moving.sizes[which.to(self.device), 2].cpu().double()
        to_index = self.moving.to_index.cpu()[which] @ self.truth_inverse[which] @ frames
        base, per_mm = to_index[:, 2, 3], to_index[:, 2, 2]
        for _ in range(2):
            z = base + per_mm * v[:, 2].double()
            outside = (z < 0.06 * nz) | (z > 0.94 * nz)
            v[outside, 2] = -v[outside, 2] * torch.where(
                torch.rand(int(outside.sum()), generator=self.generator) < 0.5, 1.0, 0.5
            )
        return v

    def _plan(self, n: int):
        """Everything about n samples but their voxels: patients, matrices, residuals v and Q targets."""
        s, k = self.settings, self.settings.poses_per_window
        which, frames = self._fixed_frames(-(-n // k))
        repeat = torch.arange(len(which)).repeat_interleave(k)[:n]
        v = self.bounded(self.residuals(n), which[repeat], frames[repeat])
        residual = rigid.params_to_matrix(v.double())
        fixed_m = self.fixed.to_index.cpu()[which] @ frames
        moving_m = (
            self.moving.to_index.cpu()[which][repeat] @ self.truth_inverse[which][repeat] @ frames[repeat] @ residual
        )
        ends = (None, None)
        if s.perturb:
            ends = (self._z_range(self.fixed, which, 0.25), self._z_range(self.moving, which, 0.3))
        targets = mdp.q_targets(residual.float().to(self.device))
        return which, fixed_m, moving_m, ends, v, targets

    def _next(self, n: int):
        """The next n samples of the plan; planned ten batches at a time, because targets are far cheaper in bulk."""
        k = self.settings.poses_per_window
        groups = -(-n // k)
        if self._planned is None or self._planned[0] + groups > len(self._planned[1][0]):
            self._planned = (0, self._plan(10 * groups * k))
        at, (which, fixed_m, moving_m, ends, v, targets) = self._planned
        self._planned = (at + groups, self._planned[1])
        g, one = slice(at, at + groups), slice(at * k, at * k + n)
        repeat = torch.arange(groups).repeat_interleave(k)[:n]
        ends = tuple(e if e is None else e[g] for e in ends)
        return which[g], repeat, fixed_m[g], moving_m[one], ends, v[one], targets[one]

    def _windows(self, n: int):
        which, repeat, fixed_m, moving_m, ends, v, targets = self._next(n)
        linear = bool(torch.rand(1, generator=self.generator) < self.settings.linear_share)
        fixed, fixed_ok = self._cut(self.fixed, which, fixed_m, linear, ends[0])
        ends_moved = None if ends[1] is None else ends[1][repeat]
        moved, moved_ok = self._cut(self.moving, which[repeat], moving_m, linear, ends_moved)
        repeat = repeat.to(self.device)
        fixed, fixed_ok = fixed[repeat], fixed_ok[repeat]
        if self.settings.looks:
            fixed, fixed_ok = self.looks(fixed, fixed_ok)
        if self.settings.perturb:
            fixed, moved = self._perturb(fixed, 0.12), self._perturb(moved, 0.05)
        return fixed, moved, moved_ok.logical_and_(fixed_ok), v, targets

    def sample(self, n: int):
        """Windows before they become an observation: fixed, moved, valid (n, w, w, w) and v (n, 6)."""
        return self._windows(n)[:4]

    def _cut(self, bank, which, matrices, linear, z_range):
        which, matrices = which.to(self.device), matrices.to(self.device)
        parts = []
        for a in range(0, len(which), self.chunk):
            b = slice(a, a + self.chunk)
            ends = None if z_range is None else z_range[b].to(self.device)
            parts.append(cut(bank, which[b], matrices[b], self.settings.window, self.voxel, linear, ends))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _perturb(self, images, noise):
        """Noise and (in 3 of 10) a soft blob an image, and where asked for its own gain and offset: cheap, on top of the
        simulated physics."""
        n, w = images.shape[:2]

        def wide(t):
            return t.to(self.device)[:, None, None, None]

        gain = self.settings.gain
        if gain:
            images.mul_(wide(self._uniform(n, low=1 - gain, high=1 + gain))).add_(wide(self._uniform(n) * 0.4 * gain))
        need = images.numel()
        start = int(torch.randint(max(1, self.noise.numel() - need), (1,), generator=self.generator))
        few = need < self.noise.numel()
        grain = self.noise[start : start + need] if few else torch.randn(need, generator=self.generator)
        images.addcmul_(grain.to(self.device).view(images.shape), wide(self._uniform(n, low=0, high=noise)))
        rows = torch.nonzero(torch.rand(n, generator=self.generator) < 0.3)[:, 0]
        centre, width = self._uniform(len(rows), 3, low=0, high=w), self._uniform(len(rows), 1, low=1.0, high=w / 8)
        axis = torch.exp(-0.5 * ((torch.arange(w) - centre[..., None]) / width[..., None]) ** 2)
        axis[:, 0] *= self._uniform(len(rows), 1)
        axis = axis.to(self.device)
        images[rows.to(self.device)] += torch.einsum("nk,nj,ni->nkji", axis[:, 0], axis[:, 1], axis[:, 2])
        return images

    def batch(self, n: int):
        """Observation (n, channels, w, w, w), Q targets (n, 12), v (n, 6)."""
        fixed, moved, valid, v, targets = self._windows(n)
        return observe(fixed, moved, valid, self.observation), targets, v.to(self.device)
