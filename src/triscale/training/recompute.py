"""Less memory for more time: parts of a model keep their input alone and are computed again in the backward pass.

The numbers stay bitwise the same: the same operations see the same input, and chance is drawn again from the same
state. Batch norm would count a repeated batch twice in its running statistics; the caller puts back those from before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from triscale.network.lower import lower
from triscale.network.tree import block_paths
from triscale.nn.build import Classifier

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BYTES = 1 << 16

MAX_CHECKPOINT_LEVEL = 2
"""0 keeps what autograd keeps, 1 the inputs of stages, 2 those of blocks within stages as well."""


@contextmanager
def with_recomputation(model: nn.Module, checkpoint_level: int) -> Iterator[None]:
    """Let parts of a model be recomputed while the context lasts; a custom module by its children."""
    parts = _parts(model, checkpoint_level)
    for part in parts:
        # An attribute of the instance hides the method of its class.
        part.forward = partial(_checkpointed, part.forward)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _checkpointed(forward: Any, *inputs: Any, **options: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _parts(model: nn.Module, checkpoint_level: int) -> list[nn.Module]:
    if checkpoint_level == 0:
        return []
    if isinstance(model, Classifier):
        outer: list[nn.Module] = [model.stem, *model.stages]
        inner: list[nn.Module] = [model.get_submodule(path) for path in block_paths(lower(model.network))]
    else:
        outer = list(model.children())
        inner = [child for part in outer if isinstance(part, nn.Sequential) for child in part]
    return outer if checkpoint_level == 1 else [*outer, *inner]


def release_memory(device: torch.device) -> None:
    """Hand freed memory back to the system, and see to it that large pieces are handed back as soon as they are free.

    Otherwise glibc keeps what is free between pieces in use, and what remains is too scattered for large maps.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory did not suffice, in the words of torch, oneDNN or Python."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _WORDS)


_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "could not create a memory",
    "could not create a primitive",
)
