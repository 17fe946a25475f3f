"""A learning-rate range test, and what follows from its rate.

A range test trains for a few steps while the learning rate grows geometrically (Smith 2017,
https://arxiv.org/abs/1506.01186). Its loss rises where the rate becomes too high. From random weights the loss hardly
falls before, so the rate of the lowest or of the steepest loss is noise; the edge, where it has clearly risen, is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from triscale.training.recipe import AdamW, Recipe

STEPS = 100
"""Steps of the test."""
LOWEST, HIGHEST = 1 / 50, 20.0
"""The range of the test, relative to the recipe's own rate."""
RISEN = 1.1
"""The edge is the first rate after the lowest smoothed loss at which it has risen by this factor."""
MARGIN = 2.0
"""By how much the chosen rate lies below the edge."""
SMOOTHING = 0.9
DIVERGED = 2.0
"""The test ends once the smoothed loss is this multiple of the lowest."""
MAX_CHANGE = 8.0
"""The rate of a recipe is changed by at most this factor: a test of a few steps can be wrong."""


def range_rates(peak: float, steps: int = STEPS) -> list[float]:
    """Return the rates of a test, from low to high.

    Example:
        >>> rates = range_rates(0.005, steps=3)
        >>> [round(rate, 5) for rate in rates]
        [0.0001, 0.00316, 0.1]
    """
    ratio = HIGHEST / LOWEST
    return [peak * LOWEST * ratio ** (step / (steps - 1)) for step in range(steps)]


def smoothed_losses(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, without the bias towards its start.

    Example:
        >>> smoothed_losses([2.0, 2.0])
        [2.0, 2.0]
    """
    average, result = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        result.append(average / (1 - SMOOTHING**number))
    return result


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a test can end: the loss is not finite, or far above its lowest.

    Example:
        >>> has_diverged([2.0, 1.0]), has_diverged([2.0, math.nan])
        (False, True)
    """
    if not losses:
        return False
    smoothed = smoothed_losses(losses)
    return not math.isfinite(losses[-1]) or smoothed[-1] > DIVERGED * min(smoothed)


def suggested_rate(rates: Sequence[float], losses: Sequence[float], peak: float) -> float:
    """Return the learning rate that a range test suggests.

    Args:
        rates: The rates of the test.
        losses: The loss of each step that was taken; those from the first that is not finite on are ignored.
        peak: The recipe's own rate, which is kept if there is no finite loss, and changed by at most
            :data:`MAX_CHANGE`.

    Returns:
        The rate at the edge, or the last one that was tried, divided by :data:`MARGIN`.

    Example:
        >>> suggested_rate([0.01, 0.02, 0.04, 0.08], [2.0, 1.0, 1.0, 9.0], peak=0.005)
        0.04
    """
    finite = list(losses)
    for number, loss in enumerate(losses):
        if not math.isfinite(loss):
            finite = finite[:number]
            break
    if not finite:
        return peak
    smoothed = smoothed_losses(finite)
    lowest = smoothed.index(min(smoothed))
    edge = next((at for at in range(lowest, len(smoothed)) if smoothed[at] > RISEN * smoothed[lowest]), len(finite) - 1)
    found = rates[edge] / MARGIN
    return min(MAX_CHANGE * peak, max(peak / MAX_CHANGE, found))


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """Return a recipe with another peak learning rate, and the weight decay that goes with it.

    AdamW shrinks weights by rate times decay in each step, so their product decides how long they remember (Wang and
    Aitchison 2024, https://arxiv.org/abs/2405.13698), and it is kept. Other optimizers add the decay to the gradient;
    theirs is unchanged.

    Example:
        >>> changed = with_rate(Recipe(learning_rate=0.005, weight_decay=0.05), 0.01)
        >>> changed.learning_rate, changed.weight_decay
        (0.01, 0.025)
    """
    changes: dict[str, object] = {"learning_rate": rate, "reference_batch": None}
    if isinstance(recipe.optimizer, AdamW):
        changes["weight_decay"] = float(f"{recipe.weight_decay * recipe.peak_learning_rate / rate:.6g}")
    return recipe.replace(**changes)
