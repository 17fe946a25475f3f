"""Memory of a training step or of inference, counted on the meta device without allocating memory."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from triscale.network.input_size import ImageShape
from triscale.record import Record


class _Memory(Record):
    batch: int
    state_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """Sum of state and activations."""
        return self.state_bytes + self.activation_bytes


class TrainingMemory(_Memory):
    """The memory of a training step in bytes, as counted on the meta device.

    ``state_bytes`` covers weights, gradients, the average and optimizer state. ``activation_bytes`` is the peak
    of everything else: the batch, tensors saved for backward, and temporaries. Convolution workspaces and torch's own
    memory are not included.
    """

    kind_name: ClassVar[str] = "training_memory"


class InferenceMemory(_Memory):
    """The memory of inference in bytes, as counted on the meta device.

    ``state_bytes`` covers weights and batch-norm statistics. ``activation_bytes`` is the peak of everything else: the
    batch and intermediate feature maps. Convolution workspaces and torch's own memory are not included.
    """

    kind_name: ClassVar[str] = "inference_memory"


def training_memory(model: nn.Module, batch: int, input_shape: ImageShape, optimizer_values: int = 2) -> TrainingMemory:
    """Count the memory of a training step in float32.

    Args:
        model: Any module that takes ``[N, *input_shape]``; it is moved to the meta device and cannot be used
            afterwards.
        batch: Size of a micro-batch.
        input_shape: Channels, height and width of an image.
        optimizer_values: Number of state values of the optimizer per parameter.
    """
    model = model.to("meta").train()
    values = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() for buffer in model.buffers())
    with _Counter() as counter:
        images = torch.empty(batch, *input_shape, device="meta")
        model(images).sum().backward()
    gradients = 4 * values
    return TrainingMemory(
        batch=batch,
        state_bytes=4 * ((3 + optimizer_values) * values + 2 * buffers),
        activation_bytes=max(0, counter.peak - gradients),
    )


def inference_memory(model: nn.Module, batch: int, input_shape: ImageShape) -> InferenceMemory:
    """Count the memory of inference in float32, in evaluation mode without gradients.

    Args:
        model: Any module that takes ``[N, *input_shape]``; it is moved to the meta device and cannot be used
            afterwards.
        batch: Batch size.
        input_shape: Channels, height and width of an image.

    Example:
        >>> inference_memory(nn.Conv2d(3, 8, 1), batch=1, input_shape=(3, 4, 4)).state_bytes
        128
    """
    model = model.to("meta").eval()
    with _Counter() as counter, torch.inference_mode():
        model(torch.empty(batch, *input_shape, device="meta"))
    values = sum(value.numel() for value in (*model.parameters(), *model.buffers()))
    return InferenceMemory(batch=batch, state_bytes=4 * values, activation_bytes=counter.peak)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks current and peak bytes of the storages that operations allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._track(value.untyped_storage())
        return result

    def _track(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage)
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.current -= size
