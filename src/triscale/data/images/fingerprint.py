"""Fingerprint an image in 288 bytes that barely change when it is re-encoded, rescaled or converted to gray.

::

    16 x 16 luma                4 x 4 Cb, Cr interleaved
    [ 256 bytes, row-major ]    [ 32 bytes ]
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triscale.data.images.bands import AnyImage, Bands, to_array

SIDE = 16
"""Columns and rows of the luma thumbnail; the chroma thumbnails have a quarter of each."""

_LUMA = SIDE * SIDE
_CHROMA = 2 * (SIDE // 4) ** 2
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # rows: Y, Cb, Cr; columns: R, G, B


class Fingerprints(NamedTuple):
    """The fingerprints of N images as arrays of levels from 0 to 255.

    Attributes:
        luma: float32 ``[N, 256]``, row-major.
        chroma: float32 ``[N, 32]``, Cb and Cr; 128 is gray.
    """

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]


def shrink(image: AnyImage) -> bytes:
    """Return the 16 x 16 RGB pixels of an image that its fingerprint is computed from.

    Of an image that is neither gray nor RGB, every channel counts: red is the mean of channels 0, 3, 6, ..., green of
    1, 4, 7, ..., and blue of 2, 5, 8, ... (of two channels, the mean of both).
    """
    # The weights of the Hamming filter are exact at any ratio, unlike those of a box, and close to a mean.
    small = image.resize((SIDE, SIDE), Image.Resampling.HAMMING, reducing_gap=3.0)
    if not isinstance(small, Bands):
        return (small if small.mode == "RGB" else small.convert("RGB")).tobytes()
    values = to_array(small).astype(np.float32)
    means = [(values[..., start::3] if values.shape[-1] > start else values).mean(axis=-1) for start in range(3)]
    return np.stack(means, axis=-1).round().astype(np.uint8).tobytes()


def fingerprints_of(shrunk: Sequence[bytes]) -> list[str]:
    """Return the fingerprint of each image in base64: 16 x 16 luma values and 4 x 4 values of Cb and Cr.

    Luma and chroma are those of JPEG (ITU-T T.871). Computing many at once is much faster than one by one.

    Args:
        shrunk: The result of :func:`shrink` for each image.

    Example:
        >>> texts = fingerprints_of([shrink(Image.new("RGB", (40, 30), "white"))])
        >>> prints = unpack(texts)
        >>> prints.luma.shape, float(prints.luma[0, 0]), float(prints.chroma[0, 0])
        ((1, 256), 255.0, 128.0)
    """
    count, quarter = len(shrunk), SIDE // 4
    pixels = np.frombuffer(b"".join(shrunk), np.uint8).astype(np.float32)
    luma = (pixels.reshape(-1, 3) @ _YCC[0]).reshape(count, _LUMA)
    rows = pixels.reshape(count * quarter, 4, SIDE * 3).sum(axis=1)
    coarse = rows.reshape(count * quarter * quarter, 4, 3).sum(axis=1) / 16
    chroma = (coarse @ _YCC[1:].T + 128).reshape(count, _CHROMA)
    values = np.concatenate([luma, chroma], axis=1).round().clip(0, 255).astype(np.uint8)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in values]


def unpack(fingerprints: Sequence[str]) -> Fingerprints:
    """Return base64 fingerprints as arrays."""
    content = b"".join(map(base64.b64decode, fingerprints))
    values = np.frombuffer(content, np.uint8).reshape(len(fingerprints), _LUMA + _CHROMA).astype(np.float32)
    return Fingerprints(values[:, :_LUMA], values[:, _LUMA:])
