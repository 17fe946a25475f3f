"""Split a dataset into training, validation and test set, determined only by the seed and the file names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict, NonNegativeInt, SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass

from triscale.data.checks.duplicates import Duplicates, find_duplicates
from triscale.data.pipeline.stratify import LabeledUnit, divide_labels
from triscale.data.sources.labels import classes_of
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.network.contract import BitDepth
from triscale.record import Record


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Sample:
    """One labeled image.

    Attributes:
        path: Relative to the root of the split, with ``/``.
        label: Index into the classes; their sorted indices if images have any number of labels.
    """

    path: str
    label: NonNegativeInt | tuple[NonNegativeInt, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of its labels."""
        return classes_of(self.label)


class Split(Record):
    """Which images are for training, for model selection (validation) and for the final metrics (test).

    Attributes:
        root: The folder that the paths are relative to.
        classes: The class names; a label is an index into them.
        train: The training samples, sorted by path like the others.
        val: The validation samples, at least one of every class.
        test: The test samples, at least one of every class.
        seed: The seed of the random split, if images had to be divided.
        how: A sentence that says how the splits were made.
        bit_depth: How many bits the values of images with 16 bits per channel use; left out of JSON if it is 16.
    """

    kind_name: ClassVar[str] = "split"

    root: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    seed: NonNegativeInt
    how: str
    bit_depth: BitDepth = 16

    @property
    def multi_label(self) -> bool:
        """Whether images have any number of labels, instead of one class."""
        return any(isinstance(sample.label, tuple) for sample in self.train)

    @model_serializer(mode="wrap")
    def _leave_out_full_depth(self, to_plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in to_plain(self).items() if (key, value) != ("bit_depth", 16)}


def make_split(
    scan: Scan, *, seed: int = 0, test_share: float = 0.2, val_share: float = 0.1, duplicates: Duplicates | None = None
) -> Split:
    """Split the images of a scan into training, validation and test set, stratified by class.

    Splits given by the folders are kept. With training images and one other split, the latter is the test set, and the
    validation set is held out from the training images. Without given splits, the test set is taken first and the
    validation set from the rest. Each takes the same fraction of every class, and at least one image.

    Within a class, images are ordered by ``sha256(f"{seed}/{path}")`` and the first ones are taken, so that adding or
    removing images leaves most others in their split. Images with any number of labels are divided so that each part
    has its share of every label, see :mod:`triscale.data.pipeline.stratify`. Duplicates of an image stay together; the
    one whose path comes first decides the order and the class of all.

    Args:
        scan: The dataset.
        seed: 0 or more; another seed gives another split.
        test_share: Fraction of every class for the test set, between 0 and 1; used only without given splits.
        val_share: Fraction of the remaining images of every class for the validation set, between 0 and 1.
        duplicates: Which images are the same; by default, the result of
            :func:`triscale.data.checks.duplicates.find_duplicates`.

    Raises:
        DataError: A class has too few different images, or a share is not between 0 and 1.

    Example:
        >>> images = [ScannedImage(f"{c}/{i}.png", c, 8, 8, 99, "PNG") for c in (0, 1) for i in range(10)]
        >>> found = Scan(root="/photos", classes=("cat", "dog"), unsplit=tuple(images))
        >>> split = make_split(found, seed=0, test_share=0.2, val_share=0.25)
        >>> len(split.train), len(split.val), len(split.test)
        (12, 4, 4)
    """
    for name, share in (("test", test_share), ("validation", val_share)):
        if not 0 < share < 1:
            raise DataError(f"the share of {name} images is {share}; expected a number between 0 and 1, such as 0.1")
    same = {path: group[0] for group in (duplicates or find_duplicates(scan)).groups for path in group}
    held_out = f"{val_share:.3g} of the training images of every class, chosen by seed {seed} and file name"
    if scan.unsplit:
        units = _units(scan.unsplit, same)
        _check_enough(scan.classes, units, 3, "one each for training, validation and test")
        test_units, rest = _divide(units, test_share, seed, keep=2)
        val_units, train_units = _divide(rest, val_share, seed, keep=1)
        train, val, test = _images(train_units), _images(val_units), _images(test_units)
        how = (
            f"test: {test_share:.3g} of the images of every class, chosen by seed {seed} and file name; "
            f"validation: {val_share:.3g} of the rest, likewise"
        )
    elif scan.val and scan.test:
        train, val, test = list(scan.train), list(scan.val), list(scan.test)
        how = "train, validation and test as given by the folders"
    elif scan.val or scan.test:
        units = _units(scan.train, same)
        _check_enough(scan.classes, units, 2, "one for training and one for validation")
        val_units, train_units = _divide(units, val_share, seed, keep=1)
        train, val, test = _images(train_units), _images(val_units), list(scan.test or scan.val)
        how = f"test: the {'test' if scan.test else 'validation'} folder; validation: {held_out}"
    else:
        raise DataError(f"{scan.root} has only training images; expected a test or val folder next to train")
    return Split(
        root=scan.root,
        classes=scan.classes,
        train=_samples(train),
        val=_samples(val),
        test=_samples(test),
        seed=seed,
        how=how,
        bit_depth=scan.bit_depth,
    )


