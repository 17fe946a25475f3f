"""Place labels at the points of a plot without overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from triscale.report.draw.format import columns

_Box = tuple[float, float, float, float]


class Labels:
    """Places labels one by one, the most important first; a label that does not fit is omitted.

    The width of a text is estimated from its number of characters, because the browser chooses the font. The limits of
    the axes must be final.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        axes.autoscale_view()  # Otherwise the axes would still have their default limits.
        self._scale = 72.0 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
        self._occupied: list[_Box] = []
        x, y, width, height = axes.get_window_extent().bounds
        self._bounds = tuple(edge * self._scale for edge in (x, y, x + width, y + height))

    def keep_clear(self, x: float, y: float, radius: float = 3.5) -> None:
        """Keep the surroundings of a point free of labels."""
        across, up = self._pixels(x, y)
        self._occupied.append((across - radius, up - radius, across + radius, up + radius))

    def keep_line_clear(self, points: Sequence[tuple[float, float]]) -> None:
        """Keep the straight lines between consecutive points free of labels."""
        positions = [self._pixels(x, y) for x, y in points]
        for (x0, y0), (x1, y1) in pairwise(positions):
            steps = max(int(math.hypot(x1 - x0, y1 - y0) / 4), 1)
            for step in range(steps):
                x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
                self._occupied.append((x - 1, y - 1, x + 1, y + 1))

    def place(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        color: str,
        weight: str = "normal",
        gap: float = 6,
        must: bool = False,
        gid: str | None = None,
    ) -> None:
        """Label a point on the first side where the label fits.

        Args:
            x: Coordinate of the point.
            y: Coordinate of the point.
            text: The label.
            size: Font size.
            color: Color of the text.
            weight: Font weight.
            gap: Distance from the point in pixels.
            must: Place the label even if it overlaps others.
            gid: Group of the series, see :func:`triscale.report.draw.marks.in_series`.
        """
        across, up = self._pixels(x, y)
        width, height = columns(text) * size * 0.58, size * 1.1
        sides = (
            (-1.0, 0.35, "right"),
            (1.0, -0.35, "left"),
            (1.0, 0.35, "left"),
            (-1.0, -0.35, "right"),
            (0.0, 1.0, "center"),
            (0.0, -1.0, "center"),
        )
        for index, (right, above, align) in enumerate(sides):
            middle = across + right * (gap + width / 2), up + above * (gap + height / 2)
            box = (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)
            if self._free(box) or (must and index == len(sides) - 1):
                self._occupied.append(box)
                self._axes.annotate(
                    text,
                    (x, y),
                    xytext=(right * gap, middle[1] - up),
                    textcoords="offset points",
                    horizontalalignment=align,
                    verticalalignment="center",
                    fontsize=size,
                    color=color,
                    fontweight=weight,
                    zorder=6,
                    gid=gid,
                )
                return

    def _pixels(self, x: float, y: float) -> tuple[float, float]:
        across, up = self._axes.transData.transform((x, y))
        return float(across) * self._scale, float(up) * self._scale

    def _free(self, box: _Box) -> bool:
        left, bottom, right, top = box
        if left < self._bounds[0] or bottom < self._bounds[1] or right > self._bounds[2] or top > self._bounds[3]:
            return False
        return not any(left < r and right > x and bottom < t and top > b for x, b, r, t in self._occupied)
