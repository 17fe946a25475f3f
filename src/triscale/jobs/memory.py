"""Whether a training has room in memory, before it begins: what it takes, and the largest batch that would fit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from triscale.jobs.room import optimizer_values
from triscale.jobs.run import RunSpec
from triscale.measure.memory import training_memory
from triscale.network.spec import Network
from triscale.nn.build import build

_MEMINFO = Path("/proc/meminfo")


class Memory(NamedTuple):
    """What a training takes beside Python and torch, in bytes.

    ``shard`` is the number of images in memory at a time, ``largest`` the most that would fit into what is
    ``available``; both None where that is not known.
    """

    needed: int
    shard: int
    available: int | None
    largest: int | None


def memory_of(spec: RunSpec, device: torch.device) -> Memory | None:
    """Forecast the memory of a Run's training on a device; None for a person's own network, which is not lowered.

    What backward passes keep grows with the images, all else does not.
    """
    if not isinstance(spec.network, Network):
        return None
    recipe = spec.request.recipe
    shard = -(-recipe.batch // recipe.shards)
    counted = training_memory(build(spec.network), shard, spec.network.resolution, optimizer_values(recipe))
    available = _available(device)
    largest = None
    if available is not None:
        largest = max(0, (available - counted.state_bytes) * shard // max(1, counted.activation_bytes))
    return Memory(counted.total_bytes, shard, available, largest)


def _available(device: torch.device) -> int | None:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
