"""Divide images with any number of labels so that each part has its share of every label.

This is iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): labels are treated from the rarest on, since
their images leave the least choice, and each image goes to the part that lacks its label most.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class LabeledUnit(NamedTuple):
    """Images that stay together.

    Attributes:
        name: Decides the order.
        labels: The labels that any of them has.
        size: Number of images.
    """

    name: str
    labels: tuple[int, ...]
    size: int = 1


def divide_labels(units: Sequence[LabeledUnit], share: float, seed: int, keep: int) -> set[int]:
    """Return which units are taken, as positions.

    Args:
        units: The units, in any order.
        share: Share of the images of each label to take; at least one unit of each label.
        seed: Another seed gives another choice.
        keep: Units of each label that are not taken.

    Example:
        >>> units = [LabeledUnit(f"{i}.png", (i % 2, 2)) for i in range(20)]
        >>> taken = divide_labels(units, share=0.2, seed=0, keep=1)
        >>> len(taken), sum(0 in units[i].labels for i in taken)
        (4, 2)
    """
    order = sorted(
        range(len(units)), key=lambda i: (hashlib.sha256(f"{seed}/{units[i].name}".encode()).digest(), units[i].name)
    )
    remaining, images = Counter[int](), Counter[int]()
    for unit in units:
        for label in unit.labels:
            remaining[label] += 1
            images[label] += unit.size
    left = Counter(remaining)  # units of each label that are not taken
    wanted = {label: max(1.0, share * count) for label, count in images.items()}
    open_units, taken = dict.fromkeys(order), set[int]()
    while any(remaining.values()):
        label = min((one for one in remaining if remaining[one]), key=lambda one: (remaining[one], one))
        for i in [i for i in open_units if label in units[i].labels]:
            unit = units[i]
            if wanted[label] > unit.size / 2 and all(left[one] > keep for one in unit.labels):
                taken.add(i)
                for one in unit.labels:
                    wanted[one] -= unit.size
                    left[one] -= 1
            for one in unit.labels:
                remaining[one] -= 1
            del open_units[i]
    without = list(open_units)  # units without a label
    return taken.union(without[: round(share * len(without))])
