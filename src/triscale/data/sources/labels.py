"""The label of an image: its class, or any number of them."""

from __future__ import annotations

Label = int | tuple[int, ...]
"""Index of the one class of an image, or the sorted indices of its labels if images have any number of them."""


def classes_of(label: Label) -> tuple[int, ...]:
    """Return the indices of the classes that a label stands for.

    Example:
        >>> classes_of(3), classes_of((0, 2)), classes_of(())
        ((3,), (0, 2), ())
    """
    return (label,) if isinstance(label, int) else label


def shown_label(label: Label, classes: tuple[str, ...]) -> str:
    """Return the text of a label: the name of its class, or the names of its labels separated by ``|``.

    Example:
        >>> shown_label(1, ("cat", "dog")), shown_label((0, 1), ("cat", "dog"))
        ('dog', 'cat|dog')
    """
    return "|".join(classes[index] for index in classes_of(label))
