"""Fit the latency predictor of a device profile: coefficients from parts of networks, corrected by whole networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from triscale.errors import JobError
from triscale.network.latency import NAMES, DeviceProfile, Predictor, Timing, predict_figures

REFITS = 8
OUTLIER = 0.1
"""Relative residual above which a timing is down-weighted, since other processes may have used the CPU."""
MEMORY = "memory."

Array = NDArray[np.float64]


def fit_predictor(profile: DeviceProfile) -> Predictor:
    """Fit the predictor of a profile with all timings.

    Fits minimize relative errors. First, nonnegative least squares on the parts determines the coefficients. Then the
    whole networks determine a common factor and the coefficients of memory traffic, which parts cannot show since they
    fit into the cache.

    Raises:
        JobError: There are no parts, no whole networks or no held-out networks.
    """
    reference = float(np.median([timing.reference_ms for timing in profile.timings])) if profile.timings else 1.0
    parts, part_times = _of_role(profile.timings, "part", reference)
    wholes, whole_times = _of_role(profile.timings, "whole", reference)
    held_out, held_out_times = _of_role(profile.timings, "held out", reference)
    if not (len(parts) and len(wholes) and len(held_out)):
        raise JobError("the profile has too few timings to fit a predictor; run the same command again to complete it")
    coefficients = _robust_fit(parts, part_times)
    is_memory = np.array([name.startswith(MEMORY) for name in NAMES])
    coefficients[is_memory] = 0.0
    factors = _robust_fit(np.column_stack([wholes @ coefficients, wholes[:, is_memory]]), whole_times)
    coefficients = coefficients * factors[0]
    coefficients[is_memory] = factors[1:]
    milliseconds = {name: float(value) for name, value in zip(NAMES, coefficients, strict=True) if value > 0}
    errors = np.abs(held_out @ coefficients / held_out_times - 1)
    return Predictor(
        engine=profile.engine,
        threads=profile.threads,
        processor=profile.processor,
        milliseconds=milliseconds,
        error=float(np.median(errors)),
        error_90=float(np.percentile(errors, 90)),
        held_out=len(held_out_times),
    )


def measurement_noise(profile: DeviceProfile) -> float:
    """Return the relative difference between the 90th and 10th percentile of the reference network's latency.

    On an idle device with a constant clock frequency it is close to 0.
    """
    low, high = np.percentile([timing.reference_ms for timing in profile.timings], [10, 90])
    return float(high / low - 1)


def held_out_predictions(profile: DeviceProfile, predictor: Predictor) -> list[tuple[str, float, float]]:
    """Return name, measured and predicted latency in milliseconds of each held-out network."""
    reference = float(np.median([timing.reference_ms for timing in profile.timings]))
    return [
        (timing.name, timing.milliseconds / timing.reference_ms * reference, predict_figures(predictor, timing.figures))
        for timing in profile.timings
        if timing.role == "held out"
    ]


def _of_role(timings: Sequence[Timing], role: str, reference: float) -> tuple[Array, Array]:
    """Return features ``[timings, names]`` and milliseconds ``[timings]``, normalized to the device's median speed."""
    chosen = [timing for timing in timings if timing.role == role]
    figures = np.array([[timing.figures.get(name, 0.0) for name in NAMES] for timing in chosen])
    times = np.array([timing.milliseconds / timing.reference_ms * reference for timing in chosen])
    return figures.reshape(len(chosen), len(NAMES)), times


def _robust_fit(figures: Array, times: Array) -> Array:
    """Fit nonnegative coefficients to relative errors by iteratively reweighted least squares (Huber weights)."""
    relative = figures / times[:, None]
    weights = np.ones(len(times))
    coefficients: Array = np.zeros(figures.shape[1])
    for _ in range(REFITS):
        coefficients, _ = nnls(relative * weights[:, None], weights)
        residuals = np.abs(relative @ coefficients - 1)
        weights = np.sqrt(1 / np.maximum(1.0, residuals / OUTLIER))
    return coefficients
