"""The size of images in a result."""

from __future__ import annotations

from typing import ClassVar, TypedDict

from triscale.network.input_size import ImageShape, size_text
from triscale.record import SparseRecord


class ImageSides(TypedDict):
    """The fields of :class:`ImageSized`."""

    resolution: int
    width: int | None


def sides_of(shape: ImageShape) -> ImageSides:
    """Return the fields of :class:`ImageSized` for channels, height and width.

    Example:
        >>> sides_of((3, 224, 224)), sides_of((1, 184, 720))
        ({'resolution': 224, 'width': None}, {'resolution': 184, 'width': 720})
    """
    _, height, width = shape
    return {"resolution": height, "width": None if width == height else width}


class ImageSized(SparseRecord):
    """A result for images of one size.

    Attributes:
        resolution: Side of the images in pixels; their height if they are not square.
        width: Their width in pixels if they are not square; otherwise None, and left out of JSON.
    """

    sparse: ClassVar[tuple[str, ...]] = ("width",)

    resolution: int
    width: int | None = None

    @property
    def size(self) -> str:
        """The size as text: one side of a square, otherwise ``WIDTHxHEIGHT``."""
        return size_text(self.resolution, self.width or self.resolution)
