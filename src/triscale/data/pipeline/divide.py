"""Divide the images of a dataset into shares of every class, determined only by a seed and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from triscale.data.pipeline.group_divide import divide_groups
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError

_Unit = tuple[ScannedImage, ...]
"""An image and its duplicates, which stay in one split; the first one decides order and class."""

_PURPOSES = {2: "one for training and one for validation", 3: "one each for training, validation and test"}


def divide(
    scan: Scan, images: Sequence[ScannedImage], same: Mapping[str, str], shares: Sequence[float], seed: int | str
) -> list[list[ScannedImage]]:
    """Divide images into one set for each share and the rest, stratified by class.

    Each share is one of what the earlier ones leave. Every set has an image of every class. Duplicates stay together,
    and so do the images of a group if the scan is grouped.

    Args:
        scan: The dataset, for its classes and what its groups follow from.
        images: The images to divide.
        same: The first of the duplicates of an image that has any.
        shares: Fraction of every class for each set, between 0 and 1.
        seed: Another seed gives other sets.

    Raises:
        DataError: A class has too few different images, or images of too few groups.
    """
    if scan.grouped_by or scan.multi_label:
        return divide_groups(scan, images, same, shares, seed)
    units = _units(images, same)
    _check_enough(scan.classes, units, len(shares) + 1, _PURPOSES[len(shares) + 1])
    sets = []
    for number, share in enumerate(shares):
        taken, units = _divide(units, share, seed, keep=len(shares) - number)
        sets.append(_images(taken))
    return [*sets, _images(units)]


def _units(images: Iterable[ScannedImage], same: Mapping[str, str]) -> list[_Unit]:
    units: dict[str, list[ScannedImage]] = {}
    for image in sorted(images, key=lambda image: image.path):
        units.setdefault(same.get(image.path, image.path), []).append(image)
    return [tuple(unit) for unit in units.values()]


def _images(units: Iterable[_Unit]) -> list[ScannedImage]:
    return [image for unit in units for image in unit]


def _divide(units: Sequence[_Unit], share: float, seed: int | str, keep: int) -> tuple[list[_Unit], list[_Unit]]:
    """Divide into a share of every class and the rest, which keeps at least ``keep`` different images per class."""
    taken: list[_Unit] = []
    rest: list[_Unit] = []
    for of_class in _by_class(units).values():
        ordered = sorted(of_class, key=lambda unit: hashlib.sha256(f"{seed}/{unit[0].path}".encode()).digest())
        smallest = min(ordered, key=len)
        room = max(len(smallest), round(share * sum(map(len, ordered))))
        max_units = len(ordered) - keep
        chosen: list[_Unit] = []
        for unit in ordered:
            if len(chosen) < max_units and len(unit) <= room:
                chosen.append(unit)
                room -= len(unit)
            else:
                rest.append(unit)
        taken += chosen
    return taken, rest


def _by_class(units: Iterable[_Unit]) -> dict[int, list[_Unit]]:
    classes: dict[int, list[_Unit]] = {}
    for unit in units:
        classes.setdefault(unit[0].labels[0], []).append(unit)
    return classes


def _check_enough(classes: tuple[str, ...], units: Iterable[_Unit], needed: int, why: str) -> None:
    counts = {label: len(of_class) for label, of_class in _by_class(units).items()}
    few = [f"{name} has {counts.get(i, 0)}" for i, name in enumerate(classes) if counts.get(i, 0) < needed]
    if few:
        raise DataError(
            f"too few images to split: {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}; every class needs at "
            f"least {needed} images that are not copies of each other, {why}"
        )
