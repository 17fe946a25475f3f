"""Latency by a stated protocol: one thread, after warm-up, median and quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch

from triscale.measure.device import Machine, machine
from triscale.record import Record

WARMUP_SECONDS = 0.5
SAMPLE_SECONDS = 2.0
FEWEST, MOST = 30, 1000


class Measurement(Record):
    """Time of one call in milliseconds: quartiles over ``samples`` calls after ``warmup_calls`` that do not count.

    ``engine`` and ``precision`` say what ran, on ``threads`` threads, with ``batch`` images of ``resolution`` pixels.
    """

    kind_name: ClassVar[str] = "measurement"

    engine: str
    precision: str = "float32"
    batch: int
    threads: int
    resolution: int
    warmup_calls: int
    samples: int
    lower_quartile_ms: float
    median_ms: float
    upper_quartile_ms: float
    machine: Machine


def measure_latency(
    call: Callable[[], object],
    *,
    engine: str,
    batch: int,
    threads: int,
    resolution: int,
    warmup_seconds: float = WARMUP_SECONDS,
    sample_seconds: float = SAMPLE_SECONDS,
) -> Measurement:
    """Time a call that computes one batch; the caller has limited its threads already.

    At least 3 calls and ``warmup_seconds`` of warm-up, then calls for ``sample_seconds``, from 30 to 1000 of them.
    """
    warmup_calls, started = 0, time.perf_counter()
    while warmup_calls < 3 or time.perf_counter() - started < warmup_seconds:
        call()
        warmup_calls += 1
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() - started < sample_seconds):
        before = time.perf_counter()
        call()
        times.append((time.perf_counter() - before) * 1e3)
    lower, median, upper = (float(value) for value in np.percentile(times, (25, 50, 75)))
    return Measurement(
        engine=engine,
        batch=batch,
        threads=threads,
        resolution=resolution,
        warmup_calls=warmup_calls,
        samples=len(times),
        lower_quartile_ms=lower,
        median_ms=median,
        upper_quartile_ms=upper,
        machine=machine(),
    )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Limit torch to a number of threads, and put its own number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
