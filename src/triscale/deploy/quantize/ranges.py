"""Ranges of activations from calibration images, computed in several ways.

- ``extremes``: minimum and maximum over all images. One outlier coarsens the steps for all others.
- ``means``: means of each image's minimum and maximum. Values that are large in few images are clipped.
- ``least_squares``: the range with the smallest mean squared error, of clipping and rounding together.

None of them is the best for every network: clipped logits tie, and a long tail of a feature map is better clipped. So
each quantizer compares them by the logits of calibration images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.quantize.noise import signal_to_noise_ratio

COMPARED = 64
"""Number of calibration images for comparing ways to compute ranges."""
LEVELS = 255
BINS = 2048
MAX_SAMPLES = 4096
"""Maximum number of values of one feature map in a histogram; extremes are of all values."""
SHRUNK = np.linspace(0.02, 1, 50)
"""Bounds that are tried, as shares of the extremes."""

ValueRange = tuple[float, float]
Activations = Mapping[str, NDArray[np.float32]]
"""The values of one image by name."""
_Candidate = TypeVar("_Candidate")


def ways_of_ranges(activations: Callable[[], Iterable[Activations]]) -> dict[str, dict[str, ValueRange]]:
    """Return the range of each value, for each way.

    Args:
        activations: Computes all values, image by image; called twice, since a histogram needs its bounds.
    """
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    for image in activations():
        for name, values in image.items():
            lows.setdefault(name, []).append(float(values.min()))
            highs.setdefault(name, []).append(float(values.max()))
    extremes = {name: (min(lows[name]), max(highs[name])) for name in lows}
    means = {name: (float(np.mean(lows[name])), float(np.mean(highs[name]))) for name in lows}
    counts = {name: np.zeros(BINS) for name in lows}
    rng = np.random.default_rng(0)
    for image in activations():
        for name, values in image.items():
            flat = values.ravel()
            stride = -(-flat.size // MAX_SAMPLES)
            counts[name] += np.histogram(flat[rng.integers(stride) :: stride], BINS, extremes[name])[0]
    squares = {name: least_squares_range(counts[name], *extremes[name]) for name in lows}
    return {"extremes": extremes, "means": means, "least_squares": squares}


def least_squares_range(counts: NDArray[np.float64], low: float, high: float) -> ValueRange:
    """Return the range whose rounding to 256 levels has the smallest mean squared error.

    Values outside of a range are clipped, which costs the square of their distance; values inside are rounded, which
    costs a twelfth of the squared step. 0 is always a level, so that the many zeros behind a ReLU cost nothing.

    Args:
        counts: Histogram of the values from ``low`` to ``high``, in bins of equal width.
        low: Minimum of all values.
        high: Maximum of all values.

    Example:
        >>> least_squares_range(np.ones(100), -1.0, 1.0)  # without a tail, nothing is clipped
        (-1.0, 1.0)
        >>> least_squares_range(np.r_[np.ones(100), np.zeros(899), 1e-6], 0.0, 10.0)
        (0.0, 1.0)
    """
    edges = np.linspace(low, high, len(counts) + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    rounded = np.where((edges[:-1] <= 0) & (edges[1:] > 0), 0.0, counts)
    below = np.minimum(low, 0) * SHRUNK[:, None]
    above = np.maximum(high, 0) * SHRUNK[:, None]
    # Each bound clips by itself; only the step depends on both.
    clipped_below = np.square(np.maximum(below - centers, 0)) @ counts
    clipped_above = np.square(np.maximum(centers - above, 0)) @ counts
    inside_below = ((centers >= below) & (centers < 0)) @ rounded
    inside_above = ((centers <= above) & (centers >= 0)) @ rounded
    squared_steps = np.square((above.T - below) / LEVELS)
    errors = clipped_below[:, None] + clipped_above + squared_steps / 12 * (inside_below[:, None] + inside_above)
    lowest, highest = np.unravel_index(int(errors.argmin()), errors.shape)
    # A bound without any values on its side is 0.
    return float(below[lowest, 0]), float(above[highest, 0])


def best_by_logits(
    candidates: Iterable[_Candidate],
    logits: Callable[[_Candidate], NDArray[np.float32]],
    exact: NDArray[np.float32],
) -> _Candidate:
    """Return the candidate whose logits have the highest median signal-to-noise ratio over images.

    Args:
        candidates: Ranges, or whatever else is compared.
        logits: Returns the logits ``[N, classes]`` of the model quantized with a candidate.
        exact: The logits of the float model for the same images.
    """

    def signal(candidate: _Candidate) -> float:
        pairs = zip(exact, logits(candidate), strict=True)
        return float(np.median([signal_to_noise_ratio(*pair) for pair in pairs]))

    return max(candidates, key=signal)


def one_by_one(images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield images ``[N, C, H, W]`` as batches of one."""
    return (image[None] for image in images)
