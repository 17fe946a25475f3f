"""How an image looks, in 288 bytes: what stays nearly the same when it is encoded anew, rescaled or made grey."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
"""Columns and rows of the brightness that is kept; of the colors, a quarter of each."""

_LUMA = SIDE * SIDE
_CHROMA = 2 * (SIDE // 4) ** 2
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # brightness and the two color differences, of red, green and blue


class Fingerprints(NamedTuple):
    """Many looks as arrays, in levels of 0 to 255.

    Attributes:
        luma: float32 ``[N, 256]``, brightness in rows.
        chroma: float32 ``[N, 32]``, the two color differences; 128 is grey.
    """

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]


def shrink(image: Image.Image) -> bytes:
    """Return the 16 x 16 RGB pixels that an RGB image is reduced to."""
    # The filter's weights are exact at any ratio, unlike those of a box, and at even ones it is close to a mean.
    return image.resize((SIDE, SIDE), Image.Resampling.HAMMING, reducing_gap=3.0).tobytes()


def fingerprints_of(shrunk: Sequence[bytes]) -> list[str]:
    """Return how images look, each in base64: brightness in 16 x 16 places, and two color differences in 4 x 4 each.

    Brightness and color differences are those of JPEG (ITU-T T.871). Many at a time, as that is much faster.

    Args:
        shrunk: what :func:`shrink` returns for each image.
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
    """Return looks as arrays."""
    content = b"".join(map(base64.b64decode, fingerprints))
    values = np.frombuffer(content, np.uint8).reshape(len(fingerprints), _LUMA + _CHROMA).astype(np.float32)
    return Fingerprints(values[:, :_LUMA], values[:, _LUMA:])
