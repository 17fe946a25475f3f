"""Ternary plot of the candidates of a coefficient search over depth, width and resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from triscale.report.draw.format import TIMES, share
from triscale.report.draw.palette import INK, MUTED, ORANGE, SCALE
from triscale.report.draw.svg import FONT_SIZE, Picture, draw, plot_area
from triscale.report.search.response_view import SHADING_STEPS, shading
from triscale.report.search.search_content import ReferenceLaw, SearchContent
from triscale.report.search.search_data import triangle_data
from triscale.report.search.search_rows import StandingRow, law_text, learning_curves, octaves, standing_rows
from triscale.report.search.ternary import HEIGHT, Shares, lattice, position, shares

_WIDTH, _TALL = 442, 452
_MARGIN = {"left": 56, "right": 56, "top": 62, "bottom": 104}
_DOT = 9.5
_DODGE = 0.034
_CLEAR = 0.026
_MIN_SPAN = 0.01


def triangle(content: SearchContent) -> Picture:
    """Draw the candidates of a search colored by accuracy, over the fitted response if there is one."""
    rows, values = standing_rows(content), shading(content)
    accuracies = _comparable(content)
    edges = levels(accuracies, values)

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, **_MARGIN)
        axes.set_aspect("equal")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, HEIGHT)
        axes.set_axis_off()
        colors, norm = ListedColormap(SCALE[: len(edges) - 1]), BoundaryNorm(edges, len(edges) - 1)
        if values:
            _shade(axes, values, edges)
        _frame(axes, content)
        _dots(axes, rows, [colors(norm(accuracy)) for accuracy in accuracies])
        _callouts(axes, content)
        _legend(figure, content, edges)

    best = rows[0].standing
    tied = len(content.result.ties)
    return draw(
        name="figure-triangle",
        title="Candidates of equal cost",
        description=f"A triangle whose corners are depth, width and resolution alone, with {len(rows)} "
        f"candidates colored by accuracy. The best is {law_text(best.law)} with {share(best.accuracy)}; {tied} others "
        "are tied with it.",
        width=_WIDTH,
        height=_TALL,
        paint=paint,
        data=triangle_data(content, accuracies),
    )


def _comparable(content: SearchContent) -> list[float]:
    """Return the accuracies after the same number of epochs; with successive halving, those of the first rung."""
    if curves := learning_curves(content):
        return [curve.points[0][1] for curve in curves]
    return [standing.accuracy for standing in content.result.standings]


def levels(accuracies: Sequence[float], shading: Sequence[float] | None) -> list[float]:
    """Return round boundaries of at most seven color levels for the candidates and the shading near them."""
    low, high = min(accuracies), max(accuracies)
    span = max(high - low, _MIN_SPAN)
    if shading:
        low, high = max(low - span, min(low, *shading)), min(high + span, max(high, *shading))
    if high - low < _MIN_SPAN:
        low, high = (low + high - _MIN_SPAN) / 2, (low + high + _MIN_SPAN) / 2
    bounds = MaxNLocator(len(SCALE) - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(bound), 10) for bound in bounds]


def _shade(axes: Axes, accuracies: Sequence[float], edges: Sequence[float]) -> None:
    x, y = np.array([position(of) for of in lattice(SHADING_STEPS)]).T
    values = np.clip(accuracies, edges[0], edges[-1])
    axes.tricontourf(x, y, values, levels=list(edges), colors=list(SCALE[: len(edges) - 1]), alpha=0.8)


def _frame(axes: Axes, content: SearchContent) -> None:
    corners = {"depth": (1.0, 0.0, 0.0), "width": (0.0, 1.0, 0.0), "resolution": (0.0, 0.0, 1.0)}
    outline = [position(corners[name]) for name in ("width", "resolution", "depth", "width")]
    axes.plot(*zip(*outline, strict=True), color=MUTED, linewidth=1, clip_on=False, zorder=2)
    for level in (0.25, 0.5, 0.75):
        for turn in range(3):
            ends = [_rotated((level, 1 - level, 0.0), turn), _rotated((level, 0.0, 1 - level), turn)]
            axes.plot(*zip(*map(position, ends), strict=True), color=MUTED, linewidth=0.6, alpha=0.45, zorder=2)
    for name, power, offset, align in (
        ("depth", 1, (0, 10), "center"),
        ("width", 2, (-8, -13), "center"),
        ("resolution", 2, (8, -13), "center"),
    ):
        lines = [(f"{name} alone", 0, INK, "bold")]
        if (growth := octaves(content.candidates)) is not None:
            lines.append((f"about {TIMES}{2 ** (growth / power):.2f}", 1, MUTED, "normal"))
        for text, line, color, weight in lines:
            axes.annotate(
                text,
                position(corners[name]),
                xytext=(offset[0], offset[1] + (14 * (1 - line) if name == "depth" else -14 * line)),
                textcoords="offset points",
                ha=align,
                va="bottom" if name == "depth" else "top",
                fontsize=FONT_SIZE if line == 0 else 9.5,
                color=color,
                fontweight=weight,
                annotation_clip=False,
            )


def _rotated(of: Shares, turns: int) -> Shares:
    return (of[-turns % 3], of[(1 - turns) % 3], of[(2 - turns) % 3])


def _dots(axes: Axes, rows: Sequence[StandingRow], fills: Sequence[object]) -> None:
    positions = _positions(rows)
    # The best are drawn last, above the others.
    for row, position_of_row, fill in reversed(list(zip(rows, positions, fills, strict=True))):
        if position_of_row is None:
            continue
        first = row is rows[0]
        axes.plot(
            *position_of_row,
            marker="o",
            linestyle="none",
            markersize=_DOT * (1.35 if first else 1),
            markerfacecolor=fill,
            markeredgecolor=ORANGE if first else INK if row.standing.tied else MUTED,
            markeredgewidth=2.6 if first else 1.8 if row.standing.tied else 0.6,
            clip_on=False,
            zorder=4,
        )


def _positions(rows: Sequence[StandingRow]) -> list[tuple[float, float] | None]:
    """Return the positions of the dots; dots with equal positions are drawn side by side."""
    ternary = [shares(row.candidate.realized) for row in rows]
    groups: dict[Shares, list[int]] = {}
    for index, of in enumerate(ternary):
        if of is not None:
            groups.setdefault((round(of[0], 2), round(of[1], 2), round(of[2], 2)), []).append(index)
    placed: list[tuple[float, float] | None] = [None] * len(rows)
    for indices in groups.values():
        for number, index in enumerate(indices):
            x, y = position(ternary[index] or (0, 0, 0))
            placed[index] = (x + _DODGE * (number - (len(indices) - 1) / 2), y)
    return placed


def _callouts(axes: Axes, content: SearchContent) -> None:
    rows = standing_rows(content)
    best, first = rows[0].standing, _positions(rows)[0]
    published = content.reference
    other = shares(published.realized) if published else None
    reference_at = position(other) if other else None
    if published and reference_at:
        axes.plot(
            *reference_at, marker="D", linestyle="none", markersize=12, markerfacecolor="none", markeredgecolor=INK,
            markeredgewidth=1.8, clip_on=False, zorder=5,
        )  # fmt: skip
    right = first is not None and (reference_at is None or first[0] >= reference_at[0])
    if first is not None:
        lines = (f"best: {law_text(best.law)}", f"{share(best.accuracy)}, cost {TIMES}{best.ratio:.2f}")
        _callout(axes, first, lines, ORANGE, right=right)
    if published and reference_at:
        _callout(axes, reference_at, _published_lines(published), INK, right=not right)


def _callout(axes: Axes, at: tuple[float, float], lines: tuple[str, str], color: str, *, right: bool) -> None:
    x, y = (1.13, HEIGHT * 0.93) if right else (-0.13, HEIGHT * 0.93)
    align = "right" if right else "left"
    bend = 0.97 if right else 0.03
    begin = (bend, y - 0.075)
    short = 1 - _CLEAR / math.dist(begin, at)
    end = [start + short * (stop - start) for start, stop in zip(begin, at, strict=True)]
    axes.plot([begin[0], end[0]], [begin[1], end[1]], color=color, linewidth=1, clip_on=False, zorder=3)
    for number, (line, shade, weight) in enumerate(zip(lines, (color, MUTED), ("bold", "normal"), strict=True)):
        axes.annotate(
            line, (x, y), xytext=(0, -14 * number), textcoords="offset points", ha=align, va="center",
            fontsize=10 if number == 0 else 9.5, color=shade, fontweight=weight, annotation_clip=False,
        )  # fmt: skip


def _published_lines(published: ReferenceLaw) -> tuple[str, str]:
    rank = "not a candidate" if published.rank is None else f"rank {published.rank}"
    cost = "" if published.ratio is None else f"cost {TIMES}{published.ratio:.2f}, "
    return f"{published.name}: {law_text(published.law)}", f"{cost}{rank}"


def _legend(figure: Figure, content: SearchContent, edges: Sequence[float]) -> None:
    width, height = figure.get_size_inches() * 72
    left, low, tall = _MARGIN["left"] + 10.0, 38.0, 11.0
    step = (width - 2 * left) / (len(edges) - 1)
    decimals = 0 if all(abs(100 * edge - round(100 * edge)) < 1e-6 for edge in edges) else 1
    for index, color in enumerate(SCALE[: len(edges) - 1]):
        figure.add_artist(
            Rectangle(((left + index * step) / width, low / height), step / width, tall / height, color=color, lw=0)
        )
    for index, edge in enumerate(edges):
        figure.text(
            (left + index * step) / width, (low - 4) / height, f"{100 * edge:.{decimals}f}", ha="center", va="top",
            fontsize=9, color=MUTED,
        )  # fmt: skip
    for x, text, align in ((left - 10, "lower", "right"), (width - left + 10, "higher", "left")):
        figure.text(x / width, (low + tall / 2) / height, text, ha=align, va="center", fontsize=9, color=MUTED)
    style = {"marker": "o", "linestyle": "none", "markersize": _DOT, "markerfacecolor": "none"}
    other_label = "dropped, or not tied" if content.result.method == "halving" else "not tied"
    keys = [Line2D([], [], markeredgecolor=ORANGE, markeredgewidth=2.6, label="best", **style)]  # type: ignore[arg-type]
    if content.result.ties:
        keys.append(Line2D([], [], markeredgecolor=INK, markeredgewidth=1.8, label="tied with the best", **style))  # type: ignore[arg-type]
    if not all(standing.tied for standing in content.result.standings):
        style["markerfacecolor"] = SCALE[2]
        keys.append(Line2D([], [], markeredgecolor=MUTED, markeredgewidth=0.6, label=other_label, **style))  # type: ignore[arg-type]
    figure.legend(
        handles=keys, loc="lower center", ncols=3, fontsize=9.5, labelcolor=INK, handletextpad=0.1, columnspacing=1.2,
        borderaxespad=0,
    )  # fmt: skip
