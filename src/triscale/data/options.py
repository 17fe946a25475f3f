"""How a data set is read, and what is tolerated in it."""

from __future__ import annotations

from pydantic import Field

from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits
from triscale.network.contract import BitDepth
from triscale.record import Record


class DataOptions(Record):
    """How a data set is read, and what is tolerated in it.

    Attributes:
        limits: Limits on one image file.
        max_bad: Maximum share of the files that may be unreadable, of all files; of one class, ten times as many, at
            most all but one. A single bad file is always tolerated.
        allow_missing_classes: Whether validation and test images may lack classes of the training images.
        bit_depth: How many bits the values of images with 16 bits per channel use; None measures it.

    Example:
        >>> DataOptions(max_bad=0.05).max_bad_of_class
        0.5
    """

    limits: ImageLimits = DEFAULT_LIMITS
    max_bad: float = Field(default=0.01, ge=0, lt=1)
    allow_missing_classes: bool = False
    bit_depth: BitDepth | None = None

    @property
    def max_bad_of_class(self) -> float:
        """Maximum share of the files of one class that may be unreadable."""
        return min(10 * self.max_bad, 0.99)


DEFAULT_DATA = DataOptions()
