"""Estimate the memory that a training run needs, and the largest batch that fits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from triscale.jobs.core.run import RunSpec
from triscale.jobs.training.disk_space import optimizer_values
from triscale.measurement.memory import InferenceMemory, TrainingMemory, inference_memory, training_memory
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.nn.chain import FUSED_DEVICES, fused_on
from triscale.record import Record
from triscale.training.accelerator import device_memory
from triscale.training.recipe import SMALL, Recipe

_MEMINFO = Path("/proc/meminfo")

MEMORY_SHARE = 0.5
"""Share of the installed memory that an automatic batch may need; the rest is for torch, images and other programs."""


class TrainingMemoryNeed(NamedTuple):
    """Memory of a training run in bytes, without Python and torch themselves.

    Attributes:
        needed: Bytes that the run needs.
        micro_batch: Number of images in memory at a time.
        available: Free bytes on the device; None if unknown.
        max_micro_batch: Largest number of images that fits into ``available``; None if that is unknown.
    """

    needed: int
    micro_batch: int
    available: int | None
    max_micro_batch: int | None


class NetworkMemory(Record):
    """Memory of a network for inference, and for a training step with the recipe ``small``."""

    kind_name: ClassVar[str] = "network_memory"

    batch: int
    inference: InferenceMemory
    training: TrainingMemory


def network_memory(network: AnyNetwork, batch: int) -> NetworkMemory:
    """Estimate the memory of a network for batches of ``batch`` images.

    Raises:
        NetworkError: The function of a custom model cannot be found or called.
    """
    return NetworkMemory(
        batch=batch,
        inference=inference_memory(build(network), batch, network.input_shape),
        training=training_memory(build(network), batch, network.input_shape, optimizer_values(SMALL)),
    )


def memory_of(spec: RunSpec, device: torch.device) -> TrainingMemoryNeed | None:
    """Estimate the memory of a run's training on a device; None for a custom model, which has no operation tree.

    Activations kept for the backward pass are proportional to the micro-batch; everything else is constant.
    """
    if not isinstance(spec.network, Network):
        return None
    recipe = spec.request.recipe
    micro_batch = -(-recipe.batch // recipe.micro_batches)
    counted = step_memory(spec.network, micro_batch, recipe, device)
    available = _available(device)
    max_micro_batch = None
    if available is not None:
        max_micro_batch = max(0, (available - counted.state_bytes) * micro_batch // max(1, counted.activation_bytes))
    return TrainingMemoryNeed(counted.total_bytes, micro_batch, available, max_micro_batch)


def max_batch_of(network: AnyNetwork, recipe: Recipe, device: torch.device) -> int | None:
    """Return the largest batch that fits into :data:`MEMORY_SHARE` of the installed memory; None if that is unknown.

    It does not depend on what runs on the machine at the moment, so that the same command chooses the same batch.
    """
    installed = _installed(device)
    if not isinstance(network, Network) or installed is None:
        return None
    counted = step_memory(network, 8, recipe, device)
    free = MEMORY_SHARE * installed - counted.state_bytes
    return max(1, int(free * counted.batch / max(1, counted.activation_bytes)))


def step_memory(network: AnyNetwork, micro_batch: int, recipe: Recipe, device: torch.device) -> TrainingMemory:
    """Count the memory of a training step in float32 on a device, which fuses chains or does not.

    Example:
        >>> from triscale.families import get
        >>> network = get("efficientnet_b0@32")
        >>> cpu, gpu = (step_memory(network, 8, SMALL, torch.device(name)).activation_bytes for name in ("cpu", "cuda"))
        >>> cpu < gpu
        True
    """
    fused = FUSED_DEVICES if device.type in FUSED_DEVICES else ()
    with fused_on(*fused):
        return training_memory(build(network), micro_batch, network.input_shape, optimizer_values(recipe))


def _available(device: torch.device) -> int | None:
    own = device_memory(device)
    return _meminfo("MemAvailable:") if own is None else own[0]


def _installed(device: torch.device) -> int | None:
    own = device_memory(device)
    return _meminfo("MemTotal:") if own is None else own[1]


def _meminfo(name: str) -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)
