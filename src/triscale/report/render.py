"""Render the content of a report to one self-contained HTML file.

A template reads the content's records directly. It calls ``view``, the ``*_view`` module of its kind of report, for
derived values, and the figure modules in :data:`FIGURES` for figures. To add a figure, add one function to a figure
module and one line to a template.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from types import ModuleType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from triscale.report.baseline import baseline_figures, baseline_view
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.comparison import comparison_figures, comparison_view
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.content import ReportContent
from triscale.report.draw import format as text
from triscale.report.draw.marks import MARKER_PATHS
from triscale.report.draw.palette import class_of
from triscale.report.draw.svg import Picture
from triscale.report.images import to_image
from triscale.report.printable import printable
from triscale.report.run import (
    cost_figures,
    curve_figures,
    quality_figures,
    robustness_figures,
    run_view,
    stage_figures,
)
from triscale.report.run.run_content import RunContent
from triscale.report.runs import runs_view
from triscale.report.runs.runs_content import RunsContent
from triscale.report.search import search_figures, search_view, triangle_figure
from triscale.report.search.search_content import SearchContent
from triscale.report.stylesheet import stylesheet
from triscale.scaling.budget import LABELS, format_cost

FILTERS = {
    "amount": lambda value, limit: format_cost(limit, value),
    "bare_ms": lambda value: text.milliseconds(value, unit=False),
    "coefficient": lambda value: f"{value:g}",
    "grouped": text.grouped,
    "image": to_image,
    "limit_label": lambda limit: LABELS[limit],
    "fill_class": lambda color: class_of("fill", color),
    "marker": lambda letter: MARKER_PATHS[letter],
    "ms": lambda value: text.unbroken(text.milliseconds(value)),
    "number": lambda value: text.unbroken(text.number(value)),
    "points": text.points,
    "sentence": lambda value: f"{value[:1].upper()}{value[1:]}.",
    "share": lambda value: text.unbroken(text.share(value)),
    "si": text.si,
    "size": lambda value: text.unbroken(text.size(value)),
    "tenths": lambda value: f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}"),
    "times": text.times,
}

FIGURES: dict[str, ModuleType] = {
    "baseline_figures": baseline_figures,
    "comparison_figures": comparison_figures,
    "cost_figures": cost_figures,
    "curve_figures": curve_figures,
    "quality_figures": quality_figures,
    "robustness_figures": robustness_figures,
    "search_figures": search_figures,
    "stage_figures": stage_figures,
    "triangle_figure": triangle_figure,
}
"""The modules whose functions templates may call to draw a figure."""

SCRIPT = resources.files("triscale.report").joinpath("templates", "script.js").read_text(encoding="utf-8")
STYLE = stylesheet()
FIGURES_FOLDER = "figures"
"""Folder beside the report of a study with its figures as files."""


@dataclass(frozen=True, slots=True)
class RenderedReport:
    """A report.

    Attributes:
        html: The file: it loads nothing and shows every text as text.
        pictures: Its figures in their order, then those for files alone.
    """

    html: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of report.

    Attributes:
        view: The module that derives values from its content.
        script: Its script.
        folder: Folder beside the report with its figures as files; empty if they are not written.
        more: Figures that are written as files but not shown in the report.
    """

    view: ModuleType
    script: str = ""
    folder: str = ""
    more: tuple[Callable[[Any], Picture], ...] = ()


KINDS: dict[type[ReportContent], _Kind] = {
    RunContent: _Kind(run_view, SCRIPT),
    RunsContent: _Kind(runs_view, SCRIPT),
    SearchContent: _Kind(search_view, folder=FIGURES_FOLDER),
    ComparisonContent: _Kind(comparison_view, folder=FIGURES_FOLDER, more=(comparison_figures.both,)),
    BaselineContent: _Kind(baseline_view, folder=FIGURES_FOLDER),
}
"""The kinds of reports by their content."""


def render(content: ReportContent) -> RenderedReport:
    """Return a report with its figures.

    The same content gives the same file, byte for byte. The only script is the one of this package; the content
    security policy of the file names its digest, so that browsers refuse any other. Reports of studies have no script.

    Args:
        content: The records to show, of one of the :data:`KINDS`.

    Example:
        >>> "<h1>photos</h1>" in render(RunContent(title="photos")).html
        True
    """
    kind, cleaned, pictures = KINDS[type(content)], printable(content), list[Picture]()

    def shown(picture: Picture) -> Markup:
        pictures.append(picture)
        return Markup(picture.svg)

    environment = Environment(
        loader=PackageLoader("triscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS | {"drawing": shown})
    digest = base64.b64encode(hashlib.sha256(kind.script.encode()).digest()).decode("ascii")
    html = environment.get_template("report.html").render(
        content=cleaned,
        view=kind.view,
        folder=kind.folder,
        style=STYLE,
        script=kind.script,
        script_hash=f"sha256-{digest}",
        **FIGURES,
    )
    return RenderedReport(html, (*pictures, *(figure(cleaned) for figure in kind.more)))


def render_run(content: RunContent) -> str:
    """Return the file of the report of a run; see :func:`render`."""
    return render(content).html


def render_runs(content: RunsContent) -> str:
    """Return the file of the report that compares several runs; see :func:`render`."""
    return render(content).html


def render_search(content: SearchContent) -> str:
    """Return the file of the report of a coefficient search; see :func:`render`."""
    return render(content).html


def render_comparison(content: ComparisonContent) -> str:
    """Return the file of the report of a comparison of scaling methods; see :func:`render`."""
    return render(content).html


def render_baseline(content: BaselineContent) -> str:
    """Return the file of the report of a baseline search; see :func:`render`."""
    return render(content).html
