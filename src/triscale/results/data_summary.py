"""What a scan of the images found, in short: counts by class and split, unreadable files, leaks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from triscale.record import Record


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class BadFile:
    """One file that is left out, with the reason in a few words."""

    path: str
    reason: str


Part = Literal["train", "val", "test"]
Likeness = Literal["exact", "recoded", "possible"]

_WORDS = {"exact": "the same file", "recoded": "the same image encoded anew", "possible": "perhaps the same image"}


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Leak:
    """An image for testing or validation that is a copy of one which comes before it: train, val, test.

    Attributes:
        path: the image that should be unseen, relative to the split's root.
        part: its part.
        copy: the image that it is a copy of.
        copy_part: the part of that one.
        likeness: the same bytes, certainly the same image, or possibly so.
    """

    path: str
    part: Part
    copy: str
    copy_part: Part
    likeness: Likeness

    def __str__(self) -> str:
        return f"{self.path} = {self.copy} ({_WORDS[self.likeness]})"


class SplitCounts(Record):
    """How many images of a class are for what."""

    name: str
    train: int
    val: int
    test: int


class DataSummary(Record):
    """What the scan found, in short: images by class and part, their sides in pixels, files left out, copies.

    ``leaks`` lists the images for testing or validation that have a copy in an earlier part; certain ones are an error
    unless ``allow_leak`` was given. ``copies`` counts the other images that are certainly there more than once.
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
