"""Whether a training has room in memory, before it begins: what it takes, and the largest batch that would fit."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from triscale.jobs.core.run import RunSpec
from triscale.jobs.training.disk_space import optimizer_values
from triscale.measure.memory import InferenceMemory, TrainingMemory, inference_memory, training_memory
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.record import Record
from triscale.training.recipe import SMALL

_MEMINFO = Path("/proc/meminfo")


class TrainingMemoryNeed(NamedTuple):
    """What a training takes beside Python and torch, in bytes.

    ``micro_batch`` is the number of images in memory at a time, ``largest`` the most that would fit into what is
    ``available``; both None where that is not known.
    """

    needed: int
    micro_batch: int
    available: int | None
    largest: int | None


class NetworkMemory(Record):
    """What a network takes in memory, in a call and in a step of a training by the recipe ``small``."""

    kind_name: ClassVar[str] = "memory_needs"

    batch: int
    inference: InferenceMemory
    training: TrainingMemory


def network_memory(network: AnyNetwork, batch: int) -> NetworkMemory:
    """Forecast the memory of a network for so many images at a time.

    Raises:
        NetworkError: the function of a custom model cannot be found or called.
    """
    return NetworkMemory(
        batch=batch,
        inference=inference_memory(build(network), batch, network.resolution),
        training=training_memory(build(network), batch, network.resolution, optimizer_values(SMALL)),
    )


def memory_of(spec: RunSpec, device: torch.device) -> TrainingMemoryNeed | None:
    """Forecast the memory of a run's training on a device; None for a custom model, which is not lowered.

    What backward passes keep grows with the images, all else does not.
    """
    if not isinstance(spec.network, Network):
        return None
    recipe = spec.request.recipe
    micro_batch = -(-recipe.batch // recipe.micro_batches)
    counted = training_memory(build(spec.network), micro_batch, spec.network.resolution, optimizer_values(recipe))
    available = _available(device)
    largest = None
    if available is not None:
        largest = max(0, (available - counted.state_bytes) * micro_batch // max(1, counted.activation_bytes))
    return TrainingMemoryNeed(counted.total_bytes, micro_batch, available, largest)


def _available(device: torch.device) -> int | None:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
