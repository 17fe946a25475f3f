"""Summary of the scan of a data set: counts by class and split, unreadable files, leaks between splits."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from triscale.record import Record


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class BadFile:
    """A file that was left out, and why."""

    path: str
    reason: str


Part = Literal["train", "val", "test"]
Likeness = Literal["exact", "recoded", "possible"]

_WORDS = {"exact": "the same file", "recoded": "the same image, re-encoded", "possible": "perhaps the same image"}


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Leak:
    """A test or validation image that is a copy of an image in an earlier split, in the order train, val, test.

    Attributes:
        path: The image that should be unseen, relative to the root of the split.
        part: Its split.
        copy: The image that it is a copy of.
        copy_part: The split of that image.
        likeness: Same bytes, certainly the same image, or possibly the same image.
    """

    path: str
    part: Part
    copy: str
    copy_part: Part
    likeness: Likeness

    def __str__(self) -> str:
        return f"{self.path} = {self.copy} ({_WORDS[self.likeness]})"


class SplitCounts(Record):
    """Number of images of a class in each split."""

    name: str
    train: int
    val: int
    test: int


class DataSummary(Record):
    """Summary of a scan: images by class and split, their sides in pixels, files left out, duplicates.

    ``leaks`` lists the test and validation images that have a copy in an earlier split; certain ones are an error
    unless ``allow_leak`` was given. ``copies`` counts the other images that certainly occur more than once.
    """

    kind_name: ClassVar[str] = "data"

    root: str
    classes: tuple[SplitCounts, ...]
    smallest_side: int
    median_side: int
    largest_side: int
    bad: tuple[BadFile, ...]
    copies: int = 0
    leaks: tuple[Leak, ...] = ()
    allow_leak: bool = False
