"""Convert a decoded image of any mode to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageCms

from triscale.errors import DataError

GRAY = (128, 128, 128)
"""The background that shows through transparent pixels."""

_OPAQUE = {"1", "L", "P", "RGB"}
_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_CONVERTED = {"RGBX", "CMYK", "YCbCr", "HSV"}


class BadImage(DataError):  # noqa: N818 - the image is bad, not the program
    """Report a file that is not a usable image; the message is a short reason."""


class NotAnImage(BadImage):
    """Report a file whose content is not in any known image format."""


class FileTooLarge(BadImage):
    """Report a file that is not opened because of its size."""


def to_rgb(
    image: Image.Image, *, bits: int = 16, white_is_zero: bool = False, bit_depth: int | None = None
) -> Image.Image:
    """Convert a decoded image to 8-bit RGB.

    Values of more than 8 bits keep their upper 8 bits, transparent images are composited over mid gray, CMYK and
    palettes are converted without color management, and CIE Lab is converted to sRGB.

    Args:
        image: A loaded image of any mode.
        bits: Bit depth of the values of an image of mode ``I;16`` or ``I``; other modes ignore it.
        white_is_zero: Whether 0 is white in an image of mode ``I;16`` or ``I``; other modes ignore it.

        bit_depth: How many of the 16 bits the values use, if they use fewer; higher values become white.

    Returns:
        An image of mode ``RGB`` and the same size.

    Raises:
        BadImage: The range from black to white is unknown (floats, 32-bit integers above 65535).

    Example:
        >>> to_rgb(Image.new("RGBA", (2, 1), (255, 0, 0, 0))).getpixel((0, 0))  # fully transparent
        (128, 128, 128)
    """
    if image.mode in _OPAQUE:
        return flatten(image) if image.has_transparency_data else image.convert("RGB")
    if image.mode in _TRANSPARENT:
        return flatten(image)
    if image.mode in _CONVERTED:
        return image.convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _deep_to_rgb(image, bits, white_is_zero, bit_depth or bits)
    kind = "floating-point values" if image.mode == "F" else f"pixel values of mode {image.mode}"
    raise BadImage(
        f"{kind}, whose range from black to white is unknown; scale them to 8 or 16 bits and save the image as PNG"
    )


def flatten(image: Image.Image) -> Image.Image:
    """Composite a transparent image over mid gray."""
    layers = image.convert("LA") if image.mode == "La" else image
    layers = layers.convert("RGBA")
    canvas = Image.new("RGB", image.size, GRAY)
    canvas.paste(layers, mask=layers)
    return canvas


def _deep_to_rgb(image: Image.Image, bits: int, white_is_zero: bool, bit_depth: int) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() >= 1 << bits:
        raise BadImage(
            f"integer pixel values outside 0..{(1 << bits) - 1}; scale them to 8 or 16 bits and save the image as PNG"
        )
    eight = np.minimum(values >> (bit_depth - 8), 255).astype(np.uint8)
    gray = Image.fromarray(255 - eight if white_is_zero else eight)
    key = image.info.get("transparency")
    if isinstance(key, int):  # the tRNS chunk of a PNG can declare one gray value transparent
        gray.paste(GRAY[0], mask=Image.fromarray(values == key))
    return gray.convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise BadImage("CIE Lab values cannot be converted")
    return converted
