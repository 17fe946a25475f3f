"""Options of commands that read a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.amounts import number_of, share_of
from triscale.errors import UserError

if TYPE_CHECKING:
    from triscale.data.images.decode import ImageLimits
    from triscale.data.options import DataOptions


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """How a data set is read, and what is tolerated in it.

    Parameters
    ----------
    allow_missing_classes
        Accept that validation or test images lack classes of the training images.
    max_bad
        Maximum share of files that cannot be read, such as 5%; they are listed and left out.
    max_pixels
        Maximum number of pixels of an image, such as 400M.
    max_file_size
        Maximum size of an image file, such as 1GB.
    bit_depth
        How many bits the values of 16-bit images use: 8, 10, 12, 14 or 16; by default measured.
    channels
        Number of channels that images are read with: 1 for gray, 3 for RGB (default), or as many as the files have.
    max_frames
        Maximum number of frames of an animation or pages of a TIFF; the first is used.
    path_column
        Column of the paths in a table, by name or by number from 1; recognized by default.
    label_column
        Column of the labels in a table, likewise.
    split_column
        Column of the splits (train, val, test) in a table, likewise.
    image_folder
        Folder that the paths in a table are relative to, by default that of the table.
    label_separator
        What separates the labels in a cell of a table, for images with any number of labels; none if each cell is
        one class.
    multi_label
        Images have any number of labels: all rows of an image in a table, lists, or columns of 0 and 1.
    group
        Column of a table that names the recording, patient or plant of each image, whose images stay in one split.
    group_regex
        Regular expression that finds the group of an image in its path: the first capture group, or the whole match.
    group_by
        Group images by capture time (time, or time:SECONDS for another gap than 60 s) or by near-duplicates.
    """

    allow_missing_classes: Annotated[bool, Parameter(negative="")] = False
    max_bad: str = "1%"
    max_pixels: str = "250M"
    max_file_size: str = "500MB"
    bit_depth: Literal[8, 10, 12, 14, 16] | None = None
    channels: int | None = None
    max_frames: str = "1000"
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    image_folder: Path | None = None
    label_separator: str | None = None
    multi_label: Annotated[bool, Parameter(negative="")] = False
    group: str | None = None
    group_regex: str | None = None
    group_by: str | None = None

    def options(self) -> DataOptions:
        """Return the options of the data set.

        Raises:
            UserError: A value is not a share or a number, there are no channels, or images are grouped in two ways.
        """
        from triscale.data.grouping import check_grouping
        from triscale.data.options import DataOptions

        check_grouping(self.group, self.group_regex, self.group_by)
        if self.channels is not None and self.channels < 1:
            raise UserError(
                f"--channels {self.channels}: give 1 for gray, 3 for RGB, or the number of channels that the files have"
            )
        return DataOptions(
            limits=_limits(self),
            max_bad=share_of("--max-bad", self.max_bad),
            allow_missing_classes=self.allow_missing_classes,
            bit_depth=self.bit_depth,
            channels=self.channels,
            path_column=self.path_column,
            label_column=self.label_column,
            split_column=self.split_column,
            image_folder=str(self.image_folder.absolute()) if self.image_folder else None,
            label_separator=self.label_separator or None,
            multi_label=self.multi_label,
            group=self.group,
            group_regex=self.group_regex,
            group_by=self.group_by,
        )


DATA_DEFAULTS = DataFlags()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LimitFlags:
    """Limits on an image file, for commands that read images without a data set.

    Parameters
    ----------
    max_pixels
        Maximum number of pixels of an image, such as 400M.
    max_file_size
        Maximum size of an image file, such as 1GB.
    max_frames
        Maximum number of frames of an animation or pages of a TIFF; the first is used.
    """

    max_pixels: str = DATA_DEFAULTS.max_pixels
    max_file_size: str = DATA_DEFAULTS.max_file_size
    max_frames: str = DATA_DEFAULTS.max_frames

    def limits(self) -> ImageLimits:
        """Return the limits.

        Raises:
            UserError: A value is not a number.
        """
        return _limits(self)


LIMIT_DEFAULTS = LimitFlags()

MaxPixels = Annotated[str, Parameter(help="Maximum number of pixels of an image, such as 400M.")]
"""The only limit of a server, where the size of a request has a limit of its own."""


def _limits(flags: DataFlags | LimitFlags) -> ImageLimits:
    from triscale.data.images.decode import ImageLimits

    return ImageLimits(
        file_bytes=number_of("--max-file-size", flags.max_file_size),
        pixels=number_of("--max-pixels", flags.max_pixels),
        frames=number_of("--max-frames", flags.max_frames),
    )
