"""Split a dataset into training, validation and test set, determined only by the seed and the file names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import ConfigDict, NonNegativeInt
from pydantic.dataclasses import dataclass

from triscale.data.checks.duplicates import Duplicates, find_duplicates
from triscale.data.pipeline.divide import divide
from triscale.data.sources.labels import classes_of
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.network.contract import BitDepth
from triscale.record import SparseRecord


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


class Split(SparseRecord):
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
        num_groups: The number of groups, whose images stay in one split; 0, and left out of JSON, without groups.
    """

    kind_name: ClassVar[str] = "split"
    sparse: ClassVar[tuple[str, ...]] = ("bit_depth", "num_groups")

    root: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    seed: NonNegativeInt
    how: str
    bit_depth: BitDepth = 16
    num_groups: NonNegativeInt = 0

    @property
    def multi_label(self) -> bool:
        """Whether images have any number of labels, instead of one class."""
        return bool(self.train) and isinstance(self.train[0].label, tuple)


def make_split(
    scan: Scan, *, seed: int = 0, test_share: float = 0.2, val_share: float = 0.1, duplicates: Duplicates | None = None
) -> Split:
    """Split the images of a scan into training, validation and test set, stratified by class.

    Splits given by the folders are kept. With training images and one other split, the latter is the test set, and the
    validation set is held out from the training images. Without given splits, the test set is taken first and the
    validation set from the rest. Each takes the same fraction of every class, and at least one image.

    Within a class, images are ordered by ``sha256(f"{seed}/{path}")`` and the first ones are taken, so that adding or
    removing images leaves most others in their split. Duplicates of an image stay together; the one whose path comes
    first decides the order and the class of all. The images of a group stay together as well, and those with any number
    of labels are divided so that each part has its share of every label, see
    :func:`triscale.data.pipeline.group_divide.divide_groups`.

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
    same = first_duplicates(scan, duplicates)
    chosen = f"chosen by seed {seed} and {'group' if scan.grouped_by else 'file'} name"
    held_out = f"{val_share:.3g} of the training images of every class, {chosen}"
    if scan.unsplit:
        test, val, train = divide(scan, scan.unsplit, same, (test_share, val_share), seed)
        how = (
            f"test: {test_share:.3g} of the images of every class, {chosen}; validation: {val_share:.3g} of the rest, "
            f"likewise"
        )
    elif scan.val and scan.test:
        train, val, test = list(scan.train), list(scan.val), list(scan.test)
        how = "train, validation and test as given by the folders"
    elif scan.val or scan.test:
        val, train = divide(scan, scan.train, same, (val_share,), seed)
        test = list(scan.test or scan.val)
        how = f"test: the {'test' if scan.test else 'validation'} folder; validation: {held_out}"
    else:
        raise DataError(f"{scan.root} has only training images; expected a test or val folder next to train")
    return split_of(scan, train, val, test, seed, how)


def split_of(
    scan: Scan,
    train: Iterable[ScannedImage],
    val: Iterable[ScannedImage],
    test: Iterable[ScannedImage],
    seed: int,
    how: str,
) -> Split:
    """Return a split with the root and the classes of a scan.

    Args:
        scan: The dataset.
        train: The training images, in any order.
        val: The validation images.
        test: The test images.
        seed: The seed of the division.
        how: How it was made, without its groups.
    """
    train, val, test = tuple(train), tuple(val), tuple(test)
    num_groups = len({image.group for image in (*train, *val, *test)}) if scan.grouped_by else 0
    return Split(
        root=scan.root,
        classes=scan.classes,
        train=_samples(train),
        val=_samples(val),
        test=_samples(test),
        seed=seed,
        how=how + (f"; {num_groups} groups by {scan.grouped_by}, each in one split" if num_groups else ""),
        bit_depth=scan.bit_depth,
        num_groups=num_groups,
    )


def first_duplicates(scan: Scan, duplicates: Duplicates | None = None) -> dict[str, str]:
    """Return, for each image that has duplicates, the first of them.

    Args:
        scan: The dataset.
        duplicates: Its duplicates; by default they are searched.
    """
    return {path: group[0] for group in (duplicates or find_duplicates(scan)).groups for path in group}


def check_present(split: Split, samples: Iterable[Sample] | None = None) -> None:
    """Check that images of a split still exist.

    Args:
        split: The split.
        samples: The images to check; by default all.

    Raises:
        DataError: Files are missing; the message gives their number and the first few names.
    """
    checked = (*split.train, *split.val, *split.test) if samples is None else tuple(samples)
    paths = [sample.path for sample in checked]
    missing = open_store(split.root).missing(paths)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images of the split are no longer in {split.root} "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); put them back, start a new run, or if "
            "they have moved, say where they are now: with --images, or to resume a training in place of its images"
        )


def _samples(images: Iterable[ScannedImage]) -> tuple[Sample, ...]:
    return tuple(Sample(image.path, image.label) for image in sorted(images, key=lambda image: image.path))
