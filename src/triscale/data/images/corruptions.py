"""Corruptions of images at five strengths, for measuring how much a network depends on good pictures.

They follow ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261) in kind and strength; its numbers are for
images of 224 pixels. Larger images are reduced to about that size first, so that a strength means the same for photos
of any camera: noise of single pixels of a large photo would disappear when it is reduced to the input of a network.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from triscale.data.images.bands import AnyImage, Bands, from_array, to_array

Corruption = Literal["brightness", "blur", "noise", "jpeg", "rotation"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
STRENGTHS: dict[Corruption, tuple[float, ...]] = {
    "brightness": (0.1, 0.2, 0.35, 0.5, 0.65),
    "blur": (0.004, 0.009, 0.013, 0.018, 0.027),
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "jpeg": (50, 25, 15, 10, 7),
    "rotation": (5, 10, 15, 20, 30),
}
"""The amount at each strength, see :func:`corrupt`."""
MEANINGS: dict[Corruption, str] = {
    "brightness": "values multiplied by 1 plus or minus",
    "blur": "standard deviation, as a share of the shorter side",
    "noise": "standard deviation, as a share of the range of values",
    "jpeg": "quality",
    "rotation": "degrees, to the left or right",
}
"""What the amounts are."""
MIN_SIDE = 256
"""Images are reduced to this shorter side, or to that of the network's input if it is larger."""


def reduced(image: AnyImage, side: int) -> AnyImage:
    """Return an image whose shorter side is at most ``side`` pixels.

    Example:
        >>> reduced(Image.new("RGB", (640, 480)), 240).size
        (320, 240)
    """
    shorter = min(image.size)
    if shorter <= side:
        return image
    width, height = (max(side, round(length * side / shorter)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def corrupt(image: AnyImage, corruption: Corruption, strength: int, key: str) -> AnyImage:
    """Return a corrupted image of the same size and channels.

    - ``brightness``: all values are multiplied by 1 + s or 1 - s.
    - ``blur``: Gaussian blur; its standard deviation is a share of the shorter side.
    - ``noise``: Gaussian noise is added to every value of every channel.
    - ``jpeg``: the image is compressed as JPEG with this quality; each channel on its own, unless it is RGB.
    - ``rotation``: about the center, to the left or to the right; what lies outside is the mirrored image.

    Args:
        image: A decoded image.
        corruption: The kind.
        strength: 1 to 5.
        key: Everything random depends on it and on the kind only: with the same key, all strengths of a kind have the
            same direction and the same pattern of noise.

    Example:
        >>> image = Image.new("L", (8, 8), 100)
        >>> sorted({corrupt(image, "brightness", 5, str(key)).getpixel((0, 0)) for key in range(20)})
        [35, 165]
    """
    amount = STRENGTHS[corruption][strength - 1]
    seed = hashlib.sha256(f"{corruption} {key}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    sign = 1 if rng.random() < 0.5 else -1
    match corruption:
        case "brightness":
            return _from_values(to_array(image) * (1 + sign * amount))
        case "blur":
            radius = amount * min(image.size)
            return _of_each(image, lambda part: part.filter(ImageFilter.GaussianBlur(radius)))
        case "noise":
            values = to_array(image)
            return _from_values(values + rng.standard_normal(values.shape) * (255 * amount))
        case "jpeg":
            return _of_each(image, lambda part: _as_jpeg(part, int(amount)))
        case "rotation":
            return _rotated(image, sign * amount)


def _of_each(image: AnyImage, change: Callable[[Image.Image], Image.Image]) -> AnyImage:
    return Bands([change(band) for band in image.bands]) if isinstance(image, Bands) else change(image)


def _from_values(values: NDArray[np.floating]) -> AnyImage:
    return from_array(np.rint(values).clip(0, 255).astype(np.uint8))


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return opened.convert(image.mode)


def _rotated(image: AnyImage, degrees: float) -> AnyImage:
    # Up to 30 degrees, a corner of the result lies outside by at most a quarter of the longer side.
    margin = -(-max(image.size) // 4) + 1
    wide = from_array(np.pad(to_array(image), ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))
    box = (margin, margin, margin + image.width, margin + image.height)
    return _of_each(wide, lambda part: part.rotate(degrees, Image.Resampling.BILINEAR)).crop(box)
