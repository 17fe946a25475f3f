"""Figures as files: SVG and PDF, and the data behind a figure as CSV."""

from __future__ import annotations

import hashlib
import io
import re
from xml.dom import minidom

from matplotlib.backends.backend_pdf import FigureCanvasPdf

from triscale.report.draw.svg import Picture, painted, styled

_SUBSET = re.compile(rb"/([A-Z]{6})\+")


def figure_files(picture: Picture) -> dict[str, bytes]:
    """Return a figure as the content of files by their names: ``NAME.svg``, ``NAME.pdf``, and ``NAME.csv`` with data.

    The same figure gives the same bytes.

    Args:
        picture: The figure; its name without ``figure-`` is that of the files.
    """
    name = picture.name.removeprefix("figure-")
    files = {f"{name}.svg": _encoded(standalone(picture)), f"{name}.pdf": pdf(picture)}
    if picture.data is not None:
        files[f"{name}.csv"] = _encoded(picture.data.to_csv())
    return files


def standalone(picture: Picture) -> str:
    """Return a figure as an SVG document with light colors on white, which any program that reads SVG 1.1 can show.

    Example:
        >>> from triscale.report.draw.svg import draw
        >>> empty = draw(name="a", title="A", description="None", width=80, height=60, paint=lambda figure: None)
        >>> 'fill="#ffffff"' in standalone(empty)
        True
    """
    document = minidom.parseString(picture.svg)
    root = document.documentElement
    assert root is not None
    root.setAttribute("version", "1.1")
    root.setAttribute("xmlns:xlink", "http://www.w3.org/1999/xlink")
    for element in root.getElementsByTagName("*"):
        # Inkscape before 1.0 and many converters know only the older name.
        if element.hasAttribute("href"):
            target = element.getAttribute("href")
            element.removeAttribute("href")
            element.setAttribute("xlink:href", target)
        if element.hasAttribute("class"):
            element.removeAttribute("class")
    background = document.createElement("rect")
    for key in ("width", "height"):
        background.setAttribute(key, root.getAttribute(key))
    background.setAttribute("fill", "#ffffff")
    # After title and description, below all other elements.
    root.insertBefore(background, root.childNodes[2])
    return root.toxml() + "\n"


def pdf(picture: Picture) -> bytes:
    """Return a figure as a PDF whose text is text, in an embedded TrueType font."""
    buffer = io.BytesIO()
    with styled({"pdf.fonttype": 42, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = painted(picture)
        metadata = {"Title": picture.title, "Creator": "triscale", "Producer": None, "CreationDate": None}
        FigureCanvasPdf(figure).print_pdf(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    return _with_stable_names(buffer.getvalue())


def _with_stable_names(content: bytes) -> bytes:
    """Replace the prefixes of embedded fonts, which matplotlib derives from hashes that differ between processes."""
    prefixes = list(dict.fromkeys(_SUBSET.findall(content)))
    for number, prefix in enumerate(prefixes):
        letters = hashlib.sha256(bytes([number])).digest()[:6]
        stable = bytes(ord("A") + letter % 26 for letter in letters)
        content = content.replace(b"/" + prefix + b"+", b"/" + stable + b"+")
    return content


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")
