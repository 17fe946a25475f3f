"""Paired latency measurement: candidates are timed alternately, so that drift of the machine affects all equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from triscale.measurement.device import machine
from triscale.network.input_size import ImageShape
from triscale.results.image_size import sides_of
from triscale.results.latency import PairedTiming, TimedNetwork

ROUNDS = 15
ROUND_SECONDS = 0.2
"""Duration of a candidate's measurement in one round."""
RESAMPLES = 2000


def time_alternately(
    calls: Sequence[Callable[[], object]],
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[NDArray[np.float64], list[int]]:
    """Time functions alternately, each once per round, in an order that is reversed from round to round.

    Args:
        calls: Functions that compute one batch.
        rounds: Number of rounds, after a warm-up round.
        round_seconds: Duration of the measurement of a function in a round; it is called at least three times.
        should_stop: Polled before each measurement; if true, the finished rounds are returned.

    Returns:
        The median latency in milliseconds ``[rounds, calls]``, and the number of calls of each function.

    Example:
        >>> times, counts = time_alternately([lambda: None, lambda: None], rounds=2, round_seconds=0)
        >>> times.shape, counts
        ((2, 2), [6, 6])
    """
    medians_by_round: list[list[float]] = []
    counts = [0] * len(calls)
    for number in range(rounds + 1):
        medians = [0.0] * len(calls)
        order = range(len(calls)) if number % 2 else reversed(range(len(calls)))
        for index in order:
            if should_stop() and medians_by_round:
                return np.array(medians_by_round), counts
            times = _time_calls(calls[index], round_seconds)
            medians[index] = float(np.median(times))
            counts[index] += len(times) if number else 0
        if number:  # The first round warms up.
            medians_by_round.append(medians)
    return np.array(medians_by_round), counts


def ratio_interval(times: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the median ratio of two latencies, with a 95% bootstrap interval over rounds.

    Args:
        times: Times of a candidate ``[rounds]``.
        reference: Times of the reference in the same rounds.

    Example:
        >>> ratio_interval(np.array([2.0, 2.0]), np.array([1.0, 1.0]))
        (2.0, 2.0, 2.0)
    """
    ratios = times / reference
    rng = np.random.default_rng(0)
    resampled = np.median(ratios[rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def paired_timing(
    named: Sequence[tuple[str, str, str, ImageShape]],
    times: NDArray[np.float64],
    counts: Sequence[int],
    *,
    batch: int,
    threads: int,
    cores: tuple[int, ...],
) -> PairedTiming:
    """Return the record of a paired measurement, relative to the first candidate.

    Args:
        named: Name, engine, precision and input shape of each candidate.
        times: Times ``[rounds, candidates]`` of :func:`time_alternately`.
        counts: Number of calls of each candidate.
        batch: Batch size.
        threads: Number of threads.
        cores: CPU cores that the process was pinned to.
    """
    networks = []
    for index, (name, engine, precision, input_shape) in enumerate(named):
        ratio, low, high = ratio_interval(times[:, index], times[:, 0])
        networks.append(
            TimedNetwork(
                name=name,
                engine=engine,
                precision=precision,
                **sides_of(input_shape),
                median_ms=float(np.median(times[:, index])),
                ratio=ratio,
                low=low,
                high=high,
                calls=counts[index],
            )
        )
    return PairedTiming(
        networks=tuple(networks),
        rounds=len(times),
        batch=batch,
        threads=threads,
        cores=cores,
        machine=machine(),
    )


def _time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        times.append((time.perf_counter() - before) * 1e3)
    return times
