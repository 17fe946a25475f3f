"""Figures of the predictions: confusion matrix and reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from triscale.report.draw.format import columns, grouped, share, shorten
from triscale.report.draw.marks import PlotMark, pixels
from triscale.report.draw.palette import BLUE, INK, MUTED, ON_STRONG, ORANGE
from triscale.report.draw.svg import FONT_SIZE, Picture, draw, plot_area
from triscale.results.metrics import Bin

NUMBERS_UP_TO = 20
_MAX_LABELS = 34
# A raster image cannot follow the color scheme: these two colors are legible on light and on dark backgrounds.
_IMAGE_RIGHT, _IMAGE_WRONG = "#3f7fd0", "#dd6b2a"


def confusion_matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Picture | None:
    """Draw a confusion matrix: rows are true classes, columns predicted classes. None without counts.

    Color is the share of the row: blue on the diagonal, orange elsewhere, on a square-root scale so that rare mistakes
    are visible. With up to 20 classes, cells show their counts.

    Args:
        names: Class names.
        counts: Counts ``[classes, classes]``.
    """
    if not counts:
        return None
    table = np.asarray(counts, dtype=np.float64).reshape(len(names), len(names))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    texts = [shorten(name, 16) for name in names]
    longest = max(columns(text) for text in texts) * FONT_SIZE * 0.56
    small = len(names) <= NUMBERS_UP_TO
    side = min(400, max(150, 34 * len(names))) if small else min(560, max(400, 7 * len(names)))
    turned = longest > side / min(len(names), _MAX_LABELS) - 4

    def paint(figure: Figure) -> list[PlotMark]:
        width, height = figure.get_size_inches() * 72
        axes = plot_area(figure, left=width - side - 8, right=8, top=height - side - 8, bottom=8)
        if small:
            _cells(axes, table, shares)
        else:
            axes.imshow(_colors(shares), interpolation="none", aspect="equal")
        step = -(-len(names) // _MAX_LABELS)
        ticks = list(range(0, len(names), step))
        chosen = [texts[tick] for tick in ticks]
        size = FONT_SIZE if small else 9
        axes.set_yticks(ticks, chosen, fontsize=size)
        axes.set_xticks(ticks, chosen, fontsize=size)
        axes.xaxis.tick_top()
        if turned:
            for label in axes.get_xticklabels():
                label.set(rotation=90, rotation_mode="anchor", horizontalalignment="left", verticalalignment="center")
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, labelcolor=INK, pad=4)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(True)
        _caption(figure, (width - side / 2 - 8) / width, 1 - 9 / height, "predicted", turned=False)
        _caption(figure, 9 / width, (8 + side / 2) / height, "true class", turned=True)
        return _marks(axes, names, table) if small else []

    above = (longest if turned else 14) + 30
    wrong = int(table.sum() - np.trace(table))
    return draw(
        name="figure-confusion",
        title="Confusion matrix",
        description=f"{len(names)} classes; rows are true classes, columns predicted classes; "
        f"{int(np.trace(table))} images correct, {wrong} misclassified.",
        width=int(side + longest + 34),
        height=int(side + above + 8),
        paint=paint,
    )


def reliability_diagram(bins: Sequence[Bin]) -> Picture | None:
    """Draw accuracy against confidence, and below it the number of images in each bin. None without bins.

    See Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1.
    """
    if not bins:
        return None
    filled = [item for item in bins if item.count]

    def paint(figure: Figure) -> None:
        top = figure.add_axes((0.15, 0.37, 0.82, 0.56))
        top.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2, label="confidence = accuracy")
        for item in filled:
            top.plot([item.confidence] * 2, [item.confidence, item.accuracy], color=ORANGE, linewidth=1.4, alpha=0.7)
        top.plot(
            [item.confidence for item in filled],
            [item.accuracy for item in filled],
            color=BLUE,
            marker="o",
            markersize=5.5,
            linewidth=1.4,
            label="measured",
        )
        top.set_ylabel("accuracy")
        top.set_ylim(-0.03, 1.03)
        top.tick_params(labelbottom=False)
        top.legend(loc="upper left", labelcolor=INK, fontsize=9.5)
        bottom = figure.add_axes((0.15, 0.12, 0.82, 0.21))
        bottom.bar(
            [item.low for item in filled],
            [item.count for item in filled],
            width=[max(item.high - item.low - 0.008, 0.004) for item in filled],
            align="edge",
            color=BLUE,
        )
        bottom.set_ylabel("images")
        bottom.set_xlabel("confidence")
        bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for axes in (top, bottom):
            axes.set_xlim(-0.02, 1.02)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol="%"))
        top.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="%"))

    worst = max(filled, key=lambda item: item.count * abs(item.accuracy - item.confidence), default=None)
    gap = f" Largest gap: confidence {share(worst.confidence)}, accuracy {share(worst.accuracy)}." if worst else ""
    return draw(
        name="figure-reliability",
        title="Reliability diagram",
        description=f"Accuracy of the predictions against their confidence.{gap}",
        width=400,
        height=410,
        paint=paint,
    )


def _cells(axes: Axes, table: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(table > 0).tolist():
        strength = float(_strength(shares[row, column], right=row == column))
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.46), 0.92, 0.92, color=BLUE if row == column else ORANGE, alpha=strength, lw=0
            )
        )
        text = f"{int(table[row, column])}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=10 if len(text) < 4 else 8,
            color=ON_STRONG if strength > 0.6 else INK,
        )


def _marks(axes: Axes, names: Sequence[str], table: NDArray[np.float64]) -> list[PlotMark]:
    """Return a mark for each cell that holds images."""
    marks = []
    for row, column in np.argwhere(table > 0).tolist():
        (left, top), (right, bottom) = pixels(axes, column - 0.5, row - 0.5), pixels(axes, column + 0.5, row + 0.5)
        count, total = int(table[row, column]), int(table[row].sum())
        of = f"{grouped(count)} of {grouped(total)} ({share(count / total)})"
        text = f"{names[row]}, correct: {of}" if row == column else f"{names[row]} predicted as {names[column]}: {of}"
        marks.append(PlotMark(text, (left + right) / 2, top, left=left, width=right - left, height=bottom - top))
    return marks


def _colors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    picture = np.empty((*shares.shape, 4))
    diagonal = np.eye(len(shares), dtype=bool)
    picture[diagonal, :3] = to_rgb(_IMAGE_RIGHT)
    picture[~diagonal, :3] = to_rgb(_IMAGE_WRONG)
    picture[..., 3] = np.where(diagonal, _strength(shares, right=True), _strength(shares, right=False))
    return picture


def _strength(value: NDArray[np.float64] | float, *, right: bool) -> NDArray[np.float64]:
    curved = np.asarray(value) if right else np.sqrt(value)
    return np.where(np.asarray(value) > 0, 0.12 + 0.88 * curved, 0.0)


def _caption(figure: Figure, x: float, y: float, text: str, *, turned: bool) -> None:
    figure.text(x, y, text, ha="center", va="center", color=MUTED, rotation=90 if turned else 0, rotation_mode="anchor")
