"""Figures of a coefficient search: standings, successive halving, forecast, and leave-one-out predictions."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from triscale.report.draw.axes import macs_axis, percent_axis
from triscale.report.draw.format import TIMES, columns, share, si
from triscale.report.draw.labels import Labels
from triscale.report.draw.palette import BLUE, INK, MUTED, ORANGE, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.report.search.response_view import leave_one_out_predictions
from triscale.report.search.search_data import curves_data, forecast_data, predictions_data, standings_data
from triscale.report.search.search_rows import LearningCurve, StandingRow, law_text, macs_of
from triscale.search.coefficients.result import AccuracyForecast, CoefficientSearchResult

SHOWN_STANDINGS = 25
ERRORS = 2.0
"""Half-length of the error bars in standard errors, about 95%."""
_GAP = 13.0
_MIN_LEFT = 108.0


def standings(rows: Sequence[StandingRow]) -> Picture:
    """Draw the accuracies of the first candidates with their error bars and single seeds."""
    shown = rows[:SHOWN_STANDINGS]
    names = [law_text(row.standing.law) for row in shown]

    def paint(figure: Figure) -> None:
        left = max(_MIN_LEFT, 18 + max(columns(name) for name in names) * 9.5 * 0.57)
        axes = plot_area(figure, left=left, right=58, top=24, bottom=40)
        for y, row in enumerate(shown):
            color = ORANGE if y == 0 else BLUE if row.standing.tied else MUTED
            bar = [
                row.standing.accuracy - ERRORS * row.standing.error,
                row.standing.accuracy + ERRORS * row.standing.error,
            ]
            axes.plot(bar, [y, y], color=color, linewidth=2, alpha=0.55, zorder=3)
            axes.plot(
                row.seeds, [y] * len(row.seeds), color=color, marker="|", markersize=7, linestyle="none", zorder=3
            )
            axes.plot(
                row.standing.accuracy, y, marker="o", markersize=7, color=color if row.standing.tied else SURFACE,
                markeredgecolor=color, markeredgewidth=1.6, linestyle="none", zorder=4,
            )  # fmt: skip
            axes.annotate(
                f"{TIMES}{row.standing.ratio:.2f}", (1, y), xycoords=axes.get_yaxis_transform(), xytext=(50, 0),
                textcoords="offset points", ha="right", va="center", fontsize=9, color=MUTED,
            )  # fmt: skip
        for x, across, text in ((0, -4, "alpha, beta, gamma"), (1, 50, "cost")):
            axes.annotate(
                text, (x, 1), xycoords="axes fraction", xytext=(across, 9), textcoords="offset points", ha="right",
                va="bottom", fontsize=9, color=MUTED,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names, fontsize=9.5)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines.left.set_visible(False)
        percent_axis(axes, "x", 5)
        axes.set_xlabel("accuracy on validation images")

    tied = sum(row.standing.tied for row in rows[1:])
    return draw(
        name="figure-standings",
        title="Accuracy of each candidate",
        description=f"The best {len(shown)} of {len(rows)} candidates with error bars of two standard errors. The best "
        f"is {names[0]} with {share(rows[0].standing.accuracy)}; {tied} others are tied with it.",
        width=460,
        height=64 + 21 * len(shown) + 12,
        paint=paint,
        data=standings_data(shown),
    )


def forecast(result: CoefficientSearchResult) -> Picture | None:
    """Draw the predicted accuracy of networks scaled with the law against their MACs, with the trained networks."""
    if not result.forecast:
        return None
    points: Sequence[AccuracyForecast] = sorted(result.forecast, key=lambda point: point.macs)
    trials = [(macs_of(trial, result.proxy.images), trial.accuracy) for trial in result.trials]

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=56, right=18, top=14, bottom=44)
        axes.set_xscale("log")
        macs = [point.macs for point in points]
        axes.fill_between(
            macs, [point.low for point in points], [point.high for point in points], color=ORANGE, alpha=0.16, lw=0
        )
        seen = [index for index, point in enumerate(points) if not point.beyond]
        inside = points[: seen[-1] + 1] if seen else []
        outside = points[max(len(inside) - 1, 0) :]
        for line, style in ((inside, "-"), (outside, (0, (4, 3)))):
            axes.plot([p.macs for p in line], [p.accuracy for p in line], color=ORANGE, linestyle=style, zorder=4)
        axes.plot(
            [macs for macs, _ in trials], [accuracy for _, accuracy in trials], color=BLUE, marker="o",
            markersize=5, alpha=0.75, markeredgecolor=SURFACE, markeredgewidth=0.6, linestyle="none", zorder=3,
        )  # fmt: skip
        axes.plot(
            macs, [point.accuracy for point in points], color=ORANGE, marker="o", markersize=6,
            markeredgecolor=SURFACE, linestyle="none", zorder=5,
        )  # fmt: skip
        low = min([*(point.low for point in points), *(accuracy for _, accuracy in trials)])
        high = max([*(point.high for point in points), *(accuracy for _, accuracy in trials)])
        margin = 0.06 * (high - low) + 0.002
        axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
        axes.margins(x=0.06)
        axes.autoscale(axis="x")
        macs_axis(axes, [*macs, *(other for other, _ in trials)])
        percent_axis(axes, "y", 6)
        axes.set_xlabel("MACs, logarithmic")
        axes.set_ylabel("accuracy")
        labels = Labels(axes)
        for trained in trials:
            labels.keep_clear(*trained)
        labels.keep_line_clear([(point.macs, point.accuracy) for point in points])
        for point in points:
            labels.place(point.macs, point.accuracy, f"phi {point.phi:g}", size=9.5, color=ORANGE, weight="bold", gap=7)

    ends = points[-1]
    return draw(
        name="figure-forecast",
        title="Predicted accuracy along the law",
        description=f"Predicted accuracy against MACs with a 95% interval; {share(ends.accuracy)} at phi {ends.phi:g} "
        f"and {si(ends.macs)} MACs, from {share(ends.low)} to {share(ends.high)}.",
        width=400,
        height=360,
        paint=paint,
        data=forecast_data(result),
    )


def predicted(result: CoefficientSearchResult) -> Picture | None:
    """Draw the leave-one-out prediction of the accuracy of each trained network against the measured accuracy."""
    response, pairs = result.response, leave_one_out_predictions(result)
    if response is None or not pairs:
        return None
    rms = response.leave_one_out_rms

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=56, right=18, top=14, bottom=44)
        values = [value for pair in pairs for value in pair]
        margin = 0.06 * (max(values) - min(values)) + 0.005
        ends = (min(values) - margin, max(values) + margin)
        axes.fill_between(
            ends, [end - rms for end in ends], [end + rms for end in ends],
            color=MUTED, alpha=0.14, lw=0,
        )  # fmt: skip
        axes.plot(ends, ends, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.plot(
            [predicted for predicted, _ in pairs], [measured for _, measured in pairs], color=BLUE,
            marker="o", markersize=6, markeredgecolor=SURFACE, markeredgewidth=0.8, linestyle="none", zorder=3,
        )  # fmt: skip
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        percent_axis(axes, "x", 5)
        percent_axis(axes, "y", 5)
        axes.set_xlabel("predicted by a fit to all others")
        axes.set_ylabel("measured")

    return draw(
        name="figure-predicted",
        title="Leave-one-out predictions",
        description=f"{len(pairs)} trained networks: accuracy predicted by a fit to the others against the "
        f"measured accuracy; the root mean square of the errors is {100 * rms:.2g} points.",
        width=400,
        height=360,
        paint=paint,
        data=predictions_data(pairs),
    )


def rungs(learning_curves: Sequence[LearningCurve]) -> Picture | None:
    """Draw accuracy against epochs, one line per candidate; gray lines of dropped candidates end early."""
    stops, kept = _stops(learning_curves), sum(not curve.dropped for curve in learning_curves)
    values = [[accuracy for _, accuracy in curve.points] for curve in learning_curves]

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=56, right=18, top=14, bottom=44)
        _lines(axes, learning_curves, values)
        percent_axis(axes, "y", 6)
        axes.set_ylabel("accuracy on validation images")

    return draw(
        name="figure-rungs",
        title="Accuracy after each rung",
        description=f"Accuracy after {', '.join(map(str, stops))} epochs of {len(learning_curves)} candidates; "
        f"{kept} were trained for all epochs.",
        width=400,
        height=340,
        paint=paint,
        data=curves_data(learning_curves, values, "accuracy (share)"),
    )


def behind(learning_curves: Sequence[LearningCurve]) -> Picture | None:
    """Draw how far each candidate is behind the best of each rung, in percentage points."""
    best = {
        stop: max(dict(c.points)[stop] for c in learning_curves if stop in dict(c.points))
        for stop in _stops(learning_curves)
    }
    gaps = [[100 * (accuracy - best[stop]) for stop, accuracy in curve.points] for curve in learning_curves]

    def paint(figure: Figure) -> None:
        right = 22 + 9.5 * 0.57 * max(len(law_text(curve.law)) for curve in learning_curves)
        axes = plot_area(figure, left=50, right=right, top=14, bottom=44)
        _lines(axes, learning_curves, gaps)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylabel("points behind the best of the rung")
        _end_labels(axes, [(curve, gap) for curve, gap in zip(learning_curves, gaps, strict=True) if not curve.dropped])

    last = min(gap[-1] for curve, gap in zip(learning_curves, gaps, strict=True) if not curve.dropped)
    return draw(
        name="figure-behind",
        title="Behind the best",
        description=f"Percentage points behind the best of each rung; the lowest of those trained for all epochs is "
        f"{-last:.2g} points behind.",
        width=400,
        height=340,
        paint=paint,
        data=curves_data(learning_curves, gaps, "behind the best (percentage points)"),
    )


def _stops(learning_curves: Sequence[LearningCurve]) -> list[int]:
    return sorted({epochs for curve in learning_curves for epochs, _ in curve.points})


def _lines(axes: Axes, learning_curves: Sequence[LearningCurve], values: Sequence[Sequence[float]]) -> None:
    stops = _stops(learning_curves)
    # The best is drawn last, above the others.
    for index, (curve, heights) in reversed(list(enumerate(zip(learning_curves, values, strict=True)))):
        color = ORANGE if index == 0 else MUTED if curve.dropped else BLUE
        axes.plot(
            [epochs for epochs, _ in curve.points], heights, color=color, marker="o",
            markersize=3.5 if curve.dropped else 5, linewidth=1 if curve.dropped else 1.8,
            alpha=0.55 if curve.dropped else 1, zorder=5 if index == 0 else 3 if curve.dropped else 4,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(stops, [f"{stop}" for stop in stops])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(stops[0] / 1.12, stops[-1] * 1.06)
    axes.set_xlabel("epochs, logarithmic")


def _end_labels(axes: Axes, lines: Sequence[tuple[LearningCurve, Sequence[float]]]) -> None:
    """Label lines at their right ends, the best first, moved apart where labels would overlap."""
    axes.autoscale_view()
    low, high = axes.get_ylim()
    tall = axes.get_window_extent().height * 72.0 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    scale, at = tall / (high - low), tall
    for index, (curve, heights) in enumerate(lines[: int(tall / _GAP)]):
        own = (heights[-1] - low) * scale
        at = min(own, at - _GAP)
        axes.annotate(
            law_text(curve.law), (curve.points[-1][0], heights[-1]), xytext=(9, at - own), textcoords="offset points",
            va="center", fontsize=9.5, color=ORANGE if index == 0 else BLUE,
            fontweight="bold" if index == 0 else "normal", annotation_clip=False,
        )  # fmt: skip
