"""Divide a dataset into folds for cross-validation: each image is a test image of exactly one fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.divide import divide
from triscale.data.pipeline.group_divide import ATTEMPTS, SplitUnit, UnitSet, check_groups, in_order_of, units_of
from triscale.data.pipeline.split import Split, first_duplicates, split_of
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError
from triscale.record import Record

MIN_FOLDS, MAX_FOLDS = 2, 100
MIN_DIFFERENT = 3
"""Minimum number of different images or groups of a class: one each for training, validation and test."""


class Fold(Record):
    """One fold of a cross-validation.

    Attributes:
        number: From 1 to ``count``.
        count: The number of folds.
    """

    number: int = Field(ge=1)
    count: int = Field(ge=MIN_FOLDS, le=MAX_FOLDS)

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if self.number > self.count:
            raise ValueError(f"there is no fold {self.number} of {self.count}")
        return self


def make_fold(
    scan: Scan, fold: Fold, *, seed: int = 0, val_share: float = 0.1, duplicates: Duplicates | None = None
) -> Split:
    """Return the split of one fold: its images are for testing, a share of the others for validation.

    All images are divided that are not in a given test split, which no fold uses. The images of a group and duplicates
    stay together. The folds are stratified by class, as well as that permits.

    Args:
        scan: The dataset.
        fold: Which of how many folds.
        seed: Another seed gives other folds.
        val_share: Fraction of every class for the validation set, of the images that are not in the fold.
        duplicates: Which images are the same; by default they are searched.

    Raises:
        DataError: A class has too few images, or images of too few groups.

    Example:
        >>> images = [ScannedImage(f"{c}/{i}.png", c, 8, 8, 99, "PNG") for c in (0, 1) for i in range(10)]
        >>> found = Scan(root="/photos", classes=("cat", "dog"), unsplit=tuple(images))
        >>> folds = [make_fold(found, Fold(number=number, count=5)) for number in range(1, 6)]
        >>> [len(split.test) for split in folds], len({sample.path for split in folds for sample in split.test})
        ([4, 4, 4, 4, 4], 20)
    """
    if not 0 < val_share < 1:
        raise DataError(
            f"the share of validation images is {val_share}; expected a number between 0 and 1, such as 0.1"
        )
    same = first_duplicates(scan, duplicates)
    images = scan.unsplit or (*scan.train, *scan.val)
    folds = _deal(scan, images, same, fold.count, seed)

    def divided(number: int) -> list[list[ScannedImage]]:
        others = [image for i, of_fold in enumerate(folds, start=1) if i != number for image in of_fold]
        return divide(scan, others, same, (val_share,), f"{seed}/fold {number}")

    if fold.number == 1:  # so that no later fold fails once this one is trained
        for number in range(2, fold.count + 1):
            divided(number)
    test, (val, train) = folds[fold.number - 1], divided(fold.number)
    aside = f"; the {len(scan.test)} images of the test folder are not used" if scan.test and not scan.unsplit else ""
    name = "group name" if scan.grouped_by else "file name"
    how = (
        f"test: fold {fold.number} of {fold.count}, divided by seed {seed} and {name}; "
        f"validation: {val_share:.3g} of the other images of every class{aside}"
    )
    return split_of(scan, train, val, test, seed, how)


def _deal(
    scan: Scan, images: tuple[ScannedImage, ...], same: dict[str, str], count: int, seed: int
) -> list[list[ScannedImage]]:
    """Deal what stays together into folds that each have images of every class."""
    units = units_of(images, same)
    remedy = f"give fewer folds than {count}" if count > MIN_DIFFERENT else "leave such a class out"
    check_groups(scan, units, max(count, MIN_DIFFERENT), f"{count} folds need", remedy)
    missing: list[int] = []
    for attempt in range(ATTEMPTS):
        folds = _deal_once(in_order_of(units, seed, attempt), count)
        missing = [label for label in range(len(scan.classes)) if any(not fold.counts[label] for fold in folds)]
        if not missing:
            return [fold.images for fold in folds]
    raise DataError(
        f"no division of the groups (by {scan.grouped_by}) into {count} folds was found in which each has images of "
        f"class {scan.classes[missing[0]]}; give fewer folds, or group by something finer"
    )


def _deal_once(ordered: Sequence[SplitUnit], count: int) -> list[UnitSet]:
    """Deal units, the largest first, each to the fold with the smallest share of its classes so far."""
    totals: Counter[int] = Counter()
    for unit in ordered:
        totals.update(unit.counts)
    folds = [UnitSet() for _ in range(count)]
    num_images = [0] * count

    def growth(counts: Counter[int], unit: SplitUnit) -> float:
        return sum(size * (size + 2 * counts[label]) / totals[label] ** 2 for label, size in unit.counts.items())

    for unit in sorted(ordered, key=lambda unit: -len(unit.images)):
        _, _, number = min((growth(fold.counts, unit), num_images[i], i) for i, fold in enumerate(folds))
        folds[number].add(unit)
        num_images[number] += len(unit.images)
    return folds
