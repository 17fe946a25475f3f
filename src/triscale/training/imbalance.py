"""The objective of a training: the recipe's loss, with weights and offsets from the training images' classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from triscale.data.pipeline.split import Split
from triscale.errors import RecipeError
from triscale.training.objective import Asymmetric, Objective
from triscale.training.recipe import Recipe


def objective_of(recipe: Recipe, split: Split) -> Objective:
    """Return the objective of training with a recipe on the images of a split.

    Args:
        recipe: Gives the loss and what is done about imbalance.
        split: Its training images give the frequency of each class, and whether images have several labels.

    Raises:
        RecipeError: The loss is only for several labels per image, which these images do not have.

    Example:
        >>> from triscale.data.pipeline.split import Sample
        >>> train = tuple(Sample(f"{i}.png", int(i == 0)) for i in range(4))
        >>> split = Split(root="/p", classes=("a", "b"), train=train, val=(), test=(), seed=0, how="")
        >>> objective_of(Recipe(class_weights="balanced"), split).class_weights
        (0.6666666666666666, 2.0)
    """
    multi_label = split.multi_label
    if isinstance(recipe.loss, Asymmetric) and not multi_label:
        raise RecipeError(
            "the loss asymmetric is for images with any number of labels, but every image here has one label; use "
            "cross_entropy or focal"
        )
    counts, images = class_counts(split), len(split.train)
    weights = offsets = None
    if recipe.class_weights == "balanced":
        of_class = (images - counts) / np.maximum(counts, 1) if multi_label else images / (len(counts) * counts)
        weights = tuple(float(value) for value in of_class)
    if recipe.logit_adjustment:
        share = np.clip(counts / images, 0.5 / images, 1 - 0.5 / images)
        log_odds = np.log(share) - (np.log1p(-share) if multi_label else 0.0)
        offsets = tuple(float(value) for value in recipe.logit_adjustment * log_odds)
    return Objective(
        multi_label=multi_label,
        loss=recipe.loss,
        label_smoothing=0.0 if multi_label else recipe.label_smoothing,
        class_weights=weights,
        offsets=offsets,
    )


def image_weights(split: Split) -> NDArray[np.float64]:
    """Return how often each training image is drawn with balanced sampling, relative to others.

    All classes are drawn equally often. An image with several labels counts by the rarest; those without labels are
    like one more class.
    """
    counts = class_counts(split)
    without = sum(not sample.labels for sample in split.train)
    return np.array(
        [1 / min((counts[label] for label in sample.labels), default=without) for sample in split.train], np.float64
    )


def class_counts(split: Split) -> NDArray[np.float64]:
    """Return the number of training images of each class; images with several labels count for each."""
    labels = [label for sample in split.train for label in sample.labels]
    return np.bincount(np.array(labels, dtype=np.int64), minlength=len(split.classes)).astype(np.float64)
