"""Figures of a baseline search: accuracy against cost with the Pareto front, and the reward over the search."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from triscale.report.draw.axes import percent_axis
from triscale.report.draw.figure_data import FigureData
from triscale.report.draw.format import share, si
from triscale.report.draw.palette import BLUE, GRID, INK, MUTED, ORANGE, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area
from triscale.search.baseline.explore import BaselineSearchResult, EvaluatedCandidate, compared
from triscale.search.baseline.objective import SearchObjective

UNITS = {"macs": "MACs", "params": "params", "latency": "ms"}


def cost_text(objective: SearchObjective, cost: float) -> str:
    """Return a cost with the unit of the objective: ``20.0M MACs`` or ``12.5 ms``."""
    unit = UNITS[objective.cost]
    return f"{cost:.3g} ms" if unit == "ms" else f"{si(cost)} {unit}"


def trained(result: BaselineSearchResult) -> list[EvaluatedCandidate]:
    """Return the networks that were trained: all that meet the constraint on the cost."""
    return [one for one in result.evaluated if one.accuracy is not None]


def front(result: BaselineSearchResult) -> list[EvaluatedCandidate]:
    """Return the Pareto front, from the cheapest network to the most expensive."""
    return [result.evaluated[index] for index in result.front]


def pareto(result: BaselineSearchResult) -> Picture:
    """Draw all networks by cost and accuracy, with the Pareto front, the best reward, and a line of equal reward."""
    best, on_front, points = result.evaluated[result.best], front(result), trained(result)

    def paint(figure: Figure) -> None:
        _pareto(plot_area(figure, left=58, right=22, top=14, bottom=46), result)

    return draw(
        name="figure-pareto",
        title="Accuracy against cost",
        description=f"{len(points)} networks by cost and accuracy. The Pareto front has {len(on_front)}, from "
        f"{share(on_front[0].accuracy)} at {cost_text(result.objective, on_front[0].cost)} to "
        f"{share(on_front[-1].accuracy)} at {cost_text(result.objective, on_front[-1].cost)}. The network with the "
        f"best reward has {share(best.accuracy)} at {cost_text(result.objective, best.cost)}; the target is "
        f"{cost_text(result.objective, result.objective.target)}.",
        width=410,
        height=320,
        paint=paint,
        data=_pareto_data(result),
    )


def progress(result: BaselineSearchResult) -> Picture:
    """Draw the reward of each network in the order of evaluation, and the best so far."""
    indices = compared(result.evaluated)
    rewards = [result.evaluated[index].reward for index in indices]
    numbers = [index + 1 for index in indices]
    best = list(accumulate(rewards, max))

    def paint(figure: Figure) -> None:
        axes = plot_area(figure, left=50, right=16, top=12, bottom=44)
        axes.plot(numbers, rewards, marker="o", markersize=4, color=MUTED, alpha=0.7, linestyle="none", zorder=3)
        axes.step(numbers, best, where="post", color=ORANGE, zorder=4)
        low, high = min(rewards), max(rewards)
        axes.set_ylim(low - 0.06 * (high - low) - 0.002, high + 0.08 * (high - low) + 0.002)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("networks evaluated")
        axes.set_ylabel("reward")

    return draw(
        name="figure-progress",
        title="Reward over the search",
        description=f"Rewards of {len(rewards)} networks in order; the best so far rises from {best[0]:.3f} to "
        f"{best[-1]:.3f}.",
        width=400,
        height=320,
        paint=paint,
        data=FigureData.of(
            ("networks evaluated", "reward", "best reward so far"), zip(numbers, rewards, best, strict=True)
        ),
    )


def _pareto_data(result: BaselineSearchResult) -> FigureData:
    """Return the trained networks in the order of evaluation."""
    unit = UNITS[result.objective.cost]
    columns = ("network", f"cost ({unit})", "accuracy (share)", "standard error (share)", "epochs", "reward",
               "on the Pareto front", "best reward")  # fmt: skip
    return FigureData.of(
        columns,
        (
            (row.network, row.cost, row.accuracy, row.error, row.epochs, row.reward, number in result.front,
             number == result.best)
            for number, row in enumerate(result.evaluated)
            if row.accuracy is not None
        ),
    )  # fmt: skip


def _pareto(axes: Axes, result: BaselineSearchResult) -> None:
    points, best, on_front = trained(result), result.evaluated[result.best], front(result)
    full = {result.evaluated[index].structure for index in compared(result.evaluated)}
    early = [row for row in points if row.structure not in full]
    others = [row for row in points if row.structure in full - {one.structure for one in on_front}]
    axes.set_xscale("log")
    costs = [row.cost for row in points] + [result.objective.target]
    low, high = min(costs) / 1.06, max(costs) * 1.06
    axes.set_xlim(low, high)
    accuracies = [_accuracy(row) for row in points]
    margin = 0.07 * (max(accuracies) - min(accuracies)) + 0.004
    bottom, top = max(0.0, min(accuracies) - margin), min(1.0, max(accuracies) + margin)
    axes.set_ylim(bottom, top)
    axes.axvline(result.objective.target, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    left = result.objective.target > math.sqrt(low * high)
    target = result.objective.target
    axes.annotate(
        f"target {cost_text(result.objective, target)}", (target, 0), xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 8), textcoords="offset points", ha="right" if left else "left", fontsize=9,
        color=MUTED,
    )  # fmt: skip
    if result.objective.form == "soft" and best.reward > 0:
        line_costs = np.geomspace(low, high, 60)
        equal_reward = best.reward / (line_costs / result.objective.target) ** result.objective.exponent
        axes.plot(line_costs, equal_reward, color=ORANGE, linewidth=1, linestyle=(0, (1, 2)), zorder=2)
    for group, color, alpha in ((early, GRID, 1.0), (others, MUTED, 0.75)):
        axes.plot(
            [row.cost for row in group], [_accuracy(row) for row in group], marker="o", markersize=5, color=color,
            alpha=alpha, markeredgewidth=0, linestyle="none", zorder=3,
        )  # fmt: skip
    axes.step(
        [row.cost for row in on_front],
        [_accuracy(row) for row in on_front],
        where="post",
        color=BLUE,
        linewidth=1.4,
        zorder=3,
    )
    axes.plot(
        [row.cost for row in on_front], [_accuracy(row) for row in on_front], marker="o", markersize=6.5, color=BLUE,
        markeredgecolor=SURFACE, linestyle="none", zorder=4,
    )  # fmt: skip
    axes.plot(
        best.cost, _accuracy(best), marker="D", markersize=9, color=ORANGE, markeredgecolor=SURFACE, linestyle="none",
        zorder=5,
    )  # fmt: skip
    right = best.cost < math.sqrt(low * high)
    axes.annotate(
        "best reward", (best.cost, _accuracy(best)), xytext=(9 if right else -9, -14),
        textcoords="offset points", ha="left" if right else "right", fontsize=9.5, color=INK, fontweight="bold",
    )  # fmt: skip
    _cost_axis(axes, UNITS[result.objective.cost], low, high)
    percent_axis(axes, "y", 6)
    axes.grid(visible=True, color=GRID)
    axes.set_xlabel(f"{UNITS[result.objective.cost]}, logarithmic")
    axes.set_ylabel("accuracy on validation images" if result.table is None else "accuracy in the table")


def _cost_axis(axes: Axes, unit: str, low: float, high: float) -> None:
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
    axes.xaxis.set_major_formatter(small if unit == "ms" else EngFormatter(sep=""))


def _accuracy(one: EvaluatedCandidate) -> float:
    """Return the accuracy of a network that was trained."""
    assert one.accuracy is not None
    return one.accuracy
