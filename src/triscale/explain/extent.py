"""Where a map has its peak, and how far it reaches, in the image's own pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.5
"""A cell belongs to the extent from this share of the peak on."""


class Box(NamedTuple):
    """A rectangle in pixels: the left and top edge, and the first column and row beyond it."""

    left: float
    top: float
    right: float
    bottom: float


class Extent(NamedTuple):
    """The peak of a map, in the middle of its cell, and how far the map reaches.

    ``box`` is the rectangle around all cells of at least half the peak's value, ``share`` how much of the map these
    cells take. A map without a positive value has neither peak nor extent.
    """

    peak: tuple[float, float] | None
    box: Box | None
    share: float


def extent(heat: NDArray[np.float32], square: Box) -> Extent:
    """Return peak and extent of a map that covers a square of an image.

    Args:
        heat: ``[h, w]``; values below zero speak against the class.
        square: the part of the image that the map covers, in the image's pixels.
    """
    height, width = heat.shape
    peak = float(heat.max())
    if peak <= 0:
        return Extent(None, None, 0.0)
    across, down = (square.right - square.left) / width, (square.bottom - square.top) / height
    row, column = (int(at) for at in np.unravel_index(int(heat.argmax()), heat.shape))
    rows, columns = np.nonzero(heat >= LEVEL * peak)
    return Extent(
        peak=(square.left + (column + 0.5) * across, square.top + (row + 0.5) * down),
        box=Box(
            left=square.left + float(columns.min()) * across,
            top=square.top + float(rows.min()) * down,
            right=square.left + float(columns.max() + 1) * across,
            bottom=square.top + float(rows.max() + 1) * down,
        ),
        share=len(rows) / heat.size,
    )
