"""Tooltips of a figure, and series that can be hidden in its legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.dom import minidom

from matplotlib.axes import Axes

SERIES_ID = "triscale-series-"
MARKER_PATHS = {
    "o": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
    "s": "M1.5 1.5h9v9h-9z",
    "D": "M6 .5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
    "^": "M6 1l5 10h-10z",
    "v": "M6 11l5-10h-10z",
    "P": "M4.2 1h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    "X": "M3 .5l3 3l3-3l2.5 2.5l-3 3l3 3l-2.5 2.5l-3-3l-3 3l-2.5-2.5l3-3l-3-3z",
    "*": "M6 0l1.4 4.3h4.6l-3.7 2.7l1.4 4.4l-3.7-2.7l-3.7 2.7l1.4-4.4l-3.7-2.7h4.6z",
}
"""Shapes of matplotlib's markers in a box of 12 pixels, for legends outside of a figure."""
_RADIUS = 9


@dataclass(frozen=True, slots=True)
class PlotMark:
    """An area of a figure with a tooltip, in pixels of the figure.

    The area is a disc around (``x``, ``y``), or with a ``width`` a box whose top left corner is (``left``, ``y``).
    ``dots`` are the points of curves that the tooltip describes; ``series`` is the number of a :class:`LegendEntry`.
    """

    text: str
    x: float
    y: float
    series: int | None = None
    left: float = 0
    width: float = 0
    height: float = 0
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A legend entry: a series that can be hidden.

    Attributes:
        number: Number of the series, see :func:`in_series`.
        name: Name of the series.
        color: A color of :data:`triscale.report.draw.svg.PALETTE`.
        marker: A marker letter of matplotlib.
    """

    number: int
    name: str
    color: str
    marker: str


def in_series(number: int) -> str:
    """Return the ``gid`` of an artist that belongs to a series, which the legend can hide."""
    return f"{SERIES_ID}{number}"


def pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Return the position of a data point in its figure, in pixels from the left and the top."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    across, up = axes.transData.transform((x, y)) * 72 / figure.dpi
    return float(across), float(figure.get_size_inches()[1]) * 72 - float(up)


def marks_group(document: minidom.Document, marks: Sequence[PlotMark]) -> minidom.Element:
    """Return the marks as a group of transparent shapes above all other elements."""
    group = document.createElement("g")
    for name, text in (("class", "marks"), ("fill", "none"), ("pointer-events", "all")):
        group.setAttribute(name, text)
    for mark in marks:
        shape = document.createElement("rect" if mark.width else "circle")
        values: dict[str, object] = {"class": "mark", "role": "img"}
        if mark.width:
            values |= {"x": _short(mark.left), "y": _short(mark.y), "width": _short(mark.width)}
            values["height"] = _short(mark.height)
            if mark.dots:
                values["data-x"] = _short(mark.x)
                values["data-dots"] = " ".join(f"{_short(x)},{_short(y)}" for x, y in mark.dots)
        else:
            values |= {"cx": _short(mark.x), "cy": _short(mark.y), "r": _RADIUS}
        if mark.series is not None:
            values["data-series"] = mark.series
        for key, value in values.items():
            shape.setAttribute(key, str(value))
        title = document.createElement("title")
        title.appendChild(document.createTextNode(mark.text))
        shape.appendChild(title)
        group.appendChild(shape)
    return group


def _short(value: float) -> str:
    return f"{value:.1f}"
