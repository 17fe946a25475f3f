"""Schedules as pure functions of progress, independent of the optimizer."""

from __future__ import annotations

import math
from typing import assert_never

from triscale.training.recipe import Cosine, Recipe, Staircase


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step: linear warm-up, then the recipe's schedule.

    Args:
        recipe: The recipe.
        step: The step, counted from 0.
        steps_per_epoch: Steps of an epoch.

    Example:
        >>> from triscale.training.recipe import Recipe
        >>> recipe = Recipe(epochs=10, warmup_epochs=2, learning_rate=1.0)
        >>> [round(learning_rate(recipe, step, 10), 3) for step in (0, 19, 60, 99)]
        [0.05, 1.0, 0.5, 0.0]
    """
    epoch, peak, schedule = step / steps_per_epoch, recipe.peak_learning_rate, recipe.schedule
    match schedule:
        case Cosine():
            warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
            if epoch < warmup:
                return peak * min(1.0, (step + 1) / (warmup * steps_per_epoch))
            progress = (epoch - warmup) / (recipe.epochs - warmup)
            return peak * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2)
        case Staircase():
            # As in the released EfficientNet code: the warm-up starts at exactly 0, and decay counts from step 0.
            if epoch < recipe.warmup_epochs:
                return peak * epoch / recipe.warmup_epochs
            return peak * schedule.factor ** math.floor(epoch / schedule.epochs)
        case _:
            assert_never(schedule)


def ema_decay(recipe: Recipe, step: int) -> float:
    """Return the decay of the moving average at step n, counted from 0: ``min(decay, (1 + n) / (10 + n))``.

    Example:
        >>> from triscale.training.recipe import Recipe
        >>> ema_decay(Recipe(), 0)
        0.1
    """
    return min(recipe.ema_decay, (1 + step) / (10 + step))
