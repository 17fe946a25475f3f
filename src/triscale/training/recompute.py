"""Activation checkpointing: modules keep only their input and are recomputed in the backward pass.

The result is bitwise the same: the same operations get the same input, and the random generator is restored for the
recomputation. Batch norm would update its running statistics twice; the caller restores them.
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

from triscale.errors import JobError
from triscale.network.lower import lower
from triscale.network.tree import block_paths
from triscale.nn.classifier import Classifier
from triscale.nn.map_memory import release_map_memory
from triscale.training.accelerator import release_cached

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BYTES = 1 << 16

MAX_CHECKPOINT_LEVEL = 2
"""Level 0 keeps all activations, 1 the inputs of stages, 2 also those of the blocks within stages."""


@contextmanager
def with_recomputation(model: nn.Module, checkpoint_level: int) -> Iterator[None]:
    """Checkpoint the activations of a model inside the context.

    Args:
        model: The model, changed in place and restored at the end. A custom module is checkpointed by its children.
        checkpoint_level: From 0, none, to :data:`MAX_CHECKPOINT_LEVEL`.
    """
    parts = _parts(model, checkpoint_level)
    for part in parts:
        # An instance attribute shadows the method of its class.
        part.forward = partial(_checkpointed, part.forward)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _checkpointed(forward: Any, *inputs: Any, **options: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _parts(model: nn.Module, checkpoint_level: int) -> list[nn.Module]:
    """Return the modules to checkpoint at a level; nested ones are recomputed within the outer ones."""
    if checkpoint_level == 0:
        return []
    if isinstance(model, Classifier):
        outer: list[nn.Module] = [model.stem, *model.stages]
        inner: list[nn.Module] = [model.get_submodule(path) for path in block_paths(lower(model.network))]
    else:
        outer = list(model.children())
        inner = [child for part in outer if isinstance(part, nn.Sequential) for child in part]
    return outer if checkpoint_level == 1 else [*outer, *inner]


def release_memory(device: torch.device) -> bool:
    """Return freed memory to the system, and make malloc return large blocks as soon as they are freed.

    Otherwise glibc keeps freed blocks between blocks in use, and the heap is too fragmented for large tensors.

    Returns:
        Whether memory was kept for further maps, so that the same step may now succeed.
    """
    kept = release_map_memory()
    if release_cached(device):
        return kept
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        library.malloc_trim(0)
    return kept


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of torch, oneDNN, XLA or Python reports that memory ran out.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory"))
        True
    """
    is_named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    text = str(error).lower()
    return is_named or any(words in text for words in _WORDS)


def recomputation_note(images: int, checkpoint_level: int, max_level: int = MAX_CHECKPOINT_LEVEL) -> str:
    """Return the sentence about a micro-batch of ``images`` that is now computed at a higher level."""
    return (
        f"{images} images at a time do not fit into memory; activation checkpointing is now at level "
        f"{checkpoint_level} of {max_level}: slower, with the same result"
    )


def memory_error(images: int, micro_batches: int) -> JobError:
    """Return the error of a micro-batch of ``images`` that does not fit at any level."""
    return JobError(
        f"a micro-batch of {images} images does not fit into memory, even with activation checkpointing; start another "
        f"run with more micro-batches, for example --set micro_batches={2 * micro_batches}, which computes batch-norm "
        "statistics over fewer images"
    )


_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "could not create a memory",
    "could not create a primitive",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "resource_exhausted",  # XLA
    "ynnpack operation failed",  # XLA on CPUs, whose library for matrix products says no more where it cannot allocate
)
