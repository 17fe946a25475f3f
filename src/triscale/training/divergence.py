"""Detection of diverging training: a robust z-score of recent losses against those before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 128
"""Number of recent steps whose losses are kept."""

SPIKE = 8
"""Number of most recent steps that must all lie above the threshold."""

THRESHOLD = 8.0
"""Robust standard deviations (1.4826 x median absolute deviation) above the median of the steps before."""

_MIN_LOSSES = 32
_MIN_RISE = 0.5  # nats; with nearly constant losses the deviation is tiny, and any noise would count as divergence


def diverging_since(losses: Sequence[float]) -> int | None:
    """Return how many steps ago the losses started to diverge, 1 for the last step, or None if they do not.

    Args:
        losses: Mean losses of steps in order, the newest last, at most :data:`WINDOW`; NaN for skipped steps.

    Example:
        >>> diverging_since([1.0] * 100 + [9.0] * 8)
        8
        >>> diverging_since([1.0] * 108) is None
        True
    """
    values = np.asarray(losses, dtype=np.float64)
    earlier, spike = values[:-SPIKE], values[-SPIKE:]
    finite = earlier[np.isfinite(earlier)]
    if len(finite) < _MIN_LOSSES:
        return None
    bound = _bound(finite)
    # A comparison with NaN is false, so a skipped step among the last ones defers the decision.
    if not (spike > bound).all():
        return None
    # The rise may have started before the last SPIKE steps: walk back to its first step.
    above = values > bound
    first = len(values)
    while first > 0 and above[first - 1]:
        first -= 1
    return len(values) - first


def _bound(losses: NDArray[np.float64]) -> float:
    median = float(np.median(losses))
    # 1.4826 makes the median absolute deviation an estimate of the standard deviation of normal noise.
    deviation = 1.4826 * float(np.median(np.abs(losses - median)))
    return median + max(THRESHOLD * deviation, _MIN_RISE)
