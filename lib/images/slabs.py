"""Large images a few slices at a time: what is put in stays 16-bit where every value is a whole number that fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

AT_ONCE = 2**22  # voxels of a slab: four slices of 1024 x 1024


def slabs(shape, of: int = 1) -> Iterator[slice]:
    """Slices of the first axis of an array (nz, ny, nx), each a multiple of `of` long but the last."""
    many = of * max(1, AT_ONCE // max(int(np.prod(shape[1:])) * of, 1))
    return (slice(at, min(at + many, shape[0])) for at in range(0, shape[0], many))


class Stack:
    """An array (nz, ny, nx) that is filled slab by slab: int16 as long as all values are whole and fit, else float32."""

    def __init__(self, shape, whole: bool):
        self.array = np.empty(shape, np.int16 if whole else np.float32)

    def put(self, where: slice | int, values: np.ndarray) -> None:
        """Values (n, ny, nx) at the slices `where`, or one plane (ny, nx) at a number."""
        if self.array.dtype == np.int16 and not _fits(values):
            self.array = self.array.astype(np.float32)
        self.array[where] = values


def _fits(values: np.ndarray) -> bool:
    if values.dtype in (np.int16, np.int8, np.uint8):
        return True
    if values.min() < -32768 or values.max() > 32767 or np.isnan(values.max()):
        return False
    return values.dtype.kind in "ui" or bool((values == np.rint(values)).all())
