"""How a data set is read, and what is tolerated in it."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, PositiveInt, model_validator

from triscale.data.grouping import check_grouping
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits
from triscale.network.contract import BitDepth
from triscale.record import SparseRecord


class DataOptions(SparseRecord):
    """How a data set is read, and what is tolerated in it.

    Attributes:
        limits: Limits on one image file.
        max_bad: Maximum share of the files that may be unreadable, of all files; of one class, ten times as many, at
            most all but one. A single bad file is always tolerated.
        allow_missing_classes: Whether validation and test images may lack classes of the training images.
        bit_depth: How many bits the values of images with 16 bits per channel use; None measures it.
        channels: Number of channels that images are read with: 1 for gray, 3 for RGB, or as many as the files have;
            None for 3. Left out of JSON if not given.
        path_column: The column of a table that holds the paths, by its name or its number from 1; None to recognize it.
        label_column: The column of the labels, likewise.
        split_column: The column of the splits, likewise.
        image_folder: The folder that the paths in a table are relative to; None for the folder of the table.
        label_separator: What separates the labels in a cell of a table if images may have any number of labels;
            ``"none"`` if every cell is one class, and None to stop where cells look like several labels.
        multi_label: Whether images may have any number of labels: those of all their rows in a table, in lists, with
            the separator, or in columns of zeros and ones.
        group: The column of a table that names the recording, patient or plant of each image; its images stay in one
            split. At most one of the three options is given; left out of JSON if not given.
        group_regex: A regular expression that is searched in each path, relative to the root; the first capture group,
            or the whole match, names the group.
        group_by: ``time`` or ``time:SECONDS`` for chains of images captured within 60 or that many seconds of each
            other; ``near-duplicates`` for chains of images that look the same.

    Example:
        >>> DataOptions(max_bad=0.05).max_bad_of_class
        0.5
    """

    sparse: ClassVar[tuple[str, ...]] = ("channels", "group", "group_regex", "group_by")

    limits: ImageLimits = DEFAULT_LIMITS
    max_bad: float = Field(default=0.01, ge=0, lt=1)
    allow_missing_classes: bool = False
    bit_depth: BitDepth | None = None
    channels: PositiveInt | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    image_folder: str | None = None
    label_separator: str | None = Field(default=None, min_length=1)
    multi_label: bool = False
    group: str | None = None
    group_regex: str | None = None
    group_by: str | None = None

    @model_validator(mode="after")
    def _check_grouping(self) -> Self:
        check_grouping(self.group, self.group_regex, self.group_by)
        return self

    @property
    def max_bad_of_class(self) -> float:
        """Maximum share of the files of one class that may be unreadable."""
        return min(10 * self.max_bad, 0.99)

    @property
    def is_multi_label(self) -> bool:
        """Whether images may have any number of labels."""
        return self.multi_label or self.label_separator not in (None, "none")

    @property
    def for_tables(self) -> tuple[str, ...]:
        """The names of the options that are given and apply to tables only."""
        names = ("path_column", "label_column", "split_column", "image_folder", "label_separator", "group")
        given = tuple(name for name in names if getattr(self, name) is not None)
        return (*given, "multi_label") if self.multi_label else given


DEFAULT_DATA = DataOptions()
