"""Render the content of a report to one self-contained HTML file.

A template reads the content's records directly. It calls ``view``, the ``*_view`` module of its kind of report, for
derived values, and the figure modules in :data:`FIGURES` for figures. To add a figure, add one function to a figure
module and one line to a template.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from types import ModuleType

from jinja2 import Environment, PackageLoader, StrictUndefined

from triscale.report.baseline import baseline_figures, baseline_view
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.comparison import comparison_figures, comparison_view
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.content import ReportContent
from triscale.report.draw import format as text
from triscale.report.draw.svg import PALETTE, Picture, standalone
from triscale.report.images import to_image
from triscale.report.printable import printable
from triscale.report.run import cost_figures, curve_figures, quality_figures, run_view, stage_figures
from triscale.report.run.run_content import RunContent
from triscale.report.runs import runs_view
from triscale.report.runs.runs_content import RunsContent
from triscale.report.search import search_figures, search_view, triangle_figure
from triscale.report.search.search_content import SearchContent
from triscale.scaling.budget import LABELS, format_cost

FILTERS = {
    "amount": lambda value, limit: format_cost(limit, value),
    "bare_ms": lambda value: text.milliseconds(value, unit=False),
    "coefficient": lambda value: f"{value:g}",
    "grouped": text.grouped,
    "image": to_image,
    "limit_label": lambda limit: LABELS[limit],
    "marker": lambda letter: {"^": "up", "v": "down", "*": "star"}.get(letter, letter),
    "ms": lambda value: text.unbroken(text.milliseconds(value)),
    "number": lambda value: text.unbroken(text.number(value)),
    "points": text.points,
    "sentence": lambda value: f"{value[:1].upper()}{value[1:]}.",
    "share": lambda value: text.unbroken(text.share(value)),
    "si": text.si,
    "size": lambda value: text.unbroken(text.size(value)),
    "tenths": lambda value: f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}"),
    "times": text.times,
    "variable": lambda color: PALETTE[color],
}

FIGURES: dict[str, ModuleType] = {
    "baseline_figures": baseline_figures,
    "comparison_figures": comparison_figures,
    "cost_figures": cost_figures,
    "curve_figures": curve_figures,
    "quality_figures": quality_figures,
    "search_figures": search_figures,
    "stage_figures": stage_figures,
    "triangle_figure": triangle_figure,
}
"""The modules whose functions templates may call to draw a figure."""

SCRIPT = resources.files("triscale.report").joinpath("templates", "script.js").read_text(encoding="utf-8")


def render_run(content: RunContent) -> str:
    """Return the report of a run: one HTML file that loads nothing and shows every text as text.

    The same content gives the same file, byte for byte. The only script is the one of this package; the content
    security policy of the file names its digest, so that browsers refuse any other.

    Args:
        content: The records to show.

    Example:
        >>> "<h1>photos</h1>" in render_run(RunContent(title="photos"))
        True
    """
    return _render(content, run_view, SCRIPT)


def render_runs(content: RunsContent) -> str:
    """Return the report that compares several runs; see :func:`render_run`."""
    return _render(content, runs_view, SCRIPT)


def render_search(content: SearchContent) -> str:
    """Return the report of a coefficient search, without any script; see :func:`render_run`."""
    return _render(content, search_view)


def render_comparison(content: ComparisonContent) -> str:
    """Return the report of a comparison of scaling methods, without any script; see :func:`render_run`."""
    return _render(content, comparison_view)


def render_baseline(content: BaselineContent) -> str:
    """Return the report of a baseline search, without any script; see :func:`render_run`."""
    return _render(content, baseline_view)


def render_comparison_figure(content: ComparisonContent) -> str:
    """Return the figure of a comparison as a standalone SVG file."""
    picture: Picture = comparison_figures.both(printable(content))
    return standalone(picture)


def _render(content: ReportContent, view: ModuleType, script: str = "") -> str:
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
    return template.render(
        content=printable(content), view=view, script=script, script_hash=f"sha256-{digest}", **FIGURES
    )
