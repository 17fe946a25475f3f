"""Values that the report of a comparison derives from its records: sections, headline figures, rows."""

from __future__ import annotations

from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.comparison.comparison_figures import method_name, signed_points
from triscale.report.draw.format import share, si, unbroken
from triscale.report.run.run_view import Tile
from triscale.search.coefficients.published_coefficients import PublishedRow
from triscale.search.compare.contenders import Contender, Way
from triscale.search.compare.results import ContenderResult

__all__ = ["method_name", "signed_points"]


def sections(content: ComparisonContent) -> tuple[tuple[str, str], ...]:
    """Return the sections with content, as pairs of template name and heading."""
    candidates = (
        ("methods", "Scaling methods", True),
        ("network_maps", "Class activation maps", content.maps is not None and bool(content.maps.images)),
        ("published", "Published results", bool(content.published)),
        ("limitations", "Limitations", bool(content.limitations)),
        ("next_steps", "Next steps", bool(content.next_commands)),
        ("settings", "Settings and environment", bool(content.settings) or bool(content.environment)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: ComparisonContent) -> tuple[Tile, ...]:
    """Return one headline figure for the baseline and one for each scaled network."""
    tiles = []
    for contender, result in rows(content):
        interval = f"{unbroken(share(result.low))} to {unbroken(share(result.high))}"
        gain = "" if contender.way == "baseline" else f"{signed_points(result.gain)} points, "
        detail = f"{gain}{interval}; {si(contender.macs.achieved)} MACs"
        tiles.append(Tile(method_name(contender.way).capitalize(), share(result.accuracy), detail))
    return tuple(tiles)


def rows(content: ComparisonContent) -> tuple[tuple[Contender, ContenderResult], ...]:
    """Return the networks with their accuracies, the baseline first."""
    return tuple(zip(content.compared.comparison.contenders, content.compared.outcomes, strict=True))


def num_blocks(network: AnyNetwork) -> int | None:
    """Return the number of blocks of a network; None for a custom model."""
    return network.num_blocks if isinstance(network, Network) else None


def published_way(row: PublishedRow) -> Way:
    """Return how the network of a published row was scaled."""
    scaled = [way for way in ("depth", "width", "resolution") if getattr(row, way) not in (None, 1)]
    if row.assumed is not None or len(scaled) > 1:
        return "compound"
    return scaled[0] if scaled else "baseline"


def published_gain(content: ComparisonContent, row: PublishedRow) -> float:
    """Return the gain of a published row over that of its baseline, as a share."""
    return (row.top1 - content.published[0].top1) / 100


def gain_here(content: ComparisonContent, way: Way) -> str:
    """Return the gain of a scaling method in this comparison, in percentage points."""
    gains = {result.way: signed_points(result.gain) for result in content.compared.outcomes}
    return gains.get(way, "")
