"""The result of a scan: images, bad files and statistics."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import ClassVar, NamedTuple

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from triscale.data.sources.labels import Label, classes_of
from triscale.data.sources.split_folders import Role
from triscale.network.contract import BitDepth
from triscale.record import SparseRecord
from triscale.results.data_summary import BadFile


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class ScannedImage:
    """One image that can be decoded.

    Attributes:
        path: Relative to the root of the scan, with ``/``.
        label: Index into the classes of the scan, or several.
        width: In pixels, after applying the EXIF orientation.
        height: In pixels, after applying the EXIF orientation.
        num_bytes: Size of the file.
        format: The format of its bytes, one of :data:`triscale.data.images.decode.FORMATS`.
        sha256: SHA-256 of the file, in hexadecimal.
        fingerprint: See :func:`triscale.data.images.fingerprint.fingerprints_of`.
        lowest: The lowest value if the image has 16 bits per channel; otherwise 0.
        highest: The highest value if the image has 16 bits per channel; otherwise 0.
        group: The name of its group; the images of a group stay in one split. Empty if images are not grouped.
    """

    path: str
    label: Label
    width: int
    height: int
    num_bytes: int
    format: str
    sha256: str = ""
    fingerprint: str = ""
    lowest: int = 0
    highest: int = 0
    group: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of its labels."""
        return classes_of(self.label)


class Sides(NamedTuple):
    """The shorter sides of the images, in pixels."""

    smallest: int
    median: int
    largest: int


class Scan(SparseRecord):
    """The content of a dataset; every listed image has been decoded completely.

    Attributes:
        root: The folder or URL that paths are relative to.
        classes: The class names; a label is an index into them.
        train: The training images, if splits are given.
        val: The validation images, if given.
        test: The test images, if given.
        unsplit: All images, if no splits are given.
        bad: The files that cannot be used.
        notes: A sentence for everything that was concluded from an unusual layout.
        bit_depth: How many bits the values of images with 16 bits per channel use.
        channels: The number of channels that images are read with; left out of JSON if it is 3.
        problems: A sentence for everything that stops a training; empty unless the scan was told to go on.
        grouped_by: What the groups of the images follow from, in words; empty if images are not grouped.

    Example:
        >>> images = (ScannedImage("cat/1.png", 0, 40, 30, 99, "PNG"), ScannedImage("dog/1.png", 1, 20, 50, 99, "PNG"))
        >>> found = Scan(root="/photos", classes=("cat", "dog"), unsplit=images)
        >>> found.counts
        {'unsplit': {'cat': 1, 'dog': 1}}
        >>> found.sides
        Sides(smallest=20, median=20, largest=30)
    """

    kind_name: ClassVar[str] = "scan"
    sparse: ClassVar[tuple[str, ...]] = ("channels",)
    schema_number: ClassVar[int] = 3

    root: str
    classes: tuple[str, ...]
    train: tuple[ScannedImage, ...] = ()
    val: tuple[ScannedImage, ...] = ()
    test: tuple[ScannedImage, ...] = ()
    unsplit: tuple[ScannedImage, ...] = ()
    bad: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    bit_depth: BitDepth = 16
    channels: PositiveInt = 3
    problems: tuple[str, ...] = ()
    grouped_by: str = ""

    @property
    def by_role(self) -> dict[Role, tuple[ScannedImage, ...]]:
        """The images of each split that has any."""
        images: dict[Role, tuple[ScannedImage, ...]] = {
            "train": self.train,
            "val": self.val,
            "test": self.test,
            "unsplit": self.unsplit,
        }
        return {role: found for role, found in images.items() if found}

    @property
    def multi_label(self) -> bool:
        """Whether images have any number of labels, instead of one class."""
        return any(isinstance(images[0].label, tuple) for images in self.by_role.values())

    @property
    def num_images(self) -> int:
        """The total number of images, without bad files."""
        return sum(len(images) for images in self.by_role.values())

    @property
    def counts(self) -> dict[Role, dict[str, int]]:
        """The number of images of every class, for each split that has any."""
        counted = {
            role: Counter(label for image in images for label in image.labels) for role, images in self.by_role.items()
        }
        return {role: {name: count[i] for i, name in enumerate(self.classes)} for role, count in counted.items()}

    @property
    def groups(self) -> dict[str, str]:
        """The group of each image by its path; empty if images are not grouped."""
        if not self.grouped_by:
            return {}
        return {image.path: image.group for images in self.by_role.values() for image in images}

    @property
    def sides(self) -> Sides:
        """The smallest, the median and the largest shorter side of an image."""
        sides = [min(image.width, image.height) for images in self.by_role.values() for image in images]
        return Sides(min(sides), statistics.median_low(sides), max(sides))
