"""What the page of a comparison shows in which order: sections, headline figures, pictures, the maps as a table."""

from __future__ import annotations

from dataclasses import dataclass

from triscale.report.comparison import comparison_figures as figures
from triscale.report.comparison.comparison_content import (
    ComparisonContent,
    ImageMapRow,
    PublishedGainRow,
    ScalingMethodRow,
)
from triscale.report.draw.format import share, si, unbroken
from triscale.report.draw.svg import Picture
from triscale.report.run.image import Image, to_image
from triscale.report.run.run_view import Section, Tile


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """A row of the tables: a way with its name, and what they do not take from it as it is."""

    name: str
    way: ScalingMethodRow
    gain: str
    used: float | None


@dataclass(frozen=True, slots=True)
class PublishedComparison:
    """A published figure with what came out here."""

    name: str
    published: PublishedGainRow
    gain: str
    here: str


@dataclass(frozen=True, slots=True)
class Cell:
    """The map of one network on one image."""

    name: str
    predicted: str
    confidence: float
    right: bool
    overlay: Image


@dataclass(frozen=True, slots=True)
class MapRow:
    """An image with the maps of all networks."""

    file: str
    truth: str
    image: Image
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """What the templates read besides the content itself."""

    sections: tuple[Section, ...]
    headline: tuple[Tile, ...]
    accuracies: Picture
    against_cost: Picture
    rows: tuple[ScalingRow, ...]
    published: tuple[PublishedComparison, ...]
    columns: tuple[str, ...]
    beside: tuple[MapRow, ...]


def arrange_comparison(content: ComparisonContent) -> ComparisonView:
    """Choose and order what the page of a comparison shows."""
    gains = {row.way: figures.signed(row.gain) for row in content.ways}
    return ComparisonView(
        sections=_sections(content),
        headline=_headline(content),
        accuracies=figures.accuracies(content),
        against_cost=figures.against_cost(content),
        rows=tuple(
            ScalingRow(figures.names(row.way), row, gains[row.way], row.macs / row.asked if row.asked else None)
            for row in content.ways
        ),
        published=tuple(
            PublishedComparison(figures.names(row.way), row, figures.signed(row.gain), gains.get(row.way, ""))
            for row in content.published
        ),
        columns=tuple(figures.names(cell.way) for cell in content.beside[0].network_maps) if content.beside else (),
        beside=tuple(_row(row) for row in content.beside),
    )


def _sections(content: ComparisonContent) -> tuple[Section, ...]:
    found = (
        ("ways", "Which way pays", True),
        ("beside", "Where they look", bool(content.beside)),
        ("published", "What was published", bool(content.published)),
        ("limits", "What it cannot tell", bool(content.limitations)),
        ("onward", "How to go on", bool(content.go_on)),
        ("settings", "How it was made", bool(content.settings) or bool(content.environment)),
    )
    return tuple(Section(name, title) for name, title, present in found if present)


def _headline(content: ComparisonContent) -> tuple[Tile, ...]:
    """Return one tile for each scaled network, and one for the baseline."""
    tiles = []
    for row in content.ways:
        interval = f"{unbroken(share(row.low))} to {unbroken(share(row.high))}"
        gain = "" if row is content.ways[0] else f"{figures.signed(row.gain)} points, "
        tiles.append(
            Tile(figures.names(row.way).capitalize(), share(row.accuracy), f"{gain}{interval}; {si(row.macs)} MACs")
        )
    return tuple(tiles)


def _row(row: ImageMapRow) -> MapRow:
    return MapRow(
        file=row.file,
        truth=row.truth,
        image=to_image(row.image),
        cells=tuple(
            Cell(
                name=figures.names(cell.way),
                predicted=cell.predicted,
                confidence=cell.confidence,
                right=cell.predicted == row.truth,
                overlay=to_image(cell.overlay),
            )
            for cell in row.network_maps
        ),
    )
