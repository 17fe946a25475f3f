"""What the page of a baseline search shows in which order: sections, headline figures, pictures."""

from __future__ import annotations

from dataclasses import dataclass

from triscale.report.baseline import baseline_figures as figures
from triscale.report.baseline.baseline_content import BaselineContent, CandidateRow
from triscale.report.draw.format import points, share, si
from triscale.report.draw.svg import Picture
from triscale.report.run.run_view import Section, Tile


@dataclass(frozen=True, slots=True)
class BaselineView:
    """What the templates read besides the content itself."""

    sections: tuple[Section, ...]
    headline: tuple[Tile, ...]
    pareto: Picture
    progress: Picture
    front: tuple[CandidateRow, ...]
    costs: dict[str, str]


def arrange_baseline(content: BaselineContent) -> BaselineView:
    """Choose and order what the page of a baseline search shows."""
    front = tuple(sorted((row for row in content.points if row.on_front), key=lambda row: row.cost))
    named = {row.name: row.cost for row in content.points}
    return BaselineView(
        sections=_sections(content),
        headline=_headline(content),
        pareto=figures.pareto(content),
        progress=figures.progress(content),
        front=front,
        costs={name: figures.cost_text(content, cost) for name, cost in named.items()},
    )


def _sections(content: BaselineContent) -> tuple[Section, ...]:
    found = (
        ("front", "Accuracy against cost", True),
        ("finalists", "The finalists", bool(content.finalists)),
        ("blocks", "The network found", bool(content.stages)),
        ("limits", "What it cannot tell", bool(content.limitations)),
        ("onward", "How to go on", bool(content.go_on)),
        ("settings", "How it was made", bool(content.settings) or bool(content.environment)),
    )
    return tuple(Section(name, title) for name, title, present in found if present)


def _headline(content: BaselineContent) -> tuple[Tile, ...]:
    chosen = next((row for row in content.finalists if row.chosen), None)
    best = next(row for row in content.points if row.best)
    accuracy, error, epochs = (
        (best.accuracy, best.error, content.epochs)
        if chosen is None
        else (chosen.accuracy, chosen.error, content.final_epochs)
    )
    cost = best.cost if chosen is None else chosen.cost
    detail = f"{epochs} epochs, held-out images, standard error {points(error)} points"
    trained = sum(row.epochs > 0 for row in content.points) if content.evaluator == "training" else 0
    effort = f"{trained} trained in the search, {si(content.spent)} MACs spent"
    return (
        Tile("Network", content.chosen, f"{content.chosen_pixels} px, {si(content.chosen_params)} params"),
        Tile("Accuracy", share(accuracy), detail),
        Tile("Cost", figures.cost_text(content, cost), f"target {figures.cost_text(content, content.target)}"),
        Tile("Networks looked at", str(len(content.points)), effort),
    )
