"""Memory of feature maps that is used again, instead of new pages from the system for each map.

A C library returns large blocks to the system as soon as they are freed. The next map of that size then gets new pages,
which the system fills with zeros one by one: a good part of the time of a training step with large maps. Inside
:func:`reusing_map_memory`, a block whose map has been freed is kept for the next map of about its size.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALLEST = 2**20
"""Smaller maps are left to the C library, which keeps them itself."""
LARGEST_EXCESS = 1.25
"""A map may use a block that is so many times as large."""
UNUSED = 4000
"""A free block that was not used for so many maps, a few training steps, is returned to the system."""
ALIGNMENT = 64
"""Bytes of a cache line."""

_Block = NDArray[np.uint8]


class MapMemory:
    """Blocks of memory for maps; one whose map is no longer referenced becomes free by itself."""

    def __init__(self) -> None:
        self._free: list[tuple[_Block, int]] = []
        self._maps = 0
        self._is_open = True

    @property
    def free_bytes(self) -> int:
        """Bytes in free blocks."""
        return sum(block.size for block, _ in self._free)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized tensor.

        Raises:
            RuntimeError: Memory has run out; all free blocks were returned before that.
        """
        self._maps += 1
        size = dtype.itemsize * math.prod(shape)
        block = self._take(size) if self._is_open and size >= SMALLEST else None
        if block is None:
            return torch.empty(shape, dtype=dtype, device="cpu")
        start = -block.ctypes.data % ALIGNMENT
        # Torch keeps this view as long as a tensor uses the memory; the block is free when the view is.
        view = block[start : start + size]
        weakref.finalize(view, self._give_back, block).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def close(self) -> None:
        """Return all free blocks to the system, now and whenever one becomes free."""
        self._is_open = False
        self._free.clear()

    def _take(self, size: int) -> _Block | None:
        """Return the smallest suitable free block, or a new one; None if memory has run out."""
        needed = size + ALIGNMENT
        suitable = [at for at, (block, _) in enumerate(self._free) if needed <= block.size <= LARGEST_EXCESS * needed]
        if suitable:
            return self._free.pop(min(suitable, key=lambda at: self._free[at][0].size))[0]
        self._free = [(block, freed) for block, freed in self._free if self._maps - freed < UNUSED]
        try:
            return np.empty(needed, np.uint8)
        except MemoryError:
            self.close()
            return None

    def _give_back(self, block: _Block) -> None:
        if self._is_open:
            self._free.append((block, self._maps))


_active: list[MapMemory] = []
"""The last one is in use."""


@contextmanager
def reusing_map_memory() -> Iterator[MapMemory]:
    """Use the memory of freed maps again inside the context; at its end all free memory is returned.

    Example:
        >>> with reusing_map_memory() as memory:
        ...     for _ in range(3):
        ...         maps = empty_map((16, 112, 112, 32), torch.float32)
        ...     memory.free_bytes // 2**20  # of one: the third took the memory of the first
        24
    """
    memory = MapMemory()
    _active.append(memory)
    try:
        yield memory
    finally:
        _active.remove(memory)
        memory.close()


def empty_map(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an uninitialized tensor on the CPU, from reused memory inside :func:`reusing_map_memory`."""
    return _active[-1].empty(shape, dtype) if _active else torch.empty(shape, dtype=dtype, device="cpu")


def release_map_memory() -> bool:
    """Stop using memory again, since it has run out; return whether any was kept for that."""
    kept = sum(memory.free_bytes for memory in _active)
    for memory in _active:
        memory.close()
    return kept > 0
