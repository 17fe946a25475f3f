"""One self-contained HTML page from the content of a report."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from triscale.report import format as text
from triscale.report.content import Content
from triscale.report.view import arrange

FILTERS = {
    "si": text.si,
    "size": lambda value: text.unbroken(text.size(value)),
    "share": lambda value: text.unbroken(text.share(value)),
    "grouped": text.grouped,
    "number": lambda value: text.unbroken(text.number(value)),
    "times": text.times,
    "bare_ms": lambda value: text.milliseconds(value, unit=False),
}


def render(content: Content) -> str:
    """Return the page: one HTML file that loads nothing, runs no script and shows every text as text.

    The same content gives the same page, byte for byte.
    """
    environment = Environment(
        loader=PackageLoader("triscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("report.html").render(content=content, view=arrange(content))
