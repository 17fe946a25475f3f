"""Tooltips of a figure, and series that can be hidden in its legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.dom import minidom

from matplotlib.axes import Axes

SERIES_ID = "triscale-series-"
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
    group.setAttribute("class", "marks")
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
