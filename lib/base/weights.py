"""Weights as data: tensors by name with string metadata (safetensors), checkpoints, and networks made small for the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.base.errors import UserError
from lib.base.provenance import atomic

ALL = "all"  # the one entry of a file's metadata: the library writes several in another order each time
LARGE = 1_000_000  # a matrix of more elements is kept in 8 bits


def save(tensors: dict[str, torch.Tensor], path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors, as they are, and metadata, as strings."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path, needs=sum(tensor.nbytes for tensor in plain.values())) as temporary:
        text = json.dumps({str(k): str(v) for k, v in (metadata or {}).items()}, sort_keys=True)
        save_file(plain, temporary, {ALL: text})


def load(path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata. Raises UserError on a missing or damaged file."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such weights; train the agent first or give the folder that holds them.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        raise UserError(f"{path}: not a complete safetensors file; fetch or train it again.") from None
    return tensors, json.loads(metadata[ALL]) if ALL in metadata else metadata


def save_training(path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, metadata: dict) -> None:
    """A checkpoint: weights and the optimiser's state."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    save(tensors, path, metadata)


def load_training(path, model, optimiser, accept: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Put a checkpoint back into model and optimiser and return its metadata; {} where there is none that `accept`
    accepts. Raises UserError on a damaged file."""
    if not Path(path).exists():
        return {}
    tensors, metadata = load(path)
    if not accept(metadata):
        return {}
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state, parameters = {}, list(model.parameters())
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:  # fused kernels read memory in the parameter's own (channels-last) order
                value = torch.empty_like(parameter).detach().copy_(value)
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return metadata


def packed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network's weights in a quarter of their size: bfloat16, and 8 bits with a scale a row for a large matrix."""
    found = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and tensor.numel() > LARGE:
            scale = tensor.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            found |= {f"{name}.int8": (tensor / scale).round().to(torch.int8), f"{name}.scale": scale.float()}
        else:
            found[name] = tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.dim() > 1 else tensor
    return found


def unpacked(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `packed` was given, to 1 % of a row's largest weight."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(".int8"):
            found[name.removesuffix(".int8")] = tensor.float() * tensors[name.removesuffix("int8") + "scale"]
        elif not name.endswith(".scale"):
            found[name] = tensor.float() if tensor.is_floating_point() else tensor
    return found
