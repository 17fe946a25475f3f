"""The default recipe for a number of training images: epochs, batch size and learning rate.

A training needs a number of steps more than a number of epochs: 30 epochs of 300 images are 150 steps of 64, too few to
leave chance level, and 30 epochs of a million images are more than most networks can use. Both extremes are avoided by
epochs that fall with the square root of the number of images, so that the steps still grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from triscale.training.recipe import AutomaticField, Recipe

REFERENCE_IMAGES = 10_000
"""Training images for which the default recipes are used as they are."""
MIN_EPOCHS, MAX_EPOCHS = 5, 100
MIN_BATCH = 16
"""Batch norm needs about this many images; smaller batches are used only where memory is short."""
MIN_STEPS_PER_EPOCH = 12
"""The batch is halved, down to ``MIN_BATCH``, until an epoch has this many steps."""


def automatic(recipe: Recipe, fields: Collection[AutomaticField], images: int, max_batch: int | None = None) -> Recipe:
    """Return a recipe whose fields fit the number of training images.

    Args:
        recipe: A default recipe, which suits :data:`REFERENCE_IMAGES`.
        fields: The fields to decide; the others are kept.
        images: Number of training images.
        max_batch: Largest batch that fits into memory; None if unknown.

    Example:
        >>> from triscale.training.recipe import FINETUNE, SMALL
        >>> every = ("epochs", "batch", "learning_rate")
        >>> [automatic(SMALL, every, images).epochs for images in (300, 1000, 10_000, 100_000)]
        [100, 95, 30, 9]
        >>> [automatic(FINETUNE, every, images).batch for images in (200, 500, 2000)]
        [16, 32, 64]
    """
    changes: dict[str, object] = {}
    if "epochs" in fields:
        changes["epochs"] = automatic_epochs(recipe.epochs, images)
    if "batch" in fields:
        batch = automatic_batch(recipe.batch, images, max_batch)
        changes["batch"] = batch
        if "learning_rate" in fields:
            # Adam's steps do not grow with the gradient, and its noise falls with the square root of the batch
            # (Malladi et al. 2022, https://arxiv.org/abs/2205.10287).
            changes["learning_rate"] = recipe.learning_rate * math.sqrt(batch / recipe.batch)
    return recipe.replace(**changes)


def automatic_epochs(epochs: int, images: int) -> int:
    """Return the epochs for a number of images: those of the recipe at 10,000 images, falling with the square root.

    Example:
        >>> [automatic_epochs(30, images) for images in (500, 5000, 50_000, 1_281_167)]
        [100, 42, 13, 5]
    """
    return min(MAX_EPOCHS, max(MIN_EPOCHS, round(epochs * math.sqrt(REFERENCE_IMAGES / max(1, images)))))


def automatic_batch(batch: int, images: int, max_batch: int | None = None) -> int:
    """Return the batch size for a number of images: a power of two, at most the recipe's and what fits into memory.

    Example:
        >>> automatic_batch(64, 300), automatic_batch(64, 10_000), automatic_batch(64, 10_000, max_batch=40)
        (16, 64, 32)
    """
    chosen = batch
    while chosen // 2 >= MIN_BATCH and images < chosen * MIN_STEPS_PER_EPOCH:
        chosen //= 2
    while max_batch is not None and chosen > max_batch and chosen >= 4:
        chosen //= 2
    return chosen
