"""Weights as data: the safetensors format, read and written with the standard library and torch alone.

A bare GPU box has no safetensors package; the format is an 8-byte length, a JSON header and raw bytes.
tests/test_weights.py proves both directions against the safetensors package.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import torch

from lib.base.errors import UserError

_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.int32: "I32",
    torch.float64: "F64",
    torch.bool: "BOOL",
    torch.int8: "I8",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}


def save(tensors: dict[str, torch.Tensor], path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors and string metadata; to a temporary name first, then renamed."""
    path, header, blobs, offset = Path(path), {}, [], 0
    if metadata:
        header["__metadata__"] = {str(k): str(v) for k, v in metadata.items()}
    for name, tensor in tensors.items():
        blob = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for blob in blobs:
            file.write(blob)
    os.replace(temporary, path)


def load(path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata. Raises UserError on a missing or damaged file."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such weights; train the agent first or give the folder that holds them.")
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        body, tensors = bytearray(data[8 + length :]), {}
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            if not 0 <= start <= stop <= len(body):
                raise ValueError("offsets beyond the end of the file")
            raw = (
                torch.frombuffer(body, dtype=torch.uint8, offset=start, count=stop - start)
                if stop > start
                else torch.empty(0, dtype=torch.uint8)
            )
            tensors[name] = raw.clone().view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, struct.error, RuntimeError):
        raise UserError(f"{path}: not a complete safetensors file; fetch or train it again.") from None
    return tensors, metadata
