"""Decide whether training images are mirrored, where the recipe leaves it to the class names."""

from __future__ import annotations

from collections.abc import Sequence

from triscale.data.checks.mirroring import mirrored_classes
from triscale.training.recipe import Recipe


def with_flip(recipe: Recipe, classes: Sequence[str]) -> Recipe:
    """Return the recipe with ``augmentation.flip`` decided: off where a mirror would change an image's class.

    Args:
        recipe: The recipe; a value of ``flip`` other than None is kept.
        classes: The class names.

    Example:
        >>> with_flip(Recipe(), ("left", "right")).augmentation.flip
        False
        >>> with_flip(Recipe(), ("cat", "dog")).augmentation.flip
        True
    """
    if recipe.augmentation.flip is not None:
        return recipe
    return recipe.replace(augmentation=recipe.augmentation.replace(flip=mirrored_classes(classes) is None))


def flip_note(recipe: Recipe, classes: Sequence[str]) -> str | None:
    """Return a sentence if the class names turn mirroring off, or the recipe mirrors in spite of them."""
    reason = mirrored_classes(classes)
    if reason is None or recipe.augmentation.flip is False:
        return None
    if recipe.augmentation.flip is None:
        return f"images are not mirrored since {reason}; --flip mirrors them"
    return f"images are mirrored although {reason}; --no-flip turns it off"
