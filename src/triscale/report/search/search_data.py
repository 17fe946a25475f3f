"""The numbers behind the figures of a coefficient search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from triscale.report.draw.figure_data import Cell, FigureData
from triscale.report.search.response_view import SHADING_STEPS, shading
from triscale.report.search.search_content import SearchContent
from triscale.report.search.search_rows import LearningCurve, StandingRow, macs_of, standing_rows
from triscale.report.search.ternary import Shares, lattice, shares
from triscale.scaling.law import Law
from triscale.search.coefficients.result import CoefficientSearchResult

LAW = ("alpha", "beta", "gamma")
SHARES = ("share of depth", "share of width", "share of resolution")
ABSENT_SHARES = (None, None, None)


def triangle_data(content: SearchContent, accuracies: Sequence[float]) -> FigureData:
    """Return the dots of the triangle, the reference, and the lattice of the fitted response.

    Args:
        content: The search.
        accuracies: The accuracy by which each candidate is colored, in the order of the standings.
    """
    rows: list[tuple[Cell, ...]] = [
        ("candidate", *_law(row.standing.law), *(shares(row.candidate.realized) or ABSENT_SHARES), accuracy,
         row.standing.tied, row.standing.ratio)
        for row, accuracy in zip(standing_rows(content), accuracies, strict=True)
    ]  # fmt: skip
    if other := content.reference:
        rows.append((other.name, *_law(other.law), *(shares(other.realized) or ABSENT_SHARES), None, None, other.ratio))
    rows += _lattice_rows(shading(content))
    columns = ("kind", *LAW, *SHARES, "accuracy (share)", "tied with the best", "cost (times the baseline)")
    return FigureData.of(columns, rows)


def _lattice_rows(values: Sequence[float] | None) -> Iterable[tuple[Cell, ...]]:
    points: Iterable[Shares] = lattice(SHADING_STEPS)
    return (
        ("fitted response", None, None, None, *of, value, None, None)
        for of, value in zip(points, values or (), strict=values is not None)
    )


def standings_data(rows: Sequence[StandingRow]) -> FigureData:
    """Return the candidates with accuracy, standard error and the accuracy of each seed."""
    seeds = max((len(row.seeds) for row in rows), default=0)
    by_training = (f"accuracy of training {number} (share)" for number in range(1, seeds + 1))
    columns = ("rank", *LAW, "accuracy (share)", "standard error (share)", "tied with the best",
               "cost (times the baseline)", *by_training)  # fmt: skip
    return FigureData.of(
        columns,
        (
            (rank, *_law(row.standing.law), row.standing.accuracy, row.standing.error, row.standing.tied,
             row.standing.ratio, *row.seeds, *(None,) * (seeds - len(row.seeds)))
            for rank, row in enumerate(rows, 1)
        ),
    )  # fmt: skip


def forecast_data(result: CoefficientSearchResult) -> FigureData:
    """Return the predicted accuracies with their intervals, and the trained networks."""
    columns = ("kind", "phi", "MACs", "accuracy (share)", "95% interval, low (share)", "95% interval, high (share)",
               "beyond the trained networks")  # fmt: skip
    predicted: list[tuple[Cell, ...]] = [
        ("predicted", point.phi, point.macs, point.accuracy, point.low, point.high, point.beyond)
        for point in sorted(result.forecast, key=lambda point: point.macs)
    ]
    trained: list[tuple[Cell, ...]] = [
        ("trained", None, macs_of(trial, result.proxy.images), trial.accuracy, None, None, None)
        for trial in result.trials
    ]
    return FigureData.of(columns, [*predicted, *trained])


def predictions_data(pairs: Sequence[tuple[float, float]]) -> FigureData:
    """Return the leave-one-out predictions and the measured accuracies."""
    return FigureData.of(("predicted by a fit to all others (share)", "measured (share)"), pairs)


def curves_data(curves: Sequence[LearningCurve], values: Sequence[Sequence[float]], name: str) -> FigureData:
    """Return a value of each candidate after each rung.

    Args:
        curves: The candidates.
        values: The values of each candidate.
        name: Name of the values, with their unit.
    """
    return FigureData.of(
        (*LAW, "epochs", name, "dropped before the last rung"),
        (
            (*_law(curve.law), epochs, value, curve.dropped)
            for curve, own in zip(curves, values, strict=True)
            for (epochs, _), value in zip(curve.points, own, strict=True)
        ),
    )


def _law(law: Law) -> tuple[float, float, float]:
    return law.alpha, law.beta, law.gamma