def check_present(split: Split) -> None:
    """Check that every image of a split still exists.

    Raises:
        DataError: Files are missing; the message gives their number and the first few names.
    """
    paths = [sample.path for samples in (split.train, split.val, split.test) for sample in samples]
    missing = open_store(split.root).missing(paths)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images of the split are no longer in {split.root} "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); put them back, or start a new run to "
            f"split the images that exist"
        )


_Unit = tuple[ScannedImage, ...]
"""An image and its duplicates, which stay in one split; the first one decides order and class."""


def _units(images: Iterable[ScannedImage], same: Mapping[str, str]) -> list[_Unit]:
    units: dict[str, list[ScannedImage]] = {}
    for image in sorted(images, key=lambda image: image.path):
        units.setdefault(same.get(image.path, image.path), []).append(image)
    return [tuple(unit) for unit in units.values()]


def _images(units: Iterable[_Unit]) -> list[ScannedImage]:
    return [image for unit in units for image in unit]


def _divide(units: Sequence[_Unit], share: float, seed: int, keep: int) -> tuple[list[_Unit], list[_Unit]]:
    """Divide into a share of every class and the rest, which keeps at least ``keep`` different images per class."""
    if any(isinstance(unit[0].label, tuple) for unit in units):
        labeled = [LabeledUnit(unit[0].path, _labels(unit), len(unit)) for unit in units]
        chosen_units = divide_labels(labeled, share, seed, keep)
        parts = [[unit for i, unit in enumerate(units) if (i in chosen_units) is part] for part in (True, False)]
        return parts[0], parts[1]
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
        for label in _labels(unit):
            classes.setdefault(label, []).append(unit)
    return classes


def _labels(unit: _Unit) -> tuple[int, ...]:
    """Return the class of the first image, or the labels that any of the images has."""
    if isinstance(unit[0].label, int):
        return (unit[0].label,)
    return tuple(sorted({label for image in unit for label in image.labels}))


def _check_enough(classes: tuple[str, ...], units: Iterable[_Unit], needed: int, why: str) -> None:
    counts = {label: len(of_class) for label, of_class in _by_class(units).items()}
    few = [f"{name} has {counts.get(i, 0)}" for i, name in enumerate(classes) if counts.get(i, 0) < needed]
    if few:
        raise DataError(
            f"too few images to split: {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}; every class needs at "
            f"least {needed} images that are not copies of each other, {why}"
        )


def _samples(images: Iterable[ScannedImage]) -> tuple[Sample, ...]:
    return tuple(Sample(image.path, image.label) for image in sorted(images, key=lambda image: image.path))
