"""The default recipe for a number of training images and initial weights: epochs, batch size, learning rate.

A training needs a number of steps more than a number of epochs: 30 epochs of 300 images are 150 steps of 64, too few
for random weights, and 30 epochs of a million images are more than most networks can use. Both extremes are avoided by
epochs that fall with the square root of the number of images, so that the number of images seen still grows with it.
docs/explanation/training.md has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from triscale.training.recipe import AutomaticField, Recipe

Start = Literal["random", "same", "inherited"]
"""The initial weights: random, those of the same network, or inherited from a network of another size."""

REFERENCE_IMAGES = 10_000
"""Training images for which the default recipes are used as they are."""
MIN_EPOCHS = 5
MAX_EPOCHS: dict[Start, int] = {"random": 100, "same": 40, "inherited": 40}
"""Pretrained weights need fewer epochs of a small set than random ones."""
MIN_BATCH = 16
"""Batch norm needs about this many images; smaller batches are used only where memory is short."""
MIN_STEPS_PER_EPOCH = 12
"""The batch is halved, down to ``MIN_BATCH``, until an epoch has this many steps."""
INHERITED_RATE = 0.5
"""Factor on the learning rate of fine-tuning: at the full rate, inherited weights could fall to chance
(benchmarks/inherited_rate.py)."""


def automatic(
    recipe: Recipe,
    fields: Collection[AutomaticField],
    images: int,
    *,
    start: Start = "random",
    max_batch: int | None = None,
) -> Recipe:
    """Return a recipe whose fields fit the number of training images and the initial weights.

    The learning rate does not depend on the batch size: with Adam and 16 to 64 images, the rate of 64 is no worse for
    16 than its half, which the square-root rule gives.

    Args:
        recipe: A default recipe, which suits :data:`REFERENCE_IMAGES`.
        fields: The fields to decide; the others are kept.
        images: Number of training images.
        start: The initial weights.
        max_batch: Largest batch that fits into memory; None if unknown.

    Example:
        >>> from triscale.training.recipe import FINETUNE, SMALL
        >>> [automatic(SMALL, ["epochs"], images).epochs for images in (300, 1000, 10_000, 100_000)]
        [100, 95, 30, 9]
        >>> [automatic(FINETUNE, ["batch"], images, start="same").batch for images in (200, 500, 2000)]
        [16, 32, 64]
    """
    changes: dict[str, object] = {}
    if "epochs" in fields:
        changes["epochs"] = automatic_epochs(recipe.epochs, images, MAX_EPOCHS[start])
    if "batch" in fields:
        changes["batch"] = automatic_batch(recipe.batch, images, max_batch)
    if "learning_rate" in fields and start == "inherited":
        changes["learning_rate"] = recipe.learning_rate * INHERITED_RATE
    return recipe.replace(**changes)


def automatic_epochs(epochs: int, images: int, max_epochs: int = MAX_EPOCHS["random"]) -> int:
    """Return the epochs for a number of images: those of the recipe at 10,000 images, falling with the square root.

    Example:
        >>> [automatic_epochs(30, images) for images in (500, 5000, 50_000, 1_281_167)]
        [100, 42, 13, 5]
    """
    return min(max_epochs, max(MIN_EPOCHS, round(epochs * math.sqrt(REFERENCE_IMAGES / max(1, images)))))


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
