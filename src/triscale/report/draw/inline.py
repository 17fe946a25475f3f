"""Convert the SVG that matplotlib writes to an element for the body of a report.

Everything is an attribute of its element (``fill="#2763b2"``), never a style declaration: previews of e-mail clients
drop style sheets, declarations with CSS variables and ``style`` attributes, and still draw the figure as it should be.
A class lets the style sheet of the report replace a color by that of a dark color scheme.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.dom import minidom

from triscale.report.draw.marks import SERIES_ID, PlotMark, marks_group
from triscale.report.draw.palette import class_of

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"

_FONT = re.compile(r"(?:(bold|[1-9]00) )?([\d.]+)px .*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")


def inline(text: str, name: str, title: str, description: str, marks: Sequence[PlotMark]) -> str:
    """Return an SVG document of matplotlib as an ``svg`` element for a report.

    Args:
        text: The document.
        name: Name of the figure, unique in the report: every id begins with it.
        title: Title for screen readers.
        description: Longer text for screen readers.
        marks: Areas with tooltips.
    """
    document = minidom.parseString(text)
    root = document.documentElement
    assert root is not None
    _prune(root)
    elements = [root, *root.getElementsByTagName("*")]
    used = {_target(value) for element in elements for value in _attributes(element).values()}
    for element in elements:
        for key, value in _attributes(element).items():
            _adapt(element, key, value, name, used)
    for key in ("version", "xmlns:xlink"):
        if root.hasAttribute(key):
            root.removeAttribute(key)
    width, height = root.getAttribute("viewBox").split()[2:]
    for key, value in (
        ("width", width),
        ("height", height),
        # Screen readers skip the inside of an image, so a figure with tooltips is a group.
        ("role", "group" if marks else "img"),
        ("aria-labelledby", f"{name}-title {name}-description"),
        ("font-family", FONTS),
        ("stroke-linejoin", "round"),
        ("stroke-linecap", "butt"),
    ):
        root.setAttribute(key, value)
    for tag, content in (("desc", description), ("title", title)):
        node = document.createElement(tag)
        node.setAttribute("id", f"{name}-{'title' if tag == 'title' else 'description'}")
        node.appendChild(document.createTextNode(content))
        root.insertBefore(node, root.firstChild)
    if marks:
        root.appendChild(marks_group(document, marks))
    return root.toxml()


def _adapt(element: minidom.Element, key: str, value: str, name: str, used: set[str]) -> None:
    """Adapt an attribute to the report: ids begin with the name of the figure, styles become attributes."""
    if key == "id":
        element.removeAttribute(key)
        if value.startswith(SERIES_ID):
            element.setAttribute("data-series", value.removeprefix(SERIES_ID))
        elif value in used:
            element.setAttribute(key, f"{name}-{value}")
    elif key == "xlink:href":
        element.removeAttribute(key)
        element.setAttribute("href", f"#{name}-{value[1:]}" if value.startswith("#") else value)
    elif key == "style":
        element.removeAttribute(key)
        _set_style(element, value)
    if "url(#" in value:
        element.setAttribute(key, value.replace("url(#", f"url(#{name}-"))


def _set_style(element: minidom.Element, style: str) -> None:
    """Set each declaration of a style as an attribute, and the classes of its colors."""
    classes = []
    for declaration in filter(None, map(str.strip, style.split(";"))):
        key, _, value = declaration.partition(":")
        key, value = key.strip(), value.strip()
        if key == "font":
            _set_font(element, value)
            continue
        element.setAttribute(key, value)
        classes.append(class_of(key, value))
    if any(classes):
        element.setAttribute("class", " ".join(filter(None, classes)))


def _set_font(element: minidom.Element, font: str) -> None:
    """Set size and weight of a font; its family is that of the report."""
    match = _FONT.fullmatch(font)
    assert match, font
    element.setAttribute("font-size", match[2])
    if match[1]:
        element.setAttribute("font-weight", match[1])


def _prune(element: minidom.Element) -> None:
    """Remove comments, metadata, style sheets (which would apply to the whole report) and white space."""
    for child in list(element.childNodes):
        if isinstance(child, minidom.Element) and child.tagName not in ("metadata", "style"):
            _prune(child)
        elif not isinstance(child, minidom.Text) or not child.data.strip() or element.tagName not in ("text", "tspan"):
            element.removeChild(child)


def _attributes(element: minidom.Element) -> dict[str, str]:
    return {str(key): str(value) for key, value in element.attributes.items()}


def _target(value: str) -> str:
    match = _REFERENCE.search(value)
    return (match[1] or match[2]) if match else ""
