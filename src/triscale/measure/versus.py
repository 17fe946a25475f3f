"""Several things timed in one run, in turns, so that a machine that grows slower favors none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from triscale.measure.device import machine
from triscale.results.latency import PairedTiming, TimedNetwork

ROUNDS = 15
ROUND_SECONDS = 0.2
"""Of one candidate in one round."""
RESAMPLES = 2000


def in_turns(
    calls: Sequence[Callable[[], object]],
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[NDArray[np.float64], list[int]]:
    """Time calls in turns, each for a while in every round, in an order that is turned around from round to round.

    Args:
        calls: Each computes one batch.
        rounds: How often each has its turn, after one that does not count.
        round_seconds: How long a turn takes, at least three calls.
        should_stop: Polled before each turn; what was timed until then is returned.

    Returns:
        The median milliseconds of each turn ``[rounds, calls]``, and how many calls there were of each.
    """
    found: list[list[float]] = []
    counts = [0] * len(calls)
    for number in range(rounds + 1):
        medians = [0.0] * len(calls)
        order = range(len(calls)) if number % 2 else reversed(range(len(calls)))
        for place in order:
            if should_stop() and found:
                return np.array(found), counts
            times = _turn(calls[place], round_seconds)
            medians[place] = float(np.median(times))
            counts[place] += len(times) if number else 0
        if number:  # The first round warms up.
            found.append(medians)
    return np.array(found), counts


def ratio_interval(times: NDArray[np.float64], of: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return how many times as long something takes, with a 95% bootstrap interval over rounds.

    Args:
        times: Of each round ``[rounds]``.
        of: Of what it is compared with, in the same rounds.
    """
    ratios = times / of
    rng = np.random.default_rng(0)
    drawn = np.median(ratios[rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def judge(
    named: Sequence[tuple[str, str, str, int]],
    times: NDArray[np.float64],
    counts: Sequence[int],
    *,
    batch: int,
    threads: int,
    cores: tuple[int, ...],
) -> PairedTiming:
    """Return what came of :func:`in_turns`.

    Args:
        named: Name, engine, precision and resolution of each.
        times: ``[rounds, candidates]``.
        counts: Calls of each.
        batch: Images in a call.
        threads: That computed.
        cores: That the process was held to.
    """
    networks = []
    for place, (name, engine, precision, resolution) in enumerate(named):
        ratio, low, high = ratio_interval(times[:, place], times[:, 0])
        networks.append(
            TimedNetwork(
                name=name,
                engine=engine,
                precision=precision,
                resolution=resolution,
                median_ms=float(np.median(times[:, place])),
                ratio=ratio,
                low=low,
                high=high,
                calls=counts[place],
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


def _turn(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        times.append((time.perf_counter() - before) * 1e3)
    return times
