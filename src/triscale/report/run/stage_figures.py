"""Figures of the network and its latency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from triscale.network.cost import StageCost
from triscale.network.describe import PartDescription
from triscale.report.draw.format import columns, milliseconds, share, shorten, si
from triscale.report.draw.labels import Labels
from triscale.report.draw.marks import LegendEntry, PlotMark, in_series, pixels
from triscale.report.draw.palette import BLUE, GRID, INK, MARKERS, MUTED, ORANGE, SERIES, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.report.run.run_content import FamilyPoint
from triscale.results.latency import Measurement

_WIDTH = 400


def families(points: Sequence[FamilyPoint], own: FamilyPoint | None) -> Picture | None:
    """Draw MACs against parameters of published families and of this network; None without published networks."""
    if not points:
        return None
    groups: dict[str, list[FamilyPoint]] = {}
    for point in points:
        groups.setdefault(point.family, []).append(point)
    styles = cycle(zip(SERIES, MARKERS, strict=True))
    keys = [
        LegendEntry(index, shorten(name, 22), color, marker)
        for (index, name), (color, marker) in zip(enumerate(groups), styles, strict=False)
    ]
    keys += [LegendEntry(len(groups), shorten(own.name, 40), ORANGE, "*")] if own else []

    def paint(figure: Figure) -> list[PlotMark]:
        axes = plot_area(figure, left=58, right=24, top=14, bottom=46)
        for key, members in zip(keys, groups.values(), strict=False):
            members.sort(key=lambda point: (point.macs, point.params, point.name))
            axes.plot(
                [point.params for point in members],
                [point.macs for point in members],
                color=key.color,
                marker=key.marker,
                markersize=4.5,
                linewidth=1.3,
                gid=in_series(key.number),
            )
        if own:
            axes.plot(
                own.params,
                own.macs,
                color=ORANGE,
                marker="*",
                markersize=17,
                markeredgecolor=SURFACE,
                linestyle="none",
                zorder=5,
                gid=in_series(len(groups)),
            )
        _logarithmic(axes)
        _label_members(axes, list(groups.values()), own)
        marks = [
            PlotMark(_describe_cost(point), *pixels(axes, point.params, point.macs), series=index)
            for index, members in enumerate(groups.values())
            for point in members
        ]
        if own:
            marks.append(PlotMark(_describe_cost(own), *pixels(axes, own.params, own.macs), series=len(groups)))
        return marks

    names = ", ".join(shorten(name, 30) for name in groups)
    at = f" {own.name}: {si(own.params)} parameters, {si(own.macs)} MACs." if own else ""
    return draw(
        name="figure-families",
        title="MACs against parameters",
        description=f"Published families on logarithmic axes: {names}.{at}",
        width=430,
        height=380,
        paint=paint,
        keys=keys,
    )


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("MACs")
    axes.margins(0.09, 0.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0,), numticks=12))
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _describe_cost(point: FamilyPoint) -> str:
    return f"{point.name}: {si(point.macs)} MACs, {si(point.params)} parameters"


def _label_members(axes: Axes, groups: list[list[FamilyPoint]], own: FamilyPoint | None) -> None:
    labels = Labels(axes)
    for members in groups:
        for point in members:
            labels.keep_clear(point.params, point.macs)
        labels.keep_line_clear([(point.params, point.macs) for point in members])
    if own:
        labels.place(
            own.params, own.macs, shorten(own.name, 30), size=11, color=ORANGE, weight="bold", gap=9, must=True,
            gid=in_series(len(groups)),
        )  # fmt: skip
    for rank in range(max((len(members) for members in groups), default=0)):
        for index, members in enumerate(groups):
            # The ends of each line are labeled first, then its middle, as long as labels fit.
            order = [*members[-1:], *members[:1], *members[1:-1]] if len(members) > 1 else members
            if rank < min(len(order), 5):
                point = order[rank]
                labels.place(
                    point.params, point.macs, shorten(point.name, 22), size=9, color=MUTED, gid=in_series(index)
                )


def stage_bars(stages: Sequence[tuple[StageCost, PartDescription]]) -> Picture | None:
    """Draw the share of MACs and of parameters in each stage; None without stages."""
    if not stages:
        return None
    names = [shorten(f"{cost.name} · {desc.block}" if desc.block else cost.name, 26) for cost, desc in stages]
    macs, params = _shares([cost.macs for cost, _ in stages]), _shares([cost.params for cost, _ in stages])

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=_left_margin(names), right=44, top=30, bottom=8)
        positions = range(len(names))
        for values, offset, color, label in ((macs, -0.2, BLUE, "MACs"), (params, 0.2, SERIES[0], "parameters")):
            axes.barh([y + offset for y in positions], values, height=0.34, color=color, label=label)
            for y, value in zip(positions, values, strict=True):
                axes.annotate(
                    share(value),
                    (value, y + offset),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.5,
                    color=MUTED,
                )
        _rows(axes, names)
        axes.set_xticks([])
        axes.set_xlim(0, max([*macs, *params, 1e-9]))
        axes.spines.bottom.set_visible(False)
        figure.legend(loc="upper right", ncols=2, labelcolor=INK, borderaxespad=0)

    top = max(zip(macs, names, strict=True), default=(0.0, ""))
    return draw(
        name="figure-stages",
        title="Cost by stage",
        description=f"Share of MACs and of parameters by stage; {top[1]} has the most MACs, {share(top[0])}.",
        width=_WIDTH,
        height=44 + 32 * len(names),
        paint=paint,
    )


def latency_bars(rows: Sequence[Measurement]) -> Picture | None:
    """Draw the median latency of each measurement with its quartiles; None for fewer than two."""
    if len(rows) < 2:
        return None
    names = [shorten(row.engine, 26) for row in rows]
    details = [f"batch {row.batch}, {row.threads} thread{'s' if row.threads != 1 else ''}" for row in rows]

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=_left_margin([*names, *details]), right=56, top=8, bottom=40)
        for y, row in enumerate(rows):
            axes.barh(y, row.median_ms, height=0.5, color=BLUE)
            axes.plot([row.lower_quartile_ms, row.upper_quartile_ms], [y, y], color=ORANGE, linewidth=3, zorder=3)
            axes.annotate(
                milliseconds(row.median_ms),
                (max(row.median_ms, row.upper_quartile_ms), y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
            )
        _rows(axes, names)
        axes.set_yticks(range(len(names)), names, va="bottom")
        for y, detail in enumerate(details):
            axes.annotate(
                detail,
                (0, y),
                xycoords=axes.get_yaxis_transform(),
                xytext=(-4, -1),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8.5,
                color=MUTED,
            )
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("milliseconds for a batch")

    return draw(
        name="figure-latency",
        title="Latency",
        description="Median latency (bar) and its quartiles (line) for each engine, batch size and number of threads.",
        width=_WIDTH,
        height=52 + 38 * len(names),
        paint=paint,
    )


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID)


def _left_margin(names: list[str]) -> float:
    return 14 + max((columns(name) for name in names), default=0) * 9.5 * 0.57


def _shares(values: list[int]) -> list[float]:
    total = sum(values)
    return [value / total if total else 0.0 for value in values]
