"""Learning curves with a tooltip for each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from triscale.report.draw.format import number, share
from triscale.report.draw.marks import LegendEntry, PlotMark, in_series, pixels
from triscale.report.draw.palette import BLUE, MUTED, ORANGE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.results.history import Epoch

_WIDTH = 400
_Line = tuple[str, str, str, Sequence[tuple[float, float | None]]]


def loss_curve(points: Sequence[Epoch]) -> Picture | None:
    """Draw training and validation loss against epochs; None if no value is finite."""
    lines = (
        ("training", BLUE, "o", [(p.epoch, p.train_loss) for p in points]),
        ("validation", ORANGE, "s", [(p.epoch, p.val_loss) for p in points]),
    )
    return _curve(name="figure-loss", title="Loss", lines=lines, tune=_loss_axis)


def accuracy_curve(points: Sequence[Epoch], chance: float | None = None) -> Picture | None:
    """Draw validation top-1 accuracy, or mean average precision, against epochs; None if no value is finite.

    Args:
        points: The epochs.
        chance: Accuracy of always predicting the most frequent class, drawn as a dashed line.
    """
    what = "top-1" if all(p.val_map is None for p in points) else "mean average precision"
    lines = ((f"validation {what}", ORANGE, "s", [(p.epoch, p.val_score) for p in points]),)
    return _curve(name="figure-accuracy", title=f"Validation {what}", lines=lines, tune=_share_axis, chance=chance)


def _curve(
    *,
    name: str,
    title: str,
    lines: Sequence[_Line],
    tune: Callable[[Axes, list[float]], None],
    chance: float | None = None,
) -> Picture | None:
    known = [
        (label, color, marker, [(x, y) for x, y in points if y is not None and math.isfinite(y)])
        for label, color, marker, points in lines
    ]
    known = [line for line in known if line[3]]
    if not known:
        return None

    def paint(figure: Figure) -> list[PlotMark]:
        axes = plot_area(figure, left=50, right=12, top=12, bottom=40)
        for index, (_, color, marker, points) in enumerate(known):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=color,
                marker=marker if len(points) <= 25 else "",
                markersize=3.5,
                gid=in_series(index),
            )
        values = [y for *_, points in known for _, y in points]
        if chance is not None:
            axes.axhline(chance, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
            axes.annotate(
                "most frequent class", (1, chance), xycoords=axes.get_yaxis_transform(), xytext=(-2, 3),
                textcoords="offset points", ha="right", fontsize=8.5, color=MUTED,
            )  # fmt: skip
        tune(axes, values if chance is None else [*values, chance])
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlabel("epoch")
        return _bands(axes, known)

    ends = "; ".join(f"{label} ends at {points[-1][1]:.3g}" for label, _, _, points in known)
    ends += "" if chance is None else f"; the most frequent class alone gives {chance:.3g}"
    return draw(
        name=name,
        title=title,
        description=f"{title} over the epochs: {ends}.",
        width=_WIDTH,
        height=245,
        paint=paint,
        keys=[LegendEntry(index, label, color, marker) for index, (label, color, marker, _) in enumerate(known)],
    )


def _bands(axes: Axes, lines: Sequence[tuple[str, str, str, list[tuple[float, float]]]]) -> list[PlotMark]:
    """Return a band for each epoch with the values of all lines; bands meet halfway between epochs."""
    epochs = sorted({x for *_, points in lines for x, _ in points})
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    edges = [left, *((one + other) / 2 for one, other in pairwise(epochs)), right]
    marks = []
    for epoch, (start, end) in zip(epochs, pairwise(edges), strict=True):
        values = [(label, y) for label, _, _, points in lines for x, y in points if x == epoch]
        (x0, y0), (x1, y1) = pixels(axes, start, top), pixels(axes, end, bottom)
        marks.append(
            PlotMark(
                text=f"epoch {epoch:g}: " + ", ".join(f"{label} {_value(label, y)}" for label, y in values),
                x=pixels(axes, epoch, top)[0],
                y=y0,
                left=x0,
                width=x1 - x0,
                height=y1 - y0,
                dots=tuple(pixels(axes, epoch, y) for _, y in values),
            )
        )
    return marks


def _value(label: str, y: float) -> str:
    return share(y) if label.endswith("top-1") else number(y)


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
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol="%"))
