"""One self-contained HTML page from the content of a report."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.baseline.baseline_view import BaselineView, arrange_baseline
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.comparison.comparison_view import ComparisonView, arrange_comparison
from triscale.report.draw import format as text
from triscale.report.draw.svg import PALETTE
from triscale.report.run.run_content import Content
from triscale.report.run.run_view import View, arrange
from triscale.report.runs.runs_content import RunsContent
from triscale.report.runs.runs_view import RunsView, arrange_runs
from triscale.report.search.search_content import SearchContent
from triscale.report.search.search_view import SearchView, arrange_search

FILTERS = {
    "si": text.si,
    "size": lambda value: text.unbroken(text.size(value)),
    "share": lambda value: text.unbroken(text.share(value)),
    "grouped": text.grouped,
    "number": lambda value: text.unbroken(text.number(value)),
    "times": text.times,
    "points": text.points,
    "tenths": lambda value: f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}"),
    "ms": lambda value: text.unbroken(text.milliseconds(value)),
    "coefficient": lambda value: f"{value:g}",
    "sentence": lambda value: f"{value[:1].upper()}{value[1:]}.",
    "bare_ms": lambda value: text.milliseconds(value, unit=False),
    "variable": lambda color: PALETTE[color],
    "marker": lambda letter: {"^": "up", "v": "down", "*": "star"}.get(letter, letter),
}

SCRIPT = resources.files("triscale.report").joinpath("templates", "script.js").read_text(encoding="utf-8")


def render(content: Content) -> str:
    """Return the page of a Run: one HTML file that loads nothing and shows every text as text.

    Its one script is ours, and the page's policy names the script's digest: no browser runs another one. The same
    content gives the same page, byte for byte.
    """
    return _fill(content, arrange(content), SCRIPT)


def render_runs(content: RunsContent) -> str:
    """Return the page of several Runs, made like that of one."""
    return _fill(content, arrange_runs(content), SCRIPT)


def render_search(content: SearchContent) -> str:
    """Return the page of a coefficient search, made like that of a Run, but without any script."""
    return _fill(content, arrange_search(content))


def render_comparison(content: ComparisonContent) -> str:
    """Return the page of a comparison of ways to scale, made like that of a coefficient search."""
    return _fill(content, arrange_comparison(content))


def render_baseline(content: BaselineContent) -> str:
    """Return the page of a search for a baseline, made like that of a coefficient search."""
    return _fill(content, arrange_baseline(content))


def _fill(
    content: Content | RunsContent | SearchContent | ComparisonContent | BaselineContent,
    view: View | RunsView | SearchView | ComparisonView | BaselineView,
    script: str = "",
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
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    template = environment.get_template("report.html")
    return template.render(content=content, view=view, script=script, script_hash=f"sha256-{digest}")
