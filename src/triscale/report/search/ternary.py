"""The candidates of a search in a triangle: how depth, width and resolution share the growth of the cost.

Networks of one cost lie on a surface, so that two numbers place them. The cost grows like ``d w^2 r^2``; the three
parts of its logarithm, ``log2 d``, ``2 log2 w`` and ``2 log2 r``, as shares of their sum are the position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from triscale.scaling.law import Scale

Shares = tuple[float, float, float]

HEIGHT = math.sqrt(3) / 2
"""Height of the triangle, whose sides have length 1."""


def lattice(steps: int) -> Iterator[Shares]:
    """Yield the shares of depth, width and resolution on an even lattice over the triangle, by depth, then width."""
    for depth in range(steps + 1):
        for width in range(steps + 1 - depth):
            yield depth / steps, width / steps, (steps - depth - width) / steps


def shares(place: Scale) -> Shares | None:
    """Return the share of the growth in cost that each dimension takes; None where nothing grows or shrinks.

    A dimension that rounding moved against the others counts as unchanged.
    """
    parts = [math.log2(place.depth), 2 * math.log2(place.width), 2 * math.log2(place.resolution)]
    sign = math.copysign(1, sum(parts))
    depth, width, resolution = (max(0.0, sign * part) for part in parts)
    total = depth + width + resolution
    return None if total == 0 else (depth / total, width / total, resolution / total)


def position(of: Shares) -> tuple[float, float]:
    """Return x and y: all width is at (0, 0), all resolution at (1, 0), all depth above the middle."""
    depth, _, resolution = of
    return resolution + depth / 2, depth * HEIGHT
