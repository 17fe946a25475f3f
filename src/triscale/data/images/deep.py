"""Read the full values of images with 16 bits per channel, which Pillow reduces to the upper 8 bits.

Where the values use fewer bits, as those of many microscopes and cameras do, the upper 8 bits are nearly black.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from triscale.data.images.color import flatten, to_rgb
from triscale.network.contract import BIT_DEPTHS, BitDepth

Values = NDArray[np.uint16]

_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The byte order in which Pillow keeps the lower instead of the upper byte of each value."""
_RAW_MODES = ("RGB", "RGBA", "RGBX")
_FULL: BitDepth = 16
_MEASURED = ("PNG", "TIFF", "PPM")
"""Formats whose files may use fewer bits than they have room for; decoders of others scale the values."""


class ValueRange(NamedTuple):
    """The lowest and the highest value of an image with 16 bits per channel; zeros if they were not measured."""

    lowest: int = 0
    highest: int = 0

    @classmethod
    def of(cls, values: NDArray[Any]) -> ValueRange:
        """Return the range of some values."""
        return cls(max(0, int(values.min())), max(0, int(values.max())))


NOT_MEASURED = ValueRange()


def bit_depth_of(highest: int) -> BitDepth:
    """Return the smallest bit depth that holds a value of up to 16 bits.

    Example:
        >>> bit_depth_of(173), bit_depth_of(1023), bit_depth_of(1024), bit_depth_of(65535)
        (8, 10, 12, 16)
    """
    return next(depth for depth in BIT_DEPTHS if highest < 1 << depth)


def load_rgb(
    image: ImageFile.ImageFile, content: bytes, reopen: Callable[[], ImageFile.ImageFile], bit_depth: BitDepth | None
) -> tuple[Image.Image, ValueRange]:
    """Load an image as 8-bit RGB.

    Args:
        image: The image, opened but not loaded.
        content: The bytes of its file.
        reopen: Opens it again.
        bit_depth: How many bits the values of an image with 16 bits per channel use; None for as many as this one's.

    Returns:
        The image, and the range of its values if it has 16 bits per channel and ``bit_depth`` is None.
    """
    if bit_depth != _FULL:
        values = color_values(image, content, reopen)
        if values is not None:
            measured = ValueRange.of(values[..., :-1] if _has_alpha(values) else values)
            depth = bit_depth or bit_depth_of(measured.highest)
            if depth != _FULL:
                return _color_to_rgb(values, depth, image.info.get("transparency")), measured
            image.load()
            return to_rgb(image), measured
    bits, white_is_zero = _FULL, False
    is_declared = image.format not in _MEASURED or _declares_its_range(image)
    if isinstance(image, TiffImageFile):
        # Tag 258 is BitsPerSample, tag 262 PhotometricInterpretation (0: white is zero); above 8 bits, Pillow ignores
        # both.
        bits, white_is_zero = 12 if image.tag_v2.get(258) == (12,) else _FULL, image.tag_v2.get(262) == 0
    image.load()
    is_deep = image.mode == "I" or image.mode.startswith("I;16")
    if not is_deep or is_declared or bits != _FULL:
        return to_rgb(image, bits=bits, white_is_zero=white_is_zero), NOT_MEASURED
    measured = ValueRange.of(np.asarray(image)) if bit_depth is None else NOT_MEASURED
    depth = bit_depth or bit_depth_of(min(measured.highest, 0xFFFF))
    return to_rgb(image, white_is_zero=white_is_zero, bit_depth=depth), measured


def color_values(
    image: ImageFile.ImageFile, content: bytes, reopen: Callable[[], ImageFile.ImageFile]
) -> Values | None:
    """Return the values of an image with 16 bits per channel and more than one channel.

    Args:
        image: The image, opened but not loaded; it is not loaded afterwards either.
        content: The bytes of its file.
        reopen: Opens it again.

    Returns:
        Values ``[height, width, channels]`` of gray and alpha, RGB, or RGB and alpha; None for any other image.
    """
    raw_mode = raw_mode_of(image)
    if raw_mode == "LA;16B":
        read = _load(reopen(), "RGBA")  # four bytes: gray and alpha, the upper byte first
        return _joined(read[..., 0::2], read[..., 1::2])
    if raw_mode in ("P6", "RGB") and image.format == "PPM":
        start, count = image.tile[0].offset, 3 * image.width * image.height
        return np.frombuffer(content, ">u2", count, start).astype(np.uint16).reshape(image.height, image.width, 3)
    mode, _, order = raw_mode.partition(";16")
    if mode not in _RAW_MODES or order not in _SWAPPED:
        return None
    upper, lower = _load(reopen()), _load(reopen(), f"{mode};16{_SWAPPED[order]}")
    return _joined(upper, lower)


def _color_to_rgb(values: Values, bit_depth: BitDepth, key: object = None) -> Image.Image:
    """Convert values of several channels to 8-bit RGB.

    Args:
        values: The result of :func:`color_values`.
        bit_depth: Number of bits that the values use; higher values become white.
        key: The values of the color that is transparent, if there is one.
    """
    has_alpha = _has_alpha(values)
    colors = values[..., :-1] if has_alpha else values
    eight = upper_bits(colors, bit_depth)
    rgb = Image.fromarray(np.ascontiguousarray(np.broadcast_to(eight, (*values.shape[:2], 3))))
    if has_alpha:
        alpha = values[..., -1]
        rgb.putalpha(Image.fromarray(upper_bits(alpha, bit_depth if alpha.max() < 1 << bit_depth else 16)))
    elif isinstance(key, tuple):
        rgb.putalpha(Image.fromarray(np.where((values == key).all(axis=-1), 0, 255).astype(np.uint8)))
    return flatten(rgb) if rgb.mode == "RGBA" else rgb


def _has_alpha(values: Values) -> bool:
    return values.shape[-1] in (2, 4)


def upper_bits(values: NDArray[np.integer], bit_depth: int) -> NDArray[np.uint8]:
    """Return the upper 8 of the bits that values use; higher values become 255."""
    upper: NDArray[np.uint8] = np.minimum(values >> (bit_depth - 8), 255).astype(np.uint8)
    return upper


def _declares_its_range(image: Image.Image) -> bool:
    """Return whether the header of a PGM or PPM file states another highest value than 65535."""
    if image.format != "PPM" or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return False
    arguments = image.tile[0].args
    return isinstance(arguments, tuple) and len(arguments) > 1 and arguments[1] != 65535


def raw_mode_of(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name for the channels and bytes of an image file that is not loaded; empty if unknown."""
    tiles = image.tile
    if len(tiles) == 0 or (image.format == "PPM" and (_declares_its_range(image) or tiles[0].codec_name != "ppm")):
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _load(image: ImageFile.ImageFile, raw_mode: str | None = None) -> NDArray[np.uint8]:
    """Load an image, with another raw mode than its own if one is given."""
    with image:
        if raw_mode is not None:
            image.tile = [
                tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
                for tile in image.tile
            ]
        image.load()
        loaded: NDArray[np.uint8] = np.asarray(image)
        return loaded


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> Values:
    values: Values = upper.astype(np.uint16) * np.uint16(256) + lower
    return values
