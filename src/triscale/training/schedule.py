"""Schedules as functions of progress, with no optimizer inside."""

from __future__ import annotations

import math

from triscale.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then the recipe's schedule to its end."""
    epoch = step / steps_per_epoch
    warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
    if epoch < warmup:
        return recipe.learning_rate * min(1.0, (step + 1) / (warmup * steps_per_epoch))
    progress = (epoch - warmup) / (recipe.epochs - warmup)
    final = recipe.schedule.final
    return recipe.learning_rate * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


def ema_decay(recipe: Recipe, step: int) -> float:
    """Return the decay of the moving average at a step, counted from 0: ``min(decay, (1 + n) / (10 + n))``."""
    return min(recipe.ema_decay, (1 + step) / (10 + step))
