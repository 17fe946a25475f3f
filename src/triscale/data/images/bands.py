"""Images with any number of channels, which the transforms use like images of Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Bands:
    """An image with any number of channels: one image of mode ``L`` for each.

    Pillow has no image with, say, five channels, and in an RGBA image it weights colors by the fourth. Its operations
    on one channel at a time give for RGB exactly what they give for all three together.

    Args:
        bands: Images of mode ``L`` and the same size.

    Attributes:
        bands: The channels.
        size: Width and height in pixels.

    Example:
        >>> image = Bands.from_array(np.zeros((30, 40, 5), np.uint8))
        >>> image.size, image.crop((0, 0, 20, 10)).resize((8, 8), Image.Resampling.BICUBIC).to_array().shape
        ((40, 30), (8, 8, 5))
    """

    __slots__ = ("bands", "size")

    def __init__(self, bands: Sequence[Image.Image]) -> None:
        self.bands = tuple(bands)
        self.size: tuple[int, int] = self.bands[0].size
        assert all((band.mode, band.size) == ("L", self.size) for band in self.bands)

    @classmethod
    def from_array(cls, values: NDArray[np.uint8]) -> Bands:
        """Return the image with these values ``[height, width, channels]``."""
        return cls([Image.fromarray(np.ascontiguousarray(values[..., i])) for i in range(values.shape[-1])])

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.size[1]

    def crop(self, box: tuple[float, float, float, float]) -> Bands:
        """Return a part; the box is left, top, right and bottom."""
        return Bands([band.crop(box) for band in self.bands])

    def resize(
        self,
        size: tuple[int, int],
        resample: Image.Resampling,
        box: tuple[float, float, float, float] | None = None,
        reducing_gap: float | None = None,
    ) -> Bands:
        """Return the image, or the part in a box, resized to this width and height."""
        return Bands([band.resize(size, resample, box, reducing_gap) for band in self.bands])

    def transpose(self, method: Image.Transpose) -> Bands:
        """Return the image mirrored, or turned by a multiple of 90 degrees."""
        return Bands([band.transpose(method) for band in self.bands])

    def to_array(self) -> NDArray[np.uint8]:
        """Return the values ``[height, width, channels]``."""
        return np.stack([np.asarray(band) for band in self.bands], axis=-1)


AnyImage = Image.Image | Bands
"""A decoded image: of mode ``L`` with one channel, of mode ``RGB`` with three, otherwise :class:`Bands`."""


def from_array(values: NDArray[np.uint8]) -> AnyImage:
    """Return the image with these values ``[height, width, channels]``.

    Example:
        >>> from_array(np.zeros((30, 40, 1), np.uint8)).mode
        'L'
    """
    match values.shape[-1]:
        case 1:
            return Image.fromarray(np.ascontiguousarray(values[..., 0]))
        case 3:
            return Image.fromarray(np.ascontiguousarray(values))
        case _:
            return Bands.from_array(values)


def to_array(image: AnyImage) -> NDArray[np.uint8]:
    """Return the values of an image ``[height, width, channels]``, as a copy.

    Example:
        >>> to_array(Image.new("L", (40, 30))).shape
        (30, 40, 1)
    """
    if isinstance(image, Bands):
        return image.to_array()
    values: NDArray[np.uint8] = np.array(image)
    return values if values.ndim == 3 else values[..., None]


def as_picture(image: AnyImage) -> Image.Image:
    """Return an image for people, in RGB: its first three channels, or the first as gray if it has fewer.

    Example:
        >>> as_picture(Bands.from_array(np.zeros((30, 40, 5), np.uint8))).mode
        'RGB'
    """
    if isinstance(image, Bands):
        return Image.merge("RGB", image.bands[:3]) if len(image.bands) >= 3 else image.bands[0].convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
