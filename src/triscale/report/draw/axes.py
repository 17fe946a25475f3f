"""Consistent axes for shares and MACs in all figures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from triscale.report.draw.palette import GRID


def percent_axis(axes: Axes, which: str, number: int) -> None:
    """Label an axis of shares in percent, with as many decimals as its ticks need."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(number, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%"))


def macs_axis(axes: Axes, values: Sequence[float]) -> None:
    """Label a logarithmic axis of MACs at 1, 2 and 5 of each decade."""
    low, high = min(values), max(values)
    ticks = [factor * 10.0**decade for decade in range(3, 16) for factor in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if low / 1.05 <= tick <= high * 1.05] or [low, high])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color=GRID)
