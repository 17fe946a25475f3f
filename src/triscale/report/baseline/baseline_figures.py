"""Pictures of a baseline search: accuracy against cost with the Pareto front, and how the best reward grew."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from triscale.report.baseline.baseline_content import BaselineContent, CandidateRow
from triscale.report.draw.format import share, si
from triscale.report.draw.svg import BLUE, GRID, INK, MUTED, ORANGE, SURFACE, Picture, draw, plot_area
from triscale.report.search.search_figures import percent


def cost_text(content: BaselineContent, cost: float) -> str:
    """Return a cost with its unit."""
    return f"{cost:.3g} ms" if content.unit == "ms" else f"{si(cost)} {content.unit}"


def pareto(content: BaselineContent) -> Picture:
    """Draw all networks by cost and accuracy, the front as a line, the reward's choice, and a line of equal reward."""
    best = next(row for row in content.points if row.best)
    on = [row for row in content.points if row.on_front]

    def paint(figure: Figure) -> None:
        _pareto(plot_area(figure, left=58, right=22, top=14, bottom=46), content, best)

    return draw(
        name="figure-pareto",
        title="Accuracy against cost",
        description=f"{len(content.points)} networks by cost and accuracy. The Pareto front has {len(on)}, from "
        f"{share(on[0].accuracy)} at {cost_text(content, on[0].cost)} to {share(on[-1].accuracy)} at "
        f"{cost_text(content, on[-1].cost)}. The reward chooses {share(best.accuracy)} at "
        f"{cost_text(content, best.cost)}; the target is {cost_text(content, content.target)}.",
        width=410,
        height=320,
        paint=paint,
    )


def progress(content: BaselineContent) -> Picture:
    """Draw the reward of each network in the order in which they came, and the best so far."""
    rewards = [row.reward for row in content.points if row.compared]
    places = [row.place + 1 for row in content.points if row.compared]
    best = list(accumulate(rewards, max))

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=50, right=16, top=12, bottom=44)
        axes.plot(places, rewards, marker="o", markersize=4, color=MUTED, alpha=0.7, linestyle="none", zorder=3)
        axes.step(places, best, where="post", color=ORANGE, zorder=4)
        low, high = min(rewards), max(rewards)
        axes.set_ylim(low - 0.06 * (high - low) - 0.002, high + 0.08 * (high - low) + 0.002)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("networks looked at")
        axes.set_ylabel("reward")

    return draw(
        name="figure-progress",
        title="How the reward grew",
        description=f"Rewards of {len(rewards)} networks in order; the best so far rises from {best[0]:.3f} to "
        f"{best[-1]:.3f}.",
        width=400,
        height=320,
        paint=paint,
    )


def _pareto(axes: Axes, content: BaselineContent, best: CandidateRow) -> None:
    rows = [row for row in content.points if row.compared]
    early = [row for row in content.points if not row.compared]
    on = sorted((row for row in rows if row.on_front), key=lambda row: row.cost)
    others = [row for row in rows if not row.on_front]
    axes.set_xscale("log")
    costs = [row.cost for row in content.points] + [content.target]
    low, high = min(costs) / 1.06, max(costs) * 1.06
    axes.set_xlim(low, high)
    accuracies = [row.accuracy for row in content.points]
    margin = 0.07 * (max(accuracies) - min(accuracies)) + 0.004
    bottom, top = max(0.0, min(accuracies) - margin), min(1.0, max(accuracies) + margin)
    axes.set_ylim(bottom, top)
    axes.axvline(content.target, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    left = content.target > math.sqrt(low * high)
    axes.annotate(
        f"target {cost_text(content, content.target)}", (content.target, 0), xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 8), textcoords="offset points", ha="right" if left else "left", fontsize=9,
        color=MUTED,
    )  # fmt: skip
    if content.form == "soft" and best.reward > 0:
        along = np.geomspace(low, high, 60)
        equal = best.reward / (along / content.target) ** content.exponent
        axes.plot(along, equal, color=ORANGE, linewidth=1, linestyle=(0, (1, 2)), zorder=2)
    for group, color, alpha in ((early, GRID, 1.0), (others, MUTED, 0.75)):
        axes.plot(
            [row.cost for row in group], [row.accuracy for row in group], marker="o", markersize=5, color=color,
            alpha=alpha, markeredgewidth=0, linestyle="none", zorder=3,
        )  # fmt: skip
    axes.step([row.cost for row in on], [row.accuracy for row in on], where="post", color=BLUE, linewidth=1.4, zorder=3)
    axes.plot(
        [row.cost for row in on], [row.accuracy for row in on], marker="o", markersize=6.5, color=BLUE,
        markeredgecolor=SURFACE, linestyle="none", zorder=4,
    )  # fmt: skip
    axes.plot(
        best.cost, best.accuracy, marker="D", markersize=9, color=ORANGE, markeredgecolor=SURFACE, linestyle="none",
        zorder=5,
    )  # fmt: skip
    right = best.cost < math.sqrt(low * high)
    axes.annotate(
        "the reward's choice", (best.cost, best.accuracy), xytext=(9 if right else -9, -14),
        textcoords="offset points", ha="left" if right else "right", fontsize=9.5, color=INK, fontweight="bold",
    )  # fmt: skip
    _cost_axis(axes, content, low, high)
    percent(axes, "y", 6)
    axes.grid(visible=True, color=GRID)
    axes.set_xlabel(f"{content.unit}, logarithmic")
    axes.set_ylabel("accuracy on held-out images")


def _cost_axis(axes: Axes, content: BaselineContent, low: float, high: float) -> None:
    ticks = [
        digit * 10**exponent
        for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 1.5, 2, 3, 4, 5, 7)
        if low <= digit * 10**exponent <= high
    ]
    step = max(1, math.ceil(len(ticks) / 6))
    axes.xaxis.set_major_locator(FixedLocator(ticks[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    small = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(small if content.unit == "ms" else EngFormatter(sep=""))
