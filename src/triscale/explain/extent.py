"""Locate the peak of a map and its extent, in pixels of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_LEVEL = 0.5
"""Minimum value of a cell in the extent, relative to the peak."""


class Box(NamedTuple):
    """A rectangle in pixels; ``right`` and ``bottom`` are exclusive."""

    left: float
    top: float
    right: float
    bottom: float


class Extent(NamedTuple):
    """The peak and the extent of a map; a map without positive values has neither.

    Attributes:
        peak: x and y of the center of the cell with the maximum.
        box: The bounding box of all cells with at least half of the maximum.
        share: The fraction of the map's cells that reach half of the maximum.
    """

    peak: tuple[float, float] | None
    box: Box | None
    share: float


def extent(heat: NDArray[np.float32], square: Box) -> Extent:
    """Return peak and extent of a map that covers a square of an image.

    Args:
        heat: ``[h, w]``; negative values are evidence against the class.
        square: The region of the image that the map covers, in pixels.

    Example:
        >>> heat = np.array([[0, 0], [0, 2]], np.float32)
        >>> extent(heat, Box(0, 0, 100, 100))
        Extent(peak=(75.0, 75.0), box=Box(left=50.0, top=50.0, right=100.0, bottom=100.0), share=0.25)
    """
    height, width = heat.shape
    peak = float(heat.max())
    if peak <= 0:
        return Extent(None, None, 0.0)
    cell_width, cell_height = (square.right - square.left) / width, (square.bottom - square.top) / height
    row, column = (int(index) for index in np.unravel_index(int(heat.argmax()), heat.shape))
    rows, columns = np.nonzero(heat >= MIN_LEVEL * peak)
    return Extent(
        peak=(square.left + (column + 0.5) * cell_width, square.top + (row + 0.5) * cell_height),
        box=Box(
            left=square.left + float(columns.min()) * cell_width,
            top=square.top + float(rows.min()) * cell_height,
            right=square.left + float(columns.max() + 1) * cell_width,
            bottom=square.top + float(rows.max() + 1) * cell_height,
        ),
        share=len(rows) / heat.size,
    )
