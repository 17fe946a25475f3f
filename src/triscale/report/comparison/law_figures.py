"""The figure of a comparison of laws: parameters, activations and training memory against MACs, a line for each law."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from triscale.report.draw.axes import macs_axis
from triscale.report.draw.figure_data import FigureData
from triscale.report.draw.format import si
from triscale.report.draw.palette import BLUE, INK, MARKERS, MUTED, ORANGE, SERIES, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.search.compare.law_table import CostRow, LawComparison

COLORS = (ORANGE, BLUE, *SERIES, MUTED, INK)
PANELS: tuple[tuple[str, Callable[[CostRow], float]], ...] = (
    ("parameters", lambda row: row.params),
    ("activations", lambda row: row.activations),
    ("bytes of a training step", lambda row: row.training_bytes),
)
_LABEL_GAP = 13.0
_WIDTH, _LEFT, _STEP, _PANEL = 1130, 56, 325, 265


def laws_at_equal_cost(comparison: LawComparison) -> Picture:
    """Draw the figures of each law against MACs, with the baseline as a ring."""
    base = comparison.baseline

    def paint(figure: Figure) -> None:
        heading = f"{base.network.name} scaled by {len(comparison.laws)} laws"
        figure.text(16 / _WIDTH, 1 - 20 / 400, heading, fontsize=13, fontweight="bold", color=INK, va="center")
        for number, (title, value) in enumerate(PANELS):
            left = _LEFT + number * _STEP
            axes = plot_area(figure, left=left, right=_WIDTH - left - _PANEL, top=62, bottom=46)
            _panel(axes, comparison, title, value)
            if number == len(PANELS) - 1:
                _legend(axes, comparison, value)

    lowest, highest = comparison.levels[0].times, comparison.levels[-1].times
    return draw(
        name="figure-laws",
        title="Scaling laws at equal cost",
        description=f"Parameters, activations and training memory of {base.network.name}, {si(base.macs)} MACs, scaled "
        f"by {', '.join(comparison.laws)} from {lowest:.3g} to {highest:.3g} times its cost.",
        width=_WIDTH,
        height=400,
        paint=paint,
        data=_data(comparison),
    )


def _rows(comparison: LawComparison, law: str) -> list[CostRow]:
    return [row for level in comparison.levels for row in level.rows if row.law == law]


def _lines(comparison: LawComparison) -> Iterator[tuple[str, str, str, list[CostRow]]]:
    """Yield name, color, marker and rows of each law that reaches a cost."""
    for number, law in enumerate(comparison.laws):
        rows = _rows(comparison, law)
        if rows:
            yield law, COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], rows


def _panel(axes: Axes, comparison: LawComparison, title: str, value: Callable[[CostRow], float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    base = comparison.baseline
    for _, color, marker, rows in _lines(comparison):
        axes.plot(
            [row.macs for row in rows], [value(row) for row in rows], color=color, marker=marker, markersize=5,
            markeredgecolor=SURFACE, linewidth=1.3, zorder=3,
        )  # fmt: skip
    axes.plot(base.macs, value(base), marker="o", markersize=11, markerfacecolor="none", markeredgecolor=INK, zorder=4)
    macs = [row.macs for level in comparison.levels for row in level.rows]
    macs_axis(axes, [*macs, base.macs])
    ticks = axes.get_xticks()
    axes.set_xticks(ticks[:: max(1, len(ticks) // 4)])
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("MACs (ring: the baseline)")


def _legend(axes: Axes, comparison: LawComparison, value: Callable[[CostRow], float]) -> None:
    """Name the laws at the right edge, in the order of their last points."""
    lines = sorted(_lines(comparison), key=lambda line: -value(line[3][-1]))
    for number, (law, color, marker, _) in enumerate(lines):
        axes.annotate(
            law, (1, 1), xycoords="axes fraction", xytext=(26, -6 - number * 1.5 * _LABEL_GAP),
            textcoords="offset points", va="center", fontsize=9.5, color=color, annotation_clip=False,
        )  # fmt: skip
        axes.plot(
            1 + 14 / _PANEL, 1 - (6 + number * 1.5 * _LABEL_GAP) / (400 - 62 - 46), marker=marker, color=color,
            markersize=6, markeredgecolor=SURFACE, transform=axes.transAxes, clip_on=False, linestyle="none",
        )  # fmt: skip


def _data(comparison: LawComparison) -> FigureData:
    columns = ("law", "times", "phi", "resolution", "blocks", "depth", "width", "MACs", "parameters", "activations",
               "inference memory (bytes)", "training memory (bytes)", "predicted latency (ms)", "note")  # fmt: skip
    rows: Sequence[tuple[float, CostRow]] = [
        (1.0, comparison.baseline),
        *((level.times, row) for level in comparison.levels for row in level.rows),
    ]
    return FigureData.of(
        columns,
        (
            (row.law or "baseline", times, row.phi, row.network.resolution, row.network.num_blocks, row.realized.depth,
             row.realized.width, row.macs, row.params, row.activations, row.inference_bytes, row.training_bytes,
             row.latency_ms, row.note)
            for times, row in rows
        ),
    )  # fmt: skip
