"""Fit a latency predictor to the timings of a device: coefficients from parts, corrected by whole networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from triscale.errors import JobError
from triscale.network.latency import NAMES, DeviceProfile, Predictor, Timing, predict_figures

REFITS = 8
OUTLIER = 0.1
"""Relative residual above which a timing gets less weight: other processes may have used the CPU."""
MEMORY = "memory."

Array = NDArray[np.float64]


def fit_predictor(profile: DeviceProfile) -> Predictor:
    """Fit the predictor of a profile with all timings.

    Fits minimize relative errors. The parts give the coefficients by nonnegative least squares. The whole networks then
    give one common factor, and the coefficients of memory traffic, which parts do not show because they fit the cache.

    Raises:
        JobError: There are no parts, no whole networks or no held-out networks.
    """
    usual = float(np.median([timing.beside for timing in profile.timings])) if profile.timings else 1.0
    parts, part_times = _of_role(profile.timings, "part", usual)
    wholes, whole_times = _of_role(profile.timings, "whole", usual)
    held, held_times = _of_role(profile.timings, "held out", usual)
    if not (len(parts) and len(wholes) and len(held)):
        raise JobError("the profile holds too few timings for a forecast; the same command takes the others")
    times = _robust(parts, part_times)
    distant = np.array([name.startswith(MEMORY) for name in NAMES])
    times[distant] = 0.0
    factors = _robust(np.column_stack([wholes @ times, wholes[:, distant]]), whole_times)
    times = times * factors[0]
    times[distant] = factors[1:]
    milliseconds = {name: float(value) for name, value in zip(NAMES, times, strict=True) if value > 0}
    errors = np.abs(held @ times / held_times - 1)
    return Predictor(
        engine=profile.engine,
        threads=profile.threads,
        processor=profile.processor,
        milliseconds=milliseconds,
        error=float(np.median(errors)),
        error_90=float(np.percentile(errors, 90)),
        held_out=len(held_times),
    )


def measurement_noise(profile: DeviceProfile) -> float:
    """Return the relative difference between the 90th and 10th percentile of the reference network's latency.

    It is 0 for an idle device with a constant clock frequency.
    """
    low, high = np.percentile([timing.beside for timing in profile.timings], [10, 90])
    return float(high / low - 1)


def misses(profile: DeviceProfile, predictor: Predictor) -> list[tuple[str, float, float]]:
    """Return name, measured and predicted milliseconds of each held-out network."""
    usual = float(np.median([timing.beside for timing in profile.timings]))
    return [
        (timing.name, timing.milliseconds / timing.beside * usual, predict_figures(predictor, timing.figures))
        for timing in profile.timings
        if timing.role == "held out"
    ]


def _of_role(timings: Sequence[Timing], role: str, usual: float) -> tuple[Array, Array]:
    """Return figures ``[timings, names]`` and milliseconds ``[timings]``, normalized to the device's median speed."""
    chosen = [timing for timing in timings if timing.role == role]
    figures = np.array([[timing.figures.get(name, 0.0) for name in NAMES] for timing in chosen])
    times = np.array([timing.milliseconds / timing.beside * usual for timing in chosen])
    return figures.reshape(len(chosen), len(NAMES)), times


def _robust(figures: Array, times: Array) -> Array:
    """Fit nonnegative coefficients to relative errors by iteratively reweighted least squares (Huber weights)."""
    relative = figures / times[:, None]
    weights = np.ones(len(times))
    found: Array = np.zeros(figures.shape[1])
    for _ in range(REFITS):
        found, _ = nnls(relative * weights[:, None], weights)
        off = np.abs(relative @ found - 1)
        weights = np.sqrt(1 / np.maximum(1.0, off / OUTLIER))
    return found
