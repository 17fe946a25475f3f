"""Memory allocated by torch on the CPU, as recorded by its profiler; deterministic."""

from __future__ import annotations

from collections.abc import Callable

import torch


def most_allocated(call: Callable[[], object]) -> int:
    """Return the peak memory of the tensors created within a call, in bytes."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True) as profiled:
        call()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
