"""Figure of the accuracy on corrupted images."""

from __future__ import annotations

from matplotlib.figure import Figure

from triscale.report.draw.axes import percent_axis
from triscale.report.draw.format import share
from triscale.report.draw.marks import LegendEntry, PlotMark, in_series, pixels
from triscale.report.draw.palette import MARKERS, MUTED, SERIES
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.results.robustness import Robustness

_SPREAD = 0.06
"""Points of one strength are drawn next to each other, so that their intervals do not overlap."""


def corruption_figure(result: Robustness) -> Picture:
    """Draw top-1 accuracy against strength, one line for each corruption, with 95% intervals; strength 0 is none."""
    clean = result.all_classes.clean
    assert clean is not None
    lines = [
        (kind, [(0, "none", clean), *((row.strength, f"{row.amount:g}", row.top1) for row in result.strengths
                                      if row.corruption == kind)])
        for kind in result.kinds
    ]  # fmt: skip

    def paint(figure: Figure) -> list[PlotMark]:
        axes = plot_area(figure, left=60, right=12, top=12, bottom=40)
        marks = []
        for index, (kind, points) in enumerate(lines):
            shift = (index - (len(lines) - 1) / 2) * _SPREAD
            places = [strength + shift for strength, _, _ in points]
            color = SERIES[index % len(SERIES)]
            axes.plot(places, [one.value for *_, one in points], color=color, marker=MARKERS[index % len(MARKERS)],
                      markersize=4.5, gid=in_series(index))  # fmt: skip
            for place, (strength, amount, one) in zip(places, points, strict=True):
                axes.plot([place] * 2, [one.low, one.high], color=color, linewidth=1, alpha=0.6, gid=in_series(index))
                text = f"{kind}, strength {strength} ({amount}): " if strength else f"{kind}, none: "
                marks.append(
                    (text + f"{share(one.value)}, {share(one.low)} to {share(one.high)}", place, one.value, index)
                )
        axes.axhline(clean.value, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        lowest = min(one.low for _, points in lines for *_, one in points)
        axes.set_ylim(max(0.0, lowest - 0.05), 1.01)
        axes.set_xlabel("strength")
        axes.set_ylabel("top-1 accuracy")
        axes.grid(visible=False, axis="x")
        percent_axis(axes, "y", 6)
        return [PlotMark(text, *pixels(axes, x, y), series=series) for text, x, y, series in marks]

    worst = min(result.strengths, key=lambda row: row.top1.value)
    return draw(
        name="figure-robustness",
        title="Accuracy on corrupted images",
        description=f"Top-1 accuracy against the strength of {len(lines)} corruptions. Without corruption "
        f"{share(clean.value)}; the lowest is {share(worst.top1.value)} for {worst.corruption} at strength "
        f"{worst.strength}.",
        width=480,
        height=290,
        paint=paint,
        keys=[
            LegendEntry(index, kind, SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)])
            for index, (kind, _) in enumerate(lines)
        ],
    )
