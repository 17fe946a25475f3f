"""Values that the report of a coefficient search derives from its records: sections and headline figures."""

from __future__ import annotations

from collections.abc import Sequence

from triscale.report.draw.format import grouped, points, share, si
from triscale.report.run.run_view import Tile
from triscale.report.search.response_view import formula, leave_one_out_predictions, shading
from triscale.report.search.search_content import SearchContent
from triscale.report.search.search_figures import SHOWN_STANDINGS
from triscale.report.search.search_rows import StandingRow, law_text, learning_curves, span, standing_rows
from triscale.scaling.budget import LABELS
from triscale.scaling.law import Law
from triscale.search.study.trial import PASSES

__all__ = ["formula", "learning_curves", "leave_one_out_predictions", "shading", "standing_rows"]


def sections(content: SearchContent) -> tuple[tuple[str, str], ...]:
    """Return the sections with content, as pairs of template name and heading."""
    candidates = (
        ("surface", "Candidates of equal cost", True),
        ("standings", "Standings", True),
        ("rungs", "Successive halving", content.result.method == "halving"),
        ("response", "Fitted response", content.result.response is not None),
        ("trials", "Trials", bool(content.result.trials)),
        ("limitations", "Limitations", bool(content.limitations)),
        ("next_steps", "Next steps", bool(content.next_commands)),
        ("settings", "Settings and environment", bool(content.settings) or bool(content.environment)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: SearchContent) -> tuple[Tile, ...]:
    """Return the headline figures: the coefficients, their accuracy, the number of ties, and the compute."""
    result = content.result
    best, others = standing_rows(content)[0], len(result.standings) - 1
    ties = len(result.ties)
    how = "fitted" if result.method == "response" else f"{len(best.seeds)} seed{'s' if len(best.seeds) != 1 else ''}"
    return (
        Tile("alpha, beta, gamma", law_text(best.standing.law), _span(content, ties)),
        Tile("Accuracy", share(best.standing.accuracy), f"{how}, standard error {points(best.standing.error)} points"),
        Tile("Tied with the best", grouped(ties), f"of {others} other candidate{'s' if others != 1 else ''}"),
        Tile("Training MACs", si(result.training_macs), _share_of_all(result.training_macs / exhaustive_macs(content))),
    )


def exhaustive_macs(content: SearchContent) -> int:
    """Return the training compute of all candidates with all seeds for all epochs, in MACs."""
    proxy = content.result.proxy
    images_seen = proxy.images * proxy.epochs * len(proxy.seeds)
    return PASSES * sum(candidate.macs for candidate in content.candidates.candidates) * images_seen


def cost_name(content: SearchContent) -> str:
    """Return the name of the cost on which candidates are matched."""
    return LABELS.get(content.result.grid.cost, content.result.grid.cost)


def compared(rows: Sequence[StandingRow]) -> tuple[StandingRow, ...]:
    """Return the candidates that were trained longest; only these are comparable with each other."""
    last = max(row.standing.epochs for row in rows)
    return tuple(row for row in rows if row.standing.epochs == last)


def num_shown(rows: Sequence[StandingRow]) -> int:
    """Return the number of candidates in the first table; the others are collapsed."""
    return SHOWN_STANDINGS if len(rows) > SHOWN_STANDINGS + 3 else len(rows)


def _share_of_all(fraction: float) -> str:
    if round(fraction, 3) == 1:
        return "all candidates, all seeds, all epochs"
    return f"{100 * fraction:.0f}% of training all candidates for all epochs"


def _span(content: SearchContent, ties: int) -> str:
    if content.result.interval is None and ties == 0:
        return "no other candidate is tied"
    low, high = span(content.result)
    ranges = ", ".join(_range(low, high, name) for name in Law.model_fields)
    return f"tied candidates: {ranges}" if content.result.interval is None else f"95% interval: {ranges}"


def _range(low: Law, high: Law, name: str) -> str:
    smallest, largest = getattr(low, name), getattr(high, name)
    return f"{name} {smallest:g}" if smallest == largest else f"{name} {smallest:g} to {largest:g}"
