"""One training on several GPUs of a node, by PyTorch's own launcher: `torchrun --nproc-per-node 4 -m lib train …`.

Every process (rank) draws the whole batch and computes a slice of it; gradients are averaged, and batch normalisation takes
mean and variance over all slices. So each step is that of one process, but for rounding. Rank 0 alone writes and speaks.
Without the launcher everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import distributed, nn

from lib.base.errors import UserError


def join(batch: int) -> int:
    """Meet the launcher's other processes; returns the batch. Raises UserError where it cannot be cut into equal slices."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not distributed.is_initialized():
        cuda = torch.cuda.is_available() and os.environ.get("AGENT_DEVICE") != "cpu"
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if cuda else "gloo")
    if batch % size():
        raise UserError(f"training.batch is {batch}; {size()} processes cannot share it equally, start fewer.")
    return batch


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def alone(work: Callable, *words, **named) -> None:
    """What only one may do: write a file, say a line."""
    if rank() == 0:
        work(*words, **named)


def wait() -> None:
    """Until all are here."""
    if size() > 1:
        distributed.barrier()


def part(batch: torch.Tensor) -> torch.Tensor:
    """(n, …) -> this process's (n / size, …)."""
    return batch[rank() :: size()]


def mean(value: torch.Tensor) -> torch.Tensor:
    """The mean over all processes of a value without gradient."""
    if size() > 1:
        value = value.clone()
        distributed.all_reduce(value)
        value /= size()
    return value


def average(model: nn.Module) -> None:
    """Gradients of the whole batch in place of those of a slice, in one message."""
    if size() > 1:
        grads = [p.grad for p in model.parameters()]
        together = mean(torch.cat([g.flatten() for g in grads]))
        for grad, new in zip(grads, together.split([g.numel() for g in grads]), strict=True):
            grad.copy_(new.view_as(grad))


class _Sum(torch.autograd.Function):
    """Sum over the processes; what follows from it in any of them comes back as gradient."""

    @staticmethod
    def forward(_, x):
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(_, grad):
        return _Sum.forward(None, grad.contiguous())


class SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the slices of all processes, on CPU as on GPU (torch's own is for GPUs alone)."""

    def _check_input_dim(self, x):
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, …) -> the same shape."""
        if not self.training:
            return super().forward(x)
        y, axes, shape = x.float(), [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        centre, square = _Sum.apply(torch.stack([y.mean(axes), y.square().mean(axes)])) / size()
        variance, n = (square - centre.square()).clamp(min=0), size() * y.numel() / y.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(centre, self.momentum)
            self.running_var.lerp_(variance * (n / max(1, n - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (y * scale.view(shape) + (self.bias - centre * scale).view(shape)).to(x.dtype)


def shared(model: nn.Module) -> nn.Module:
    """The model with `SharedNorm` for each batch normalisation, where several processes train it."""
    for name, child in model.named_children() if size() > 1 else ():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm3d):
            norm = SharedNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(model, name, norm)
        else:
            shared(child)
    return model
