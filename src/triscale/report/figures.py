"""Pictures of the network, its training and its latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from triscale.report.content import CurvePoint, FamilyPoint, LatencyRow, NetworkFacts, StageRow
from triscale.report.format import columns, milliseconds, share, shorten, si
from triscale.report.labels import Labels
from triscale.report.svg import BLUE, GRID, INK, MUTED, ORANGE, SERIES, SURFACE, Picture, draw, plot_area

_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_WIDTH = 400


def families(points: Sequence[FamilyPoint], own: NetworkFacts | None) -> Picture:
    """Draw MACs against parameters of published families, and the own network among them, on logarithmic axes."""
    groups: dict[str, list[FamilyPoint]] = {}
    for point in points:
        groups.setdefault(point.family, []).append(point)
    own = own if own and own.params and own.macs else None
    legend_rows = -(-len(groups) // 3)

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=58, right=24, top=14, bottom=46 + 18 * legend_rows)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("parameters")
        axes.set_ylabel("MACs")
        styles = cycle(zip(SERIES, _MARKERS, strict=True))
        for (name, members), (color, marker) in zip(groups.items(), styles, strict=False):
            members.sort(key=lambda point: (point.macs, point.params, point.name))
            axes.plot(
                [point.params for point in members],
                [point.macs for point in members],
                color=color,
                marker=marker,
                markersize=4.5,
                linewidth=1.3,
                # A label that begins with an underscore would be left out of the legend.
                label=shorten(name, 22).replace("_", " _", 1) if name.startswith("_") else shorten(name, 22),
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
            )
        axes.margins(0.09, 0.1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0,), numticks=12))
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
        _label_members(axes, list(groups.values()), own)
        figure.legend(loc="lower center", ncols=3, fontsize=9.5, labelcolor=INK, columnspacing=1.4, handlelength=1.6)

    names = ", ".join(shorten(name, 30) for name in groups)
    place = f" {own.name}: {si(own.params)} parameters, {si(own.macs)} MACs." if own else ""
    return draw(
        name="figure-families",
        title="MACs against parameters",
        description=f"Published families on logarithmic axes: {names}.{place}",
        width=500,
        height=380 + 18 * legend_rows,
        paint=paint,
    )


def _label_members(axes: Axes, groups: list[list[FamilyPoint]], own: NetworkFacts | None) -> None:
    labels = Labels(axes)
    for members in groups:
        for point in members:
            labels.keep_clear(point.params, point.macs)
        labels.keep_line_clear([(point.params, point.macs) for point in members])
    if own:
        labels.place(
            own.params, own.macs, shorten(own.name, 30), size=11, color=ORANGE, weight="bold", gap=9, must=True
        )
    for rank in range(max((len(members) for members in groups), default=0)):
        for members in groups:
            # The ends of each line first, then its middle, for as long as there is room.
            order = [*members[-1:], *members[:1], *members[1:-1]] if len(members) > 1 else members
            if rank < min(len(order), 5):
                labels.place(order[rank].params, order[rank].macs, shorten(order[rank].name, 22), size=9, color=MUTED)


def stage_bars(stages: Sequence[StageRow]) -> Picture:
    """Draw the share of the MACs and of the parameters that each stage takes."""
    names = [shorten(f"{stage.name} · {stage.block}" if stage.block else stage.name, 26) for stage in stages]
    macs, params = _shares([stage.macs for stage in stages]), _shares([stage.params for stage in stages])

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=_left_margin(names), right=44, top=30, bottom=8)
        places = range(len(names))
        for values, offset, color, label in ((macs, -0.2, BLUE, "MACs"), (params, 0.2, SERIES[0], "parameters")):
            axes.barh([place + offset for place in places], values, height=0.34, color=color, label=label)
            for place, value in zip(places, values, strict=True):
                axes.annotate(
                    share(value),
                    (value, place + offset),
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
        description=f"Share of MACs and of parameters by stage; {top[1]} takes the most MACs, {share(top[0])}.",
        width=_WIDTH,
        height=44 + 32 * len(names),
        paint=paint,
    )


def loss_curve(points: Sequence[CurvePoint]) -> Picture:
    """Draw the loss on the training and the validation images over the epochs."""
    lines = (
        ("training", BLUE, "o", [(p.epoch, p.train_loss) for p in points]),
        ("validation", ORANGE, "s", [(p.epoch, p.val_loss) for p in points]),
    )
    return _curve(name="figure-loss", title="Loss", lines=lines, tune=_loss_axis)


def accuracy_curve(points: Sequence[CurvePoint]) -> Picture:
    """Draw the top-1 accuracy on the validation images over the epochs."""
    lines = (("validation top-1", ORANGE, "s", [(p.epoch, p.val_top1) for p in points]),)
    return _curve(name="figure-accuracy", title="Validation top-1", lines=lines, tune=_share_axis)


def latency_bars(rows: Sequence[LatencyRow]) -> Picture:
    """Draw the median latency of each measurement with its quartiles."""
    names = [shorten(row.engine, 26) for row in rows]
    details = [f"batch {row.batch}, {row.threads} thread{'s' if row.threads != 1 else ''}" for row in rows]

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=_left_margin([*names, *details]), right=56, top=8, bottom=40)
        for place, row in enumerate(rows):
            axes.barh(place, row.median_ms, height=0.5, color=BLUE)
            axes.plot(
                [row.lower_quartile_ms, row.upper_quartile_ms], [place, place], color=ORANGE, linewidth=3, zorder=3
            )
            axes.annotate(
                milliseconds(row.median_ms),
                (max(row.median_ms, row.upper_quartile_ms), place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
            )
        _rows(axes, names)
        axes.set_yticks(range(len(names)), names, va="bottom")
        for place, detail in enumerate(details):
            axes.annotate(
                detail,
                (0, place),
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
        axes.set_xlabel("milliseconds a batch")

    return draw(
        name="figure-latency",
        title="Latency",
        description="Median latency (bar) and its quartiles (line) for each engine, batch size and number of threads.",
        width=_WIDTH,
        height=52 + 38 * len(names),
        paint=paint,
    )


_Line = tuple[str, str, str, list[tuple[float, float | None]]]


def _curve(*, name: str, title: str, lines: Sequence[_Line], tune: Callable[[Axes, list[float]], None]) -> Picture:
    known = [
        (label, color, marker, [(x, y) for x, y in points if y is not None]) for label, color, marker, points in lines
    ]
    known = [line for line in known if line[3]]

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=50, right=12, top=34, bottom=40)
        for label, color, marker, points in known:
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=color,
                marker=marker if len(points) <= 25 else "",
                markersize=3.5,
                label=label,
            )
        tune(axes, [y for *_, points in known for _, y in points])
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlabel("epoch")
        figure.legend(loc="upper left", ncols=2, labelcolor=INK, borderaxespad=0.2)

    ends = "; ".join(f"{label} ends at {points[-1][1]:.3g}" for label, _, _, points in known)
    return draw(
        name=name,
        title=title,
        description=f"{title} over the epochs: {ends}.",
        width=_WIDTH,
        height=265,
        paint=paint,
    )


def _loss_axis(axes: Axes, values: list[float]) -> None:
    axes.set_ylabel("loss")
    if values and min(values) > 0 and max(values) / min(values) > 30:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min([0.0, *values]))


def _share_axis(axes: Axes, values: list[float]) -> None:
    axes.set_ylim(max(0.0, min(values, default=0.0) - 0.05), 1.0 + 0.01)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


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
