"""How a run is shown in a notebook."""

from __future__ import annotations

from html import escape

from triscale.notebook import html_table
from triscale.report.draw.files import standalone
from triscale.report.run.curve_figures import accuracy_curve, loss_curve
from triscale.report.run.quality_figures import confusion_matrix
from triscale.results.history import Epoch
from triscale.results.metrics import AnyMetrics, Metrics, percent_or_dash

MAX_ROWS = 20
"""Classes that are shown in a notebook."""


def display_run(summary: str, metrics: AnyMetrics | None, history: tuple[Epoch, ...]) -> str:
    """Return the result, the confusion matrix and the learning curves of a run as HTML.

    Args:
        summary: The run in short form.
        metrics: Its metrics; None before the first evaluation.
        history: Its evaluated epochs.
    """
    parts = [f"<p>{escape(summary)}</p>"]
    if metrics is not None:
        low, high = metrics.interval
        caption = f"{metrics.summary} (95% interval {low:.1%} to {high:.1%})"
        rows = [
            (row.name, row.count, percent_or_dash(row.precision), percent_or_dash(row.recall))
            for row in metrics.per_class[:MAX_ROWS]
        ]
        parts.append(html_table(("class", "images", "precision", "recall"), rows, caption))
    pictures = [
        confusion_matrix([row.name for row in metrics.per_class], metrics.confusion)
        if isinstance(metrics, Metrics)
        else None,
        loss_curve(history),
        accuracy_curve(history),
    ]
    parts += [standalone(picture) for picture in pictures if picture is not None]
    return "".join(parts)
