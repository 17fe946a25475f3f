"""Ternary coordinates of candidates: how depth, width and resolution share the growth of the cost.

Networks of equal cost lie on a surface, so two coordinates describe them. The cost grows like ``d w^2 r^2``. The
coordinates are the terms ``log2 d``, ``2 log2 w`` and ``2 log2 r`` of its logarithm, as shares of their sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from triscale.scaling.law import Scale

Shares = tuple[float, float, float]

HEIGHT = math.sqrt(3) / 2
"""Height of the triangle, whose sides have length 1."""


def lattice(steps: int) -> Iterator[Shares]:
    """Yield the shares of depth, width and resolution on a regular lattice over the triangle, by depth, then width."""
    for depth in range(steps + 1):
        for width in range(steps + 1 - depth):
            yield depth / steps, width / steps, (steps - depth - width) / steps


def shares(scale: Scale) -> Shares | None:
    """Return the share of the growth in cost that each dimension takes; None for a scale of 1.

    A dimension that shrinks by rounding while the others grow counts as unchanged.
    """
    terms = [math.log2(scale.depth), 2 * math.log2(scale.width), 2 * math.log2(scale.resolution)]
    sign = math.copysign(1, sum(terms))
    depth, width, resolution = (max(0.0, sign * term) for term in terms)
    total = depth + width + resolution
    return None if total == 0 else (depth / total, width / total, resolution / total)


def position(of: Shares) -> tuple[float, float]:
    """Return x and y: width alone is at (0, 0), resolution alone at (1, 0), depth alone at the top."""
    depth, _, resolution = of
    return resolution + depth / 2, depth * HEIGHT
