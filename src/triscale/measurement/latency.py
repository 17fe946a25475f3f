"""Latency measurement: warm-up, then median, quartiles and a confidence interval."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from triscale.measurement.device import machine
from triscale.network.input_size import ImageShape
from triscale.results.image_size import sides_of
from triscale.results.latency import Measurement

WARMUP_SECONDS = 0.5
SAMPLE_SECONDS = 2.0
MIN_SAMPLES, MAX_SAMPLES = 30, 1000
MAX_EXTENSION = 8
"""Maximum factor by which a measurement may exceed its duration to reach the requested precision."""
MAX_SPREAD, MAX_DRIFT = 0.2, 0.1


def measure_latency(
    call: Callable[[], object],
    *,
    engine: str,
    batch: int,
    threads: int,
    input_shape: ImageShape,
    warmup_seconds: float = WARMUP_SECONDS,
    sample_seconds: float = SAMPLE_SECONDS,
    within: float | None = None,
    precision: str = "float32",
    cores: tuple[int, ...] = (),
) -> Measurement:
    """Measure the latency of a function that computes one batch; the caller must limit its threads.

    The function is called for ``warmup_seconds``, at least 3 times, and then measured for ``sample_seconds``, from 30
    to 1000 times.

    Args:
        call: Function that computes a batch.
        engine: The inference engine.
        batch: Batch size.
        threads: Number of threads of the engine.
        input_shape: Channels, height and width of an image.
        warmup_seconds: Minimum duration of the warm-up.
        sample_seconds: Duration of the measured calls.
        within: Relative half-width of the 95% interval of the median to reach, within up to eight times
            ``sample_seconds``; None stops after ``sample_seconds``.
        precision: Precision of the computation.
        cores: CPU cores that the process is pinned to.

    Example:
        >>> timing = measure_latency(
        ...     lambda: None,
        ...     engine="none",
        ...     batch=1,
        ...     threads=1,
        ...     input_shape=(3, 1, 1),
        ...     warmup_seconds=0,
        ...     sample_seconds=0,
        ... )
        >>> timing.samples
        30
    """
    warmup_calls, started = 0, time.perf_counter()
    while warmup_calls < 3 or time.perf_counter() - started < warmup_seconds:
        call()
        warmup_calls += 1
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MIN_SAMPLES or (
        len(times) < (MAX_SAMPLES if within is None else MAX_EXTENSION * MAX_SAMPLES)
        and _continues(times, started, sample_seconds, within)
    ):
        before = time.perf_counter()
        call()
        times.append((time.perf_counter() - before) * 1e3)
    lower, median, upper = (float(value) for value in np.percentile(times, (25, 50, 75)))
    low, high = median_interval(times)
    return Measurement(
        engine=engine,
        precision=precision,
        batch=batch,
        threads=threads,
        **sides_of(input_shape),
        warmup_calls=warmup_calls,
        samples=len(times),
        lower_quartile_ms=lower,
        median_ms=median,
        upper_quartile_ms=upper,
        low_ms=low,
        high_ms=high,
        cores=cores,
        noise=noise_in(times),
        machine=machine(),
    )


def median_interval(times: Sequence[float]) -> tuple[float, float]:
    """Return a distribution-free 95% confidence interval of the median of independent calls, from order statistics.

    The number of calls below the true median is binomial with probability 1/2.

    Example:
        >>> median_interval(range(1, 101))
        (41.0, 61.0)
    """
    ordered = np.sort(times)
    reach = 0.98 * math.sqrt(len(ordered))
    low = max(0, math.floor(len(ordered) / 2 - reach))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + reach))
    return float(ordered[low]), float(ordered[high])


def noise_in(times: Sequence[float]) -> str | None:
    """Return the reason why a measurement is noisy; None if it is not.

    A measurement is noisy if the interquartile range is more than 20% of the median, or if the medians of the first and
    second half of the calls differ by more than 10%.

    Example:
        >>> noise_in([1.0] * 30) is None
        True
    """
    lower, median, upper = np.percentile(times, (25, 50, 75))
    first, second = (float(np.median(half)) for half in np.array_split(np.asarray(times), 2))
    if upper - lower > MAX_SPREAD * median:
        spread = (upper - lower) / median
        return f"the interquartile range is {spread:.0%} of the median; other processes are using the CPU"
    drift = max(first, second) / min(first, second) - 1
    if drift > MAX_DRIFT:
        return f"one half of the calls took {drift:.0%} longer than the other; the speed of the machine changed"
    return None


@contextmanager
def pinned_to_cores(number: int) -> Iterator[tuple[int, ...]]:
    """Pin this thread, and threads that it starts, to the last ``number`` allowed cores; yield the cores.

    On systems without CPU affinity, nothing is pinned and an empty tuple is yielded.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    cores = tuple(sorted(before)[-number:])
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def _continues(times: Sequence[float], started: float, sample_seconds: float, within: float | None) -> bool:
    """Return whether a measurement needs more calls."""
    seconds = time.perf_counter() - started
    if within is None or seconds < sample_seconds:
        return seconds < sample_seconds
    # Checked only at every tenth call, since it sorts all times.
    if seconds > MAX_EXTENSION * sample_seconds or len(times) % 10:
        return seconds <= MAX_EXTENSION * sample_seconds
    (low, high), median = median_interval(times), float(np.median(times))
    return max(high - median, median - low) > within * median


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Limit torch to a number of threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
