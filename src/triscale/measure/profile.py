"""From the timings of a device to a predictor: what parts took, corrected by what whole networks took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from triscale.errors import JobError
from triscale.network.latency import NAMES, DeviceProfile, Predictor, Timing, predict_figures

REFITS = 8
OUTLIER = 0.1
"""Timings that miss by more than this count for less in the next fit: something else wanted the machine."""
MEMORY = "memory."

Array = NDArray[np.float64]


def fit_predictor(profile: DeviceProfile) -> Predictor:
    """Return the predictor of a profile whose timings are all there.

    Each timing counts by its relative error. Figures get their times from the parts, by least squares without negative
    times; then the whole networks give one factor to all of them, and a time to what comes from memory once a run is
    as large as a network.

    Raises:
        JobError: There are no parts, no whole networks or none held out.
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
    """Return how much slower the device was in its slow tenth of the time than in its fast one; a forecast is median.

    0 is a device that does nothing else and keeps its clock.
    """
    low, high = np.percentile([timing.beside for timing in profile.timings], [10, 90])
    return float(high / low - 1)


def misses(profile: DeviceProfile, predictor: Predictor) -> list[tuple[str, float, float]]:
    """Return name, measured and forecast milliseconds of each network that was held out."""
    usual = float(np.median([timing.beside for timing in profile.timings]))
    return [
        (timing.name, timing.milliseconds / timing.beside * usual, predict_figures(predictor, timing.figures))
        for timing in profile.timings
        if timing.role == "held out"
    ]


def _of_role(timings: Sequence[Timing], role: str, usual: float) -> tuple[Array, Array]:
    """Return figures ``[timings, names]`` and milliseconds ``[timings]`` at the device's usual speed."""
    chosen = [timing for timing in timings if timing.role == role]
    figures = np.array([[timing.figures.get(name, 0.0) for name in NAMES] for timing in chosen])
    times = np.array([timing.milliseconds / timing.beside * usual for timing in chosen])
    return figures.reshape(len(chosen), len(NAMES)), times


def _robust(figures: Array, times: Array) -> Array:
    """Return the times of figures, never negative, by relative errors; outliers count for less."""
    relative = figures / times[:, None]
    weights = np.ones(len(times))
    found: Array = np.zeros(figures.shape[1])
    for _ in range(REFITS):
        found, _ = nnls(relative * weights[:, None], weights)
        off = np.abs(relative @ found - 1)
        weights = np.sqrt(1 / np.maximum(1.0, off / OUTLIER))
    return found
