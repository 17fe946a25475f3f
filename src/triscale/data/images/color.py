"""Any decoded image -> 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageCms

from triscale.errors import DataError

GREY = (128, 128, 128)
"""What shows through transparent pixels."""

_OPAQUE = {"1", "L", "P", "RGB"}
_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_CONVERTED = {"RGBX", "CMYK", "YCbCr", "HSV"}


class BadImage(DataError):  # noqa: N818 - it is the image that is bad
    """A file that is not an image which can be trained on; the message is the reason in a few words."""


def to_rgb(image: Image.Image, *, bits: int = 16, white_is_zero: bool = False) -> Image.Image:
    """Convert a decoded image to 8-bit RGB.

    Values of more than 8 bits keep their upper 8 bits, transparency is laid over mid grey, CMYK and palettes are
    converted without color management, and CIE Lab goes to sRGB.

    Args:
        image: a loaded image of any mode.
        bits: the depth of the values of an image of mode ``I;16`` or ``I``; other modes ignore it.
        white_is_zero: whether 0 is white in an image of mode ``I;16`` or ``I``; other modes ignore it.

    Raises:
        BadImage: the values have no range from black to white that is known (floats, 32-bit integers above 65535).
    """
    if image.mode in _OPAQUE:
        return _flatten(image) if image.has_transparency_data else image.convert("RGB")
    if image.mode in _TRANSPARENT:
        return _flatten(image)
    if image.mode in _CONVERTED:
        return image.convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _deep_to_rgb(image, bits, white_is_zero)
    raise BadImage(f"pixel values of kind {image.mode}, whose range from black to white is not known")


def _flatten(image: Image.Image) -> Image.Image:
    layers = image.convert("LA") if image.mode == "La" else image
    layers = layers.convert("RGBA")
    canvas = Image.new("RGB", image.size, GREY)
    canvas.paste(layers, mask=layers)
    return canvas


def _deep_to_rgb(image: Image.Image, bits: int, white_is_zero: bool) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() >= 1 << bits:
        raise BadImage(f"integer pixel values outside 0..{(1 << bits) - 1}")
    eight = (values >> (bits - 8)).astype(np.uint8)
    grey = Image.fromarray(255 - eight if white_is_zero else eight)
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG may name one grey value that is transparent
        grey.paste(GREY[0], mask=Image.fromarray(values == key))
    return grey.convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise BadImage("CIE Lab values that cannot be converted")
    return converted
