"""Summary of the scan of a data set: counts by class and split, unreadable files, leaks between splits."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from triscale.record import Record


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class BadFile:
    """A file that was skipped because it cannot be read as an image, and the reason."""

    path: str
    reason: str


SplitName = Literal["train", "val", "test"]
Match = Literal["exact", "reencoded", "group", "possible"]

LEAK_DESCRIPTIONS = {
    "exact": "the same file",
    "reencoded": "the same image re-encoded",
    "group": "of the same group",
    "possible": "possibly the same image",
}


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Leak:
    """An image that has a duplicate, or an image of its group, in an earlier split, in the order train, val, test.

    Attributes:
        path: The test or validation image, relative to the root of the data set.
        split: The split that it is in.
        copy: Its duplicate, or the first image of its group, in an earlier split.
        copy_split: The split that the duplicate is in.
        match: ``exact`` for identical files, ``reencoded`` for certainly and ``possible`` for possibly the same image;
            ``group`` for different images of one group.
    """

    path: str
    split: SplitName
    copy: str
    copy_split: SplitName
    match: Match

    def __str__(self) -> str:
        sign = "and" if self.match == "group" else "="
        return f"{self.path} {sign} {self.copy} ({LEAK_DESCRIPTIONS[self.match]})"


class GroupSummary(Record):
    """How images are grouped, the number of groups and the number of images of a group."""

    by: str
    count: int
    smallest: int
    median: int
    largest: int


class SplitCounts(Record):
    """Number of images of a class in each split."""

    name: str
    train: int
    val: int
    test: int


class DataSummary(Record):
    """Summary of a scan: images by class and split, their sides in pixels, skipped files, duplicates.

    ``leaks`` lists the test and validation images that have a copy in an earlier split; certain leaks are an error
    without ``allow_leak``. ``copies`` is the number of other images that are certainly duplicates.
    """

    kind_name: ClassVar[str] = "data"
    schema_number: ClassVar[int] = 2

    root: str
    classes: tuple[SplitCounts, ...]
    smallest_side: int
    median_side: int
    largest_side: int
    bad: tuple[BadFile, ...]
    copies: int = 0
    leaks: tuple[Leak, ...] = ()
    allow_leak: bool = False


class ImageContents(Record):
    """The content of the images of a run, so that they are recognized after they have moved.

    Attributes:
        digests: For each image by its path in the split, the first 16 hexadecimal digits of its SHA-256.
    """

    kind_name: ClassVar[str] = "contents"

    digests: dict[str, str]
