"""What the page of a search shows in which order: sections, headline figures, pictures. Nothing here is recomputed."""

from __future__ import annotations

from dataclasses import dataclass

from triscale.report.draw.format import grouped, points, share, si
from triscale.report.draw.svg import Picture
from triscale.report.run.run_view import Section, Tile
from triscale.report.search import search_figures as figures
from triscale.report.search.search_content import SearchContent, StandingRow, Triple
from triscale.report.search.ternary import triangle


@dataclass(frozen=True, slots=True)
class SearchView:
    """What the templates read besides the content itself."""

    sections: tuple[Section, ...]
    headline: tuple[Tile, ...]
    triangle: Picture
    standings: Picture
    rungs: Picture | None
    behind: Picture | None
    forecast: Picture | None
    predicted: Picture | None
    compared: tuple[StandingRow, ...]
    shown: tuple[StandingRow, ...]
    others: tuple[StandingRow, ...]


def arrange_search(content: SearchContent) -> SearchView:
    """Choose and order what the page of a search shows."""
    last = max(row.epochs for row in content.standings)
    compared = tuple(row for row in content.standings if row.epochs == last)
    shown = figures.SHOWN_STANDINGS if len(content.standings) > figures.SHOWN_STANDINGS + 3 else len(content.standings)
    return SearchView(
        sections=_sections(content),
        headline=_headline(content),
        triangle=triangle(content),
        standings=figures.standings(compared),
        rungs=figures.rungs(content.learning_curves) if content.learning_curves else None,
        behind=figures.behind(content.learning_curves) if content.learning_curves else None,
        forecast=figures.forecast(content.forecast, content.trials) if content.forecast else None,
        predicted=figures.predicted(content.response) if content.response and content.response.predicted else None,
        compared=compared,
        shown=content.standings[:shown],
        others=content.standings[shown:],
    )


def _sections(content: SearchContent) -> tuple[Section, ...]:
    found = (
        ("surface", "Equal cost, other shape", True),
        ("standings", "Standings", True),
        ("rungs", "Rung by rung", bool(content.learning_curves)),
        ("response", "The fitted response", content.response is not None),
        ("trials", "Trainings", bool(content.trials)),
        ("limits", "What it cannot tell", bool(content.limitations)),
        ("onward", "How to go on", bool(content.go_on)),
        ("settings", "How it was made", bool(content.settings) or bool(content.environment)),
    )
    return tuple(Section(name, title) for name, title, present in found if present)


def _headline(content: SearchContent) -> tuple[Tile, ...]:
    best, others = content.standings[0], len(content.standings) - 1
    ties = sum(row.tied for row in content.standings[1:])
    part = content.spent / content.all_candidates
    how = "fitted" if content.method == "response" else f"{len(best.seeds)} seed{'s' if len(best.seeds) != 1 else ''}"
    return (
        Tile("alpha, beta, gamma", figures.words(best.law), _span(content, ties)),
        Tile("Accuracy", share(best.accuracy), f"{how}, standard error {points(best.error)} points"),
        Tile("Not told from the first", grouped(ties), f"of {others} other candidate{'s' if others != 1 else ''}"),
        Tile("MACs spent", si(content.spent), _part(part)),
    )


def _part(part: float) -> str:
    if round(part, 3) == 1:
        return "all candidates, all seeds, all epochs"
    return f"{100 * part:.0f} % of training all candidates to the end"


def _span(content: SearchContent, ties: int) -> str:
    if not content.interval and ties == 0:
        return "no other is tied with it"
    ranges = ", ".join(_range(content.low, content.high, name) for name in Triple.model_fields)
    return f"95 % interval: {ranges}" if content.interval else f"with those tied: {ranges}"


def _range(low: Triple, high: Triple, name: str) -> str:
    least, largest = getattr(low, name), getattr(high, name)
    return f"{name} {least:g}" if least == largest else f"{name} {least:g} to {largest:g}"
