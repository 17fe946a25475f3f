"""Training steps in turn, and what autograd keeps of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Step = Callable[[], object]


def interleaved_seconds(
    steps: Mapping[str, Step], *, rounds: int, repeats: int, wait: Callable[[], None]
) -> dict[str, list[float]]:
    """Return the seconds of a step of each name in each round; all take turns.

    Args:
        steps: The steps by name.
        rounds: Number of rounds.
        repeats: Steps in a row.
        wait: Waits until the device has finished.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wait()
            started = time.perf_counter()
            for _ in range(repeats):
                step()
            wait()
            seconds[name].append((time.perf_counter() - started) / repeats)
    return seconds


def saved_bytes(module: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Return the bytes of the distinct storages that autograd keeps for a backward pass, without parameters."""
    storages: dict[int, int] = {}

    def record(value: Tensor) -> Tensor:
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(record, lambda value: value):
        result = forward()
    del result
    for parameter in module.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(storages.values())
