"""Divergence: losses that leave what they were, by a robust z-score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 128
"""Steps whose losses are remembered."""

SPIKE = 8
"""Steps in a row, the last ones, that must all lie above the threshold."""

THRESHOLD = 8.0
"""Robust standard deviations (1.4826 x median absolute deviation) above the median of the steps before."""

_FEWEST = 32
_MIN_RISE = 0.5  # nats; losses that hardly vary would else give any of them away


def diverging_since(losses: Sequence[float]) -> int | None:
    """Return how many steps ago the losses rose for good, 1 for the last step, or None while all is well.

    Args:
        losses: mean losses of steps in order, the newest last, at most :data:`WINDOW`; NaN for steps that were undone.
    """
    values = np.asarray(losses, dtype=np.float64)
    before, spike = values[:-SPIKE], values[-SPIKE:]
    known = before[np.isfinite(before)]
    if len(known) < _FEWEST:
        return None
    bound = _bound(known)
    # A comparison with NaN is false: an undone step says nothing about the others.
    if not (spike > bound).all():
        return None
    above = values > bound
    first = len(values)
    while first > 0 and above[first - 1]:
        first -= 1
    return len(values) - first


def _bound(known: NDArray[np.float64]) -> float:
    median = float(np.median(known))
    deviation = 1.4826 * float(np.median(np.abs(known - median)))
    return median + max(THRESHOLD * deviation, _MIN_RISE)
