"""Convert values of any type and images of any mode to 8-bit images with the number of channels asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from triscale.data.images.bands import AnyImage, from_array
from triscale.data.images.color import BadImage, to_rgb
from triscale.data.images.deep import NOT_MEASURED, ValueRange, bit_depth_of, color_values, load_rgb, upper_bits
from triscale.errors import DataError
from triscale.network.contract import BitDepth

PICTURE_CHANNELS = (1, 3)
"""Gray and RGB, which are converted into each other; with any other number, files must have as many."""

ImageOrArray = Image.Image | NDArray[Any]

_PLAIN = {"L", "LA", "RGB", "RGBA"}


def wrong_channels(given: int, expected: int) -> BadImage:
    """Return the error for a file with another number of channels than asked for."""
    has = f"has {given} channel{'' if given == 1 else 's'}; expected {expected}"
    if expected in PICTURE_CHANNELS:
        return BadImage(f"{has}; train on them with --channels {given}")
    return BadImage(f"{has}; save all images with {expected}, or train on them with --channels {given}")


def to_eight_bits(values: NDArray[Any], bit_depth: BitDepth | None) -> tuple[NDArray[np.uint8], ValueRange]:
    """Convert values to 8 bits.

    ``uint8`` stays as it is, ``uint16`` keeps the upper 8 of the bits in use, ``bool`` becomes 0 and 255, and
    floating-point values from 0 to 1 are multiplied by 255 and rounded.

    Args:
        values: Values of any shape.
        bit_depth: How many bits values of type ``uint16`` use; None for as many as these.

    Returns:
        The converted values, and their range if they are ``uint16`` and ``bit_depth`` is None.

    Raises:
        BadImage: They are of another type, or floating-point values outside 0 to 1.

    Example:
        >>> to_eight_bits(np.array([0.0, 0.5, 1.0]), None)[0].tolist()
        [0, 128, 255]
        >>> to_eight_bits(np.array([0, 512, 1023], np.uint16), None)
        (array([  0, 128, 255], dtype=uint8), ValueRange(lowest=0, highest=1023))
    """
    match values.dtype.kind, values.dtype.itemsize:
        case "u", 1:
            return values, NOT_MEASURED
        case "b", _:
            return np.where(values, np.uint8(255), np.uint8(0)), NOT_MEASURED
        case "u", 2:
            measured = ValueRange.of(values) if bit_depth is None else NOT_MEASURED
            return upper_bits(values, bit_depth or bit_depth_of(measured.highest)), measured
        case "f", _:
            if wrong := int(np.count_nonzero(~np.isfinite(values))):
                raise BadImage(
                    f"{wrong} of {values.size} floating-point values are no finite numbers (NaN or infinite); replace "
                    "them and save the image again"
                )
            low, high = float(values.min()), float(values.max())
            if low < 0 or high > 1:
                raise BadImage(
                    f"floating-point values from {low:.4g} to {high:.4g}; expected 0 to 1; scale them, or save the "
                    "image with 8 or 16 bits"
                )
            floats = values.astype(np.result_type(values, np.float32), copy=False)
            return np.rint(floats * 255).astype(np.uint8), NOT_MEASURED
    raise BadImage(
        f"values of type {values.dtype.name}; expected uint8, uint16, or floats from 0 to 1; convert them and save the "
        "image again"
    )


def fit_channels(values: NDArray[np.uint8], channels: int) -> AnyImage:
    """Return the image with these values ``[H, W, C]``; gray becomes RGB and RGB gray where that is asked for.

    Raises:
        BadImage: The number of channels is another one.

    Example:
        >>> fit_channels(np.zeros((30, 40, 1), np.uint8), 3).mode
        'RGB'
    """
    given = values.shape[-1]
    if given != channels and not {given, channels} <= set(PICTURE_CHANNELS):
        raise wrong_channels(given, channels)
    image = from_array(values)
    if given == channels:
        return image
    assert isinstance(image, Image.Image)
    return image.convert("L" if channels == 1 else "RGB")


def to_channels(image: Image.Image, channels: int, bit_depth: BitDepth = 16) -> AnyImage:
    """Convert a loaded image of any mode to 8 bits and a number of channels.

    One and three channels are gray and RGB, see :func:`triscale.data.images.color.to_rgb`. Any other number are the
    channels that the image has: its transparency is one of them.

    Args:
        image: A loaded image of any mode.
        channels: Number of channels.
        bit_depth: How many bits the values of an image with 16 bits per channel use.

    Raises:
        BadImage: The image has another number of channels, or values whose range is unknown.

    Example:
        >>> to_channels(Image.new("RGBA", (40, 30)), 4).to_array().shape
        (30, 40, 4)
    """
    if channels in PICTURE_CHANNELS:
        rgb = to_rgb(image, bit_depth=bit_depth)
        return rgb if channels == 3 else rgb.convert("L")
    return fit_channels(to_eight_bits(_values(image), bit_depth)[0], channels)


def as_image(image: ImageOrArray, channels: int, bit_depth: BitDepth = 16) -> AnyImage:
    """Return a loaded image or an array as an image with a number of channels.

    Args:
        image: An image of any mode, or a uint8 array ``[H, W, C]`` or ``[H, W]``.
        channels: Number of channels.
        bit_depth: How many bits the values of an image with 16 bits per channel use.

    Raises:
        DataError: The array is of another type or shape.
        BadImage: The image has another number of channels, or values whose range is unknown.

    Example:
        >>> as_image(np.zeros((30, 40), np.uint8), channels=3).mode
        'RGB'
    """
    if isinstance(image, Image.Image):
        return to_channels(image, channels, bit_depth)
    values = image[..., None] if image.ndim == 2 else image
    given = values.shape[-1]
    fits = given == channels or {given, channels} <= set(PICTURE_CHANNELS)
    if values.dtype != np.uint8 or values.ndim != 3 or not fits or 0 in values.shape:
        shapes = {1: "[H, W]", 3: "[H, W, 3] (RGB) or [H, W]"}.get(channels, f"[H, W, {channels}]")
        raise DataError(
            f"an array of shape {list(image.shape)} and type {image.dtype} is not an image; expected uint8 from 0 to "
            f"255 of shape {shapes}"
        )
    return fit_channels(values, channels)


def load_channels(
    image: ImageFile.ImageFile,
    content: bytes,
    reopen: Callable[[], ImageFile.ImageFile],
    bit_depth: BitDepth | None,
    channels: int,
) -> tuple[AnyImage, ValueRange]:
    """Load an image file like :func:`triscale.data.images.deep.load_rgb`, with any number of channels.

    Args:
        image: The image, opened but not loaded.
        content: The bytes of its file.
        reopen: Opens it again.
        bit_depth: How many bits the values of an image with 16 bits per channel use; None for as many as this one's.
        channels: Number of channels.

    Returns:
        The image, and the range of its values if it has 16 bits per channel and ``bit_depth`` is None.

    Raises:
        BadImage: The image has another number of channels.
    """
    if channels in PICTURE_CHANNELS:
        rgb, measured = load_rgb(image, content, reopen, bit_depth)
        return (rgb if channels == 3 else rgb.convert("L")), measured
    values: NDArray[Any] | None = color_values(image, content, reopen)
    if values is None:
        image.load()
        values = _values(image)
    eight, measured = to_eight_bits(values, bit_depth)
    return fit_channels(eight, channels), measured


def _values(image: Image.Image) -> NDArray[Any]:
    """Return the values of a loaded image ``[H, W, C]``: those of every channel, with transparency as one of them."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in _PLAIN and not image.mode.startswith("I;16"):
        raise BadImage(f"pixel values of mode {image.mode}, which are not plain channels; save it with plain channels")
    values = np.asarray(image)
    return values if values.ndim == 3 else values[..., None]
