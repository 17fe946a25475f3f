"""The figure of a family: cost, depth, width and resolution of its members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from triscale.report.draw.format import si
from triscale.report.draw.palette import BLUE, INK, MUTED, ORANGE, SCALE, SURFACE
from triscale.report.draw.svg import Picture, draw, plot_area

_MIN_CHANGE = 1.5


class FamilyTower(NamedTuple):
    """A member of a family: its cost, and its stages as pairs of width and repeats; custom models have no stages."""

    phi: float
    macs: int
    params: int
    nominal_macs: float
    pixels: int
    stages: tuple[tuple[int, int], ...]


def family(baseline: str, law: str, members: Sequence[FamilyTower]) -> Picture:
    """Draw MACs and parameters against phi, and each member as a tower of its stages."""
    towers = bool(members[0].stages)
    width = 460 + (90 * len(members) + 40 if towers else 0)

    def paint(figure: Figure) -> None:
        height = float(figure.get_size_inches()[1]) * 72
        figure.text(
            16 / width, 1 - 20 / height, f"{baseline} scaled with {law}", fontsize=13, fontweight="bold", color=INK,
            va="center",
        )  # fmt: skip
        _costs(plot_area(figure, left=56, right=width - 425, top=44, bottom=46), members)
        if towers:
            _towers(plot_area(figure, left=484, right=16, top=44, bottom=46), members)

    last = members[-1]
    return draw(
        name="figure-family",
        title=f"A family from {baseline}",
        description=f"{len(members)} members, from {si(members[0].macs)} MACs at phi {members[0].phi:g} to "
        f"{si(last.macs)} at phi {last.phi:g}.",
        width=width,
        height=340,
        paint=paint,
    )


def _costs(axes: Axes, members: Sequence[FamilyTower]) -> None:
    phis = [member.phi for member in members]
    axes.set_yscale("log")
    axes.plot(phis, [member.nominal_macs for member in members], color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    for values, color, name in (
        ([member.macs for member in members], BLUE, "MACs"),
        ([member.params for member in members], ORANGE, "params"),
    ):
        axes.plot(phis, values, color=color, marker="o", markersize=6, markeredgecolor=SURFACE, zorder=3)
        for phi, value in zip(phis, values, strict=True):
            axes.annotate(
                si(value), (phi, value), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8.5,
                color=color, annotation_clip=False,
            )  # fmt: skip
        axes.annotate(
            name, (phis[0], values[0]), xytext=(0, -15), textcoords="offset points", ha="center", fontsize=9.5,
            color=color, fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    everything = [value for member in members for value in (member.macs, member.params)]
    axes.set_ylim(min(everything) / 2.4, max(everything) * 1.9)
    margin = 0.09 * max(_MIN_CHANGE, phis[-1] - phis[0])
    axes.set_xlim(phis[0] - margin, phis[-1] + margin)
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xticks(phis if len(phis) <= 9 else phis[:: len(phis) // 8])
    axes.set_xlabel("phi (dashed: nominal MACs of the law)")


def _towers(axes: Axes, members: Sequence[FamilyTower]) -> None:
    """Draw stages as bars whose width shows channels and whose height shows repeats; the input is at the bottom."""
    widest = max(width for member in members for width, _ in member.stages)
    for x, member in enumerate(members):
        bottom = 0.0
        for number, (width, repeats) in enumerate(member.stages):
            color = SCALE[1 + number * (len(SCALE) - 2) // max(1, len(member.stages) - 1)]
            share = 0.12 + 0.74 * width / widest
            axes.add_patch(Rectangle((x - share / 2, bottom), share, repeats * 0.94, facecolor=color, edgecolor="none"))
            bottom += repeats
        axes.annotate(
            f"{member.pixels} px", (x, bottom), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=9,
            color=INK,
        )  # fmt: skip
    axes.set_xlim(-0.6, len(members) - 0.4)
    axes.set_ylim(0, 1.1 * max(sum(repeats for _, repeats in member.stages) for member in members))
    axes.set_xticks(range(len(members)), [f"{member.phi:g}" for member in members])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("blocks (width: channels)")
    axes.set_xlabel("phi")
