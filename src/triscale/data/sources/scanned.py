"""What a scan has found: images, bad files, and figures about them."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import ClassVar, NamedTuple

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from triscale.data.sources.source import Role
from triscale.record import Record
from triscale.results.data_summary import BadFile


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class ScannedImage:
    """One image that can be decoded.

    Attributes:
        path: relative to the scan's root, with ``/``.
        label: index into the scan's classes.
        width: in pixels, as shown (after the EXIF orientation).
        height: in pixels, as shown.
        num_bytes: size of the file.
        format: what its bytes are, one of :data:`triscale.data.images.decode.FORMATS`.
        sha256: of the file's bytes, in hexadecimal.
        fingerprint: how it looks, see :func:`triscale.data.images.fingerprint.fingerprints_of`.
    """

    path: str
    label: int
    width: int
    height: int
    num_bytes: int
    format: str
    sha256: str = ""
    fingerprint: str = ""


class Sides(NamedTuple):
    """The shorter sides of the images, in pixels."""

    smallest: int
    median: int
    largest: int


class Scan(Record):
    """What a folder of images holds; every image listed under a role has been decoded in full."""

    kind_name: ClassVar[str] = "scan"

    root: str
    classes: tuple[str, ...]
    train: tuple[ScannedImage, ...] = ()
    val: tuple[ScannedImage, ...] = ()
    test: tuple[ScannedImage, ...] = ()
    unsplit: tuple[ScannedImage, ...] = ()
    bad: tuple[BadFile, ...] = ()

    @property
    def by_role(self) -> dict[Role, tuple[ScannedImage, ...]]:
        """The images of each role that has any."""
        images: dict[Role, tuple[ScannedImage, ...]] = {
            "train": self.train,
            "val": self.val,
            "test": self.test,
            "unsplit": self.unsplit,
        }
        return {role: found for role, found in images.items() if found}

    @property
    def num_images(self) -> int:
        """The number of images of all roles, bad files not counted."""
        return sum(len(images) for images in self.by_role.values())

    @property
    def counts(self) -> dict[Role, dict[str, int]]:
        """The number of images of every class, for each role that has any."""
        counted = {role: Counter(image.label for image in images) for role, images in self.by_role.items()}
        return {role: {name: count[i] for i, name in enumerate(self.classes)} for role, count in counted.items()}

    @property
    def sides(self) -> Sides:
        """The smallest, the median and the largest of the images' shorter sides."""
        sides = [min(image.width, image.height) for images in self.by_role.values() for image in images]
        return Sides(min(sides), statistics.median_low(sides), max(sides))
