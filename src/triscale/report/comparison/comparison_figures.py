"""Figures of a comparison of scaling methods: accuracy of each, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.draw.axes import macs_axis, percent_axis
from triscale.report.draw.figure_data import FigureData
from triscale.report.draw.format import grouped, share, si
from triscale.report.draw.palette import GRID, INK, MUTED, ORANGE, SERIES, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.search.compare.contenders import Comparison, Way
from triscale.search.compare.results import ComparisonResult, ContenderResult, counted_in_words

COLORS: dict[Way, str] = {
    "baseline": MUTED,
    "depth": SERIES[1],
    "width": SERIES[2],
    "resolution": SERIES[0],
    "compound": ORANGE,
}
MARKERS: dict[Way, str] = {"baseline": "o", "depth": "s", "width": "D", "resolution": "^", "compound": "o"}
MINUS = "\N{MINUS SIGN}"
_LABEL_GAP = 14.0


def method_name(way: Way) -> str:
    """Return the name of a scaling method: ``depth only`` or ``compound``."""
    return f"{way} only" if way in ("depth", "width", "resolution") else way


def color_of(way: Way, comparison: Comparison) -> str:
    """Return the color of a scaling method; laws take the colors of series in their order."""
    if way in COLORS:
        return COLORS[way]
    return SERIES[[contender.way for contender in comparison.contenders].index(way) % len(SERIES)]


def signed_points(gain: float) -> str:
    """Return a gain in percentage points with its sign."""
    return f"{MINUS if gain < 0 else '+'}{100 * abs(gain):.1f}"


def accuracies(content: ComparisonContent) -> Picture:
    """Draw the test accuracy of each method with its interval and its single seeds."""
    results = content.compared.outcomes

    def paint(figure: Figure) -> None:
        _accuracies(plot_area(figure, left=92, right=90, top=12, bottom=44), content.compared)

    best = content.compared.best
    return draw(
        name="figure-methods",
        title="Accuracy of each scaling method",
        description=f"Test accuracy with 95% intervals: "
        f"{', '.join(f'{method_name(row.way)} {share(row.accuracy)}' for row in results)}. "
        f"{method_name(best.way)} has the highest mean; it is {content.compared.standing(best)}.",
        width=410,
        height=300,
        paint=paint,
        data=_data(content.compared),
    )


def against_cost(content: ComparisonContent) -> Picture:
    """Draw accuracy against MACs, with a line from the baseline to each scaled network."""
    contenders = content.compared.comparison.contenders

    def paint(figure: Figure) -> None:
        _against_cost(plot_area(figure, left=56, right=102, top=12, bottom=44), content.compared)

    return draw(
        name="figure-cost",
        title="Accuracy against cost",
        description="Test accuracy against MACs: from the baseline, "
        f"{si(contenders[0].macs.achieved)} MACs, lines lead to {len(contenders) - 1} networks of about "
        f"{content.compared.comparison.times:g} times its cost.",
        width=400,
        height=300,
        paint=paint,
        data=_data(content.compared),
    )


def both(content: ComparisonContent) -> Picture:
    """Draw both figures side by side under one heading, for a standalone file."""
    comparison, proxy = content.compared.comparison, content.compared.proxy
    seeds = len(proxy.seeds)

    def paint(figure: Figure) -> None:
        _accuracies(plot_area(figure, left=104, right=510, top=62, bottom=46), content.compared)
        _against_cost(plot_area(figure, left=560, right=116, top=62, bottom=46), content.compared)
        height = float(figure.get_size_inches()[1]) * 72
        compound = f"; compound: {comparison.law}" if content.compared.has_compound else ""
        methods = counted_in_words(len(comparison.contenders) - 1)
        heading = f"{comparison.baseline.name}, scaled to {comparison.times:g} times its MACs by {methods} methods"
        detail = (
            f"{grouped(content.compared.count)} test images, {proxy.epochs} epochs, {seeds} "
            f"seed{'s' if seeds != 1 else ''}; bars: 95% intervals{compound}"
        )
        figure.text(16 / 900, 1 - 20 / height, heading, fontsize=13, fontweight="bold", color=INK, va="center")
        figure.text(16 / 900, 1 - 40 / height, detail, fontsize=10, color=MUTED, va="center")

    return draw(
        name="figure-comparison",
        title="Scaling methods at equal cost",
        description=f"{accuracies(content).description} {against_cost(content).description}",
        width=900,
        height=350,
        paint=paint,
        data=_data(content.compared),
    )


def _data(compared: ComparisonResult) -> FigureData:
    """Return every method with its cost and its accuracies."""
    columns = ("method", "MACs", "parameters", "accuracy (share)", "95% interval, low (share)",
               "95% interval, high (share)", "gain over the baseline (share)",
               *(f"accuracy of seed {seed} (share)" for seed in compared.proxy.seeds))  # fmt: skip
    return FigureData.of(
        columns,
        (
            (method_name(row.way), contender.macs.achieved, contender.params, row.accuracy, row.low, row.high, row.gain,
             *row.accuracies)
            for contender, row in zip(compared.comparison.contenders, compared.outcomes, strict=True)
        ),
    )  # fmt: skip


def _accuracies(axes: Axes, compared: ComparisonResult) -> None:
    rows, best = compared.outcomes, compared.best
    axes.axvspan(best.low, best.high, color=color_of(best.way, compared.comparison), alpha=0.1, lw=0)
    axes.axvline(rows[0].accuracy, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    for y, row in enumerate(rows):
        color = color_of(row.way, compared.comparison)
        axes.plot([row.low, row.high], [y, y], color=color, linewidth=2.4, alpha=0.6, zorder=3)
        axes.plot(
            row.accuracies, [y + 0.23] * len(row.accuracies), color=color, marker="o", markersize=3.6, alpha=0.75,
            markeredgewidth=0, linestyle="none", zorder=3,
        )  # fmt: skip
        axes.plot(
            row.accuracy, y, marker=MARKERS.get(row.way, "o"), markersize=8, color=color, markeredgecolor=SURFACE,
            linestyle="none", zorder=4,
        )  # fmt: skip
        gain = "" if y == 0 else f"  {signed_points(row.gain)}"
        axes.annotate(
            f"{share(row.accuracy)}{gain}", (1, y), xycoords=axes.get_yaxis_transform(), xytext=(88, 0),
            textcoords="offset points", ha="right", va="center", fontsize=9.5, color=INK,
            fontweight="bold" if compared.standing(row) == "best" else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [method_name(row.way) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.spines.left.set_visible(False)
    percent_axis(axes, "x", 5)
    axes.set_xlabel("accuracy on test images")


def _against_cost(axes: Axes, compared: ComparisonResult) -> None:
    rows = compared.outcomes
    macs = [contender.macs.achieved for contender in compared.comparison.contenders]
    start, scaled = rows[0], rows[1:]
    axes.set_xscale("log")
    # The baseline is drawn last, above the lines that start at it.
    for row, cost in zip((*scaled, start), (*macs[1:], macs[0]), strict=True):
        color = color_of(row.way, compared.comparison)
        axes.plot([macs[0], cost], [start.accuracy, row.accuracy], color=color, zorder=3)
        axes.plot([cost, cost], [row.low, row.high], color=color, linewidth=1.2, alpha=0.6, zorder=3)
        axes.plot(
            cost, row.accuracy, marker=MARKERS.get(row.way, "o"), markersize=7, color=color,
            markeredgecolor=SURFACE, linestyle="none", zorder=4,
        )  # fmt: skip
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    margin = 0.06 * (high - low) + 0.002
    axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
    macs_axis(axes, macs)
    axes.set_xlim(macs[0] / 1.15, max(macs) * 1.06)
    percent_axis(axes, "y", 6)
    axes.grid(visible=True, color=GRID)
    axes.set_xlabel("MACs, logarithmic")
    axes.set_ylabel("accuracy on test images")
    _label_right_edge(axes, compared, scaled)


def _label_right_edge(axes: Axes, compared: ComparisonResult, rows: Sequence[ContenderResult]) -> None:
    """Label the points at the right edge, moved apart where labels would overlap; the only best method is bold."""
    low, high = axes.get_ylim()
    tall = axes.get_window_extent().height * 72.0 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    ordered = sorted(rows, key=lambda row: -row.accuracy)
    targets = [(row.accuracy - low) / (high - low) * tall for row in ordered]
    heights: list[float] = []
    for height in targets:
        heights.append(min(height, heights[-1] - _LABEL_GAP) if heights else height)
    # All labels are shifted up by the mean of the downward moves, which keeps the group centered on its points.
    shift = sum(one - two for one, two in zip(targets, heights, strict=True)) / len(heights)
    for row, height in zip(ordered, heights, strict=True):
        axes.annotate(
            method_name(row.way), (1, (height + shift) / tall), xycoords="axes fraction", xytext=(7, 0),
            textcoords="offset points", va="center", fontsize=9.5, color=color_of(row.way, compared.comparison),
            fontweight="bold" if compared.standing(row) == "best" else "normal", annotation_clip=False,
        )  # fmt: skip
