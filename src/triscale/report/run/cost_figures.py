"""Accuracy against cost: measured networks above, published ones below, on separate scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from triscale.report.draw.format import share, shorten, si
from triscale.report.draw.labels import Labels
from triscale.report.draw.marks import LegendEntry, PlotMark, in_series, pixels
from triscale.report.draw.palette import BLUE, INK, MARKERS, MUTED, ORANGE, SERIES, SURFACE
from triscale.report.draw.svg import Picture, draw
from triscale.report.run.run_content import FamilyPoint
from triscale.results.metrics import Metrics
from triscale.results.run_comparison import ComparedRun

OWN_COLORS = (ORANGE, BLUE, *SERIES)
"""Colors of the measured networks, in their order."""

_WIDTH, _LEFT, _RIGHT = 420, 66, 14
_TOP, _GAP, _BOTTOM = 28, 56, 46
_OWN_HEIGHT, _MORE_HEIGHT, _PUBLISHED_HEIGHT = 92, 190, 250
_MIN_SPAN = 0.04


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """An evaluated network: its cost, and its accuracy with the 95% interval.

    ``text`` is its tooltip; ``number`` is the index of its color among all measured networks.
    """

    name: str
    macs: int
    top1: float
    low: float
    high: float
    text: str
    number: int = 0

    @classmethod
    def of(cls, name: str, macs: int, params: int, result: Metrics | ComparedRun, images: str, number: int = 0) -> Self:
        """Return the point of an evaluated network, with its tooltip.

        Args:
            name: Name of the network or run.
            macs: MACs for one image.
            params: Parameters of the network.
            result: The evaluation.
            images: Description of the test images.
            number: Index of its color.
        """
        interval = f"{share(result.top1_low)} to {share(result.top1_high)}"
        text = (
            f"{name}: {share(result.top1)} of {images} correct (95% interval {interval}), {si(macs)} MACs, "
            f"{si(params)} parameters"
        )
        return cls(name, macs, result.top1, result.top1_low, result.top1_high, text, number)


@dataclass(frozen=True, slots=True)
class Panel:
    """Networks evaluated on the same images, so that their accuracies share a scale; ``title`` names the images."""

    title: str
    plot_points: tuple[PlotPoint, ...]


@dataclass(frozen=True, slots=True)
class _Series:
    number: int
    name: str
    color: str
    marker: str
    members: tuple[FamilyPoint, ...]


def accuracy_against_cost(panels: Sequence[Panel], published: Sequence[FamilyPoint]) -> Picture | None:
    """Draw accuracy against MACs: one panel for each test set, and one for published ImageNet accuracies.

    All panels share the logarithmic axis of MACs, but not the axis of accuracy. Returns None if there are no points.
    """
    plot_points = [own for panel in panels for own in panel.plot_points]
    first = max((own.number for own in plot_points), default=-1) + 1
    series = _series([point for point in published if point.top1 is not None], first)
    macs = [own.macs for own in plot_points if own.macs] + [point.macs for row in series for point in row.members]
    if not macs:
        return None
    panels = [panel for panel in panels if any(own.macs for own in panel.plot_points)]
    heights = [_OWN_HEIGHT if len(panel.plot_points) == 1 else _MORE_HEIGHT for panel in panels]
    heights += [_PUBLISHED_HEIGHT] if series else []
    height = _TOP + sum(heights) + _GAP * (len(heights) - 1) + _BOTTOM
    limits = (min(macs) / 1.9, max(macs) * 3)

    def paint(figure: Figure) -> list[PlotMark]:
        marks, top = [], _TOP
        for index, panel_height in enumerate(heights):
            axes = _axes(figure, top, panel_height, height, limits, last=index == len(heights) - 1)
            top += panel_height + _GAP
            if index < len(panels):
                _title(figure, axes, panels[index].title, "measured")
                marks += _measured(axes, panels[index].plot_points)
            else:
                other = ": other images, another scale" if panels else ""
                _title(figure, axes, "ImageNet", f"as published{other}")
                marks += _published(axes, series, plot_points)
        return marks

    keys = [LegendEntry(row.number, row.name, row.color, row.marker) for row in series]
    own_keys = [LegendEntry(own.number, own.name, own_color(own.number), "*") for own in plot_points if own.macs]
    measured = "; ".join(f"{panel.title}: {', '.join(own.text for own in panel.plot_points)}" for panel in panels)
    return draw(
        name="figure-accuracy-cost",
        title="Accuracy against cost",
        description=f"Top-1 accuracy over MACs on a logarithmic axis. {measured or 'Nothing has been measured yet'}."
        + (" In a separate panel: published results of other networks on ImageNet." if series else ""),
        width=_WIDTH,
        height=height,
        paint=paint,
        keys=(*own_keys, *keys),
    )


def own_color(number: int) -> str:
    """Return the color of a measured network by its index."""
    return OWN_COLORS[number % len(OWN_COLORS)]


def _series(points: Sequence[FamilyPoint], first: int) -> list[_Series]:
    groups: dict[str, list[FamilyPoint]] = {}
    for point in points:
        groups.setdefault(point.family, []).append(point)
    styles = cycle(zip(SERIES, MARKERS, strict=True))
    return [
        _Series(number, shorten(name, 22), color, marker, tuple(sorted(members, key=lambda p: (p.macs, p.name))))
        for (number, (name, members)), (color, marker) in zip(enumerate(groups.items(), first), styles, strict=False)
    ]


def _axes(figure: Figure, top: int, panel_height: int, height: int, limits: tuple[float, float], *, last: bool) -> Axes:
    axes = figure.add_axes(
        (_LEFT / _WIDTH, 1 - (top + panel_height) / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, panel_height / height)
    )
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,), numticks=12))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel("top-1")
    if last:
        axes.set_xlabel("MACs for one image (logarithmic)")
    return axes


def _title(figure: Figure, axes: Axes, name: str, kind: str) -> None:
    up = axes.get_position().y1 + 13 / (float(figure.get_size_inches()[1]) * 72)
    figure.text(_LEFT / _WIDTH, up, shorten(name, 50), color=INK, fontweight="bold", fontsize=10.5, va="center")
    figure.text(1 - _RIGHT / _WIDTH, up, kind, color=MUTED, fontsize=9, va="center", ha="right")


def _percent(axes: Axes, low: float, high: float) -> None:
    middle, half = (low + high) / 2, max(high - low, _MIN_SPAN) / 2 * 1.3
    axes.set_ylim(max(-0.02, middle - half), min(1.02, middle + half))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol="%"))


def _measured(axes: Axes, plot_points: Sequence[PlotPoint]) -> list[PlotMark]:
    _percent(axes, min(own.low for own in plot_points), max(own.high for own in plot_points))
    shown = [own for own in plot_points if own.macs]
    for own in shown:
        color, gid = own_color(own.number), in_series(own.number)
        axes.plot([own.macs] * 2, [own.low, own.high], color=color, linewidth=2.2, marker="_", markersize=9, gid=gid)
        axes.plot(
            own.macs, own.top1, color=color, marker="*", markersize=16, markeredgecolor=SURFACE, linestyle="none",
            zorder=5, gid=gid,
        )  # fmt: skip
    labels = Labels(axes)
    for own in shown:
        labels.keep_clear(own.macs, own.top1, radius=6)
        labels.keep_line_clear([(own.macs, own.low), (own.macs, own.high)])
    marks = []
    for own in shown:
        labels.place(
            own.macs, own.top1, shorten(own.name, 30), size=10, color=own_color(own.number), weight="bold", gap=10,
            must=len(shown) == 1, gid=in_series(own.number),
        )  # fmt: skip
        marks.append(PlotMark(own.text, *pixels(axes, own.macs, own.top1), series=own.number))
    return marks


def _published(axes: Axes, series: Sequence[_Series], plot_points: Sequence[PlotPoint]) -> list[PlotMark]:
    values = [point.top1 or 0.0 for row in series for point in row.members]
    _percent(axes, min(values), max(values))
    for own in plot_points:
        if own.macs:
            axes.axvline(
                own.macs,
                color=own_color(own.number),
                linestyle=(0, (4, 3)),
                linewidth=1.1,
                gid=in_series(own.number),
            )
    for row in series:
        axes.plot(
            [point.macs for point in row.members], [point.top1 or 0.0 for point in row.members], color=row.color,
            marker=row.marker, markersize=4.5, linewidth=1.3, gid=in_series(row.number),
        )  # fmt: skip
    labels = Labels(axes)
    for own in plot_points:
        if own.macs:
            labels.keep_line_clear([(own.macs, height) for height in axes.get_ylim()])
    for row in series:
        for point in row.members:
            labels.keep_clear(point.macs, point.top1 or 0.0)
        labels.keep_line_clear([(point.macs, point.top1 or 0.0) for point in row.members])
    marks = []
    for row in series:
        # The ends of each line are labeled first, then its middle, as long as labels fit.
        for point in (*row.members[-1:], *row.members[:-1]):
            labels.place(
                point.macs, point.top1 or 0.0, shorten(point.name, 22), size=8.5, color=MUTED, gid=in_series(row.number)
            )
        marks += [
            PlotMark(_tooltip(point), *pixels(axes, point.macs, point.top1 or 0.0), series=row.number)
            for point in row.members
        ]
    return marks


def _tooltip(point: FamilyPoint) -> str:
    cost = f"{si(point.macs)} MACs, {si(point.params)} parameters"
    return f"{point.name}: {share(point.top1)} on ImageNet as published, {cost}"
