"""Schedules as functions of progress, with no optimizer inside."""

from __future__ import annotations

import math
from typing import assert_never

from triscale.training.recipe import Cosine, Recipe, Staircase


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then the recipe's schedule."""
    epoch, peak, schedule = step / steps_per_epoch, recipe.peak_learning_rate, recipe.schedule
    match schedule:
        case Cosine():
            warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
            if epoch < warmup:
                return peak * min(1.0, (step + 1) / (warmup * steps_per_epoch))
            progress = (epoch - warmup) / (recipe.epochs - warmup)
            return peak * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2)
        case Staircase():
            # As the released code: warm-up from exactly 0, and stairs that are counted from step 0 on.
            if epoch < recipe.warmup_epochs:
                return peak * epoch / recipe.warmup_epochs
            return peak * schedule.factor ** math.floor(epoch / schedule.epochs)
        case _:
            assert_never(schedule)


def ema_decay(recipe: Recipe, step: int) -> float:
    """Return the decay of the moving average at a step, counted from 0: ``min(decay, (1 + n) / (10 + n))``."""
    return min(recipe.ema_decay, (1 + step) / (10 + step))
