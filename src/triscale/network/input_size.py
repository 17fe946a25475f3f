"""The size of an input image, square or rectangular: a height in pixels and the ratio of width to height."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator, PositiveInt

from triscale.errors import UserError
from triscale.record import SparseRecord

MAX_RESOLUTION = 4096
_TEXT = re.compile(r"(?P<width>[0-9]{1,6})(?:x(?P<height>[0-9]{1,6}))?", re.ASCII)


def _reduce(ratio: tuple[int, int]) -> tuple[int, int]:
    divisor = math.gcd(*ratio)
    return ratio[0] // divisor, ratio[1] // divisor


AspectRatio = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_reduce)]
"""Width to height of an image as two whole numbers, in lowest terms."""
SQUARE = (1, 1)
ImageShape = tuple[int, int, int]
"""Channels, height and width of an image."""


class InputSize(NamedTuple):
    """A size as networks keep it: scaling changes the height, and the aspect ratio stays.

    Example:
        >>> size = parse_size("720x184")
        >>> size, size.width, str(size), str(size._replace(height=92))
        (InputSize(height=184, aspect_ratio=(90, 23)), 720, '720x184', '360x92')
    """

    height: int
    aspect_ratio: tuple[int, int] = SQUARE

    @property
    def width(self) -> int:
        """Width in pixels: the height times the aspect ratio, rounded."""
        across, down = self.aspect_ratio
        return max(1, (2 * self.height * across + down) // (2 * down))

    @property
    def ratio(self) -> tuple[int, int]:
        """Width to height of the rounded size, in lowest terms; (1, 1) for a square."""
        return _reduce((self.width, self.height))

    @property
    def shorter(self) -> int:
        """The shorter side in pixels."""
        return min(self.height, self.width)

    def shape(self, channels: int) -> ImageShape:
        """Return channels, height and width of an image of this size."""
        return channels, self.height, self.width

    def __str__(self) -> str:
        """Return ``SIDE`` for a square, otherwise ``WIDTHxHEIGHT``."""
        return size_text(self.height, self.width)


def size_text(height: int, width: int) -> str:
    """Return a size as text: one side of a square, otherwise ``WIDTHxHEIGHT``.

    Example:
        >>> size_text(224, 224), size_text(184, 720)
        ('224', '720x184')
    """
    return f"{height}" if height == width else f"{width}x{height}"


class SizedRecord(SparseRecord):
    """A record with the fields ``resolution`` and ``aspect_ratio``, which each defines in its own order."""

    if TYPE_CHECKING:
        resolution: int
        aspect_ratio: tuple[int, int]

    @property
    def size(self) -> InputSize:
        """Height and width of the input image."""
        return InputSize(self.resolution, self.aspect_ratio)


def parse_size(text: str, option: str = "") -> InputSize:
    """Read a size such as ``224``, or ``720x184`` for images 720 px wide and 184 px high.

    Args:
        text: One side of a square, or width and height, in pixels from 1 to 4096.
        option: Where the text was given, such as ``--resolution``, for the message.

    Raises:
        UserError: The text is neither.

    Example:
        >>> parse_size("224")
        InputSize(height=224, aspect_ratio=(1, 1))
    """
    found = _TEXT.fullmatch(text.strip().lower())
    sides = [int(side) for side in found.groups() if side] if found else []
    if not sides or not all(1 <= side <= MAX_RESOLUTION for side in sides):
        where = f"{option}: " if option else ""
        raise UserError(
            f'{where}"{text}" is not an image size; expected the side of a square such as 224, or width x height such '
            f"as 720x184, in pixels up to {MAX_RESOLUTION}"
        )
    width, height = sides[0], sides[-1]
    return InputSize(height, _reduce((width, height)))
