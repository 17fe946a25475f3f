"""What the page of several Runs shows in which order."""

from __future__ import annotations

from dataclasses import dataclass

from triscale.report.draw.format import grouped, share, si
from triscale.report.draw.svg import Picture
from triscale.report.run.cost_figures import Panel, PlotPoint, accuracy_against_cost, own_color
from triscale.report.run.run_content import FamilyPoint
from triscale.report.run.run_view import Section, Tile
from triscale.report.runs.runs_content import RunRow, RunsContent, RunTable


@dataclass(frozen=True, slots=True)
class RunsView:
    """What the templates read besides the content itself; ``colors`` are those of the Runs in the figure."""

    sections: tuple[Section, ...]
    headline: tuple[Tile, ...]
    colors: tuple[str, ...]
    unmeasured: tuple[str, ...]
    ranked: bool
    against_cost: Picture | None
    cost_caption: str
    published: tuple[FamilyPoint, ...]


def arrange_runs(content: RunsContent) -> RunsView:
    """Choose and order what the page of several Runs shows of its content."""
    rows = [row for table in content.tables for row in table.rows]
    published = tuple(sorted((p for p in content.families if p.top1 is not None), key=lambda p: (p.macs, p.name)))
    candidates = (
        ("runs", "The Runs", True),
        ("cost", "Accuracy against cost", any(row.macs for row in rows) or bool(published)),
        ("differences", "What was done differently", True),
        ("places", "Where they are", bool(content.files)),
    )
    return RunsView(
        sections=tuple(Section(name, title) for name, title, present in candidates if present),
        headline=(),
        colors=tuple(own_color(number) for number in range(len(content.runs))),
        unmeasured=tuple(row.measure for row in rows if row.measure),
        ranked=any(len(table.rows) > 1 for table in content.tables),
        against_cost=accuracy_against_cost([_panel(table) for table in content.tables], content.families),
        cost_caption=_caption(content, bool(published)),
        published=published,
    )


def _panel(table: RunTable) -> Panel:
    title = f"{table.images}, {grouped(table.count)} test images"
    return Panel(title, tuple(_point(row, title) for row in table.rows))


def _point(row: RunRow, images: str) -> PlotPoint:
    interval = f"{share(row.top1_low)} to {share(row.top1_high)}"
    return PlotPoint(
        name=row.name,
        macs=row.macs,
        top1=row.top1,
        low=row.top1_low,
        high=row.top1_high,
        text=f"{row.name}: {share(row.top1)} of {images} right (95 % interval {interval}), {si(row.macs)} MACs, "
        f"{si(row.params)} parameters",
        number=row.number,
    )


def _caption(content: RunsContent, published: bool) -> str:
    several = "each on the scale of its own test images, " if len(content.tables) > 1 else ""
    parts = [f"Above: the Runs (stars), {several}with 95 % intervals."]
    if published:
        parts.append(
            "Below, on a scale of its own: published networks on ImageNet; dashed lines are what the Runs cost."
        )
    return " ".join(parts)
