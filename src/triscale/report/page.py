"""One self-contained HTML page from the content of a report."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from triscale.report import format as text
from triscale.report.baseline_content import BaselineContent
from triscale.report.baseline_view import BaselineView, arrange_baseline
from triscale.report.comparison_content import ComparisonContent
from triscale.report.comparison_view import ComparisonView, arrange_comparison
from triscale.report.content import Content
from triscale.report.search_content import SearchContent
from triscale.report.search_view import SearchView, arrange_search
from triscale.report.view import View, arrange

FILTERS = {
    "si": text.si,
    "size": lambda value: text.unbroken(text.size(value)),
    "share": lambda value: text.unbroken(text.share(value)),
    "grouped": text.grouped,
    "number": lambda value: text.unbroken(text.number(value)),
    "times": text.times,
    "points": text.points,
    "coefficient": lambda value: f"{value:g}",
    "sentence": lambda value: f"{value[:1].upper()}{value[1:]}.",
    "bare_ms": lambda value: text.milliseconds(value, unit=False),
}


def render(content: Content) -> str:
    """Return the page of a Run: one HTML file that loads nothing, runs no script and shows every text as text.

    The same content gives the same page, byte for byte.
    """
    return _fill(content, arrange(content))


def render_search(content: SearchContent) -> str:
    """Return the page of a coefficient search, made like that of a Run."""
    return _fill(content, arrange_search(content))


def render_comparison(content: ComparisonContent) -> str:
    """Return the page of a comparison of ways to scale, made like that of a Run."""
    return _fill(content, arrange_comparison(content))


def render_baseline(content: BaselineContent) -> str:
    """Return the page of a search for a baseline, made like that of a Run."""
    return _fill(content, arrange_baseline(content))


def _fill(
    content: Content | SearchContent | ComparisonContent | BaselineContent,
    view: View | SearchView | ComparisonView | BaselineView,
) -> str:
    environment = Environment(
        loader=PackageLoader("triscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("report.html").render(content=content, view=view)
