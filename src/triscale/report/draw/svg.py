"""Convert matplotlib figures to inline SVG: escaped, deterministic, and in the colors and fonts of the report.

Every color of a figure is a token of :data:`PALETTE`. In the SVG it becomes a CSS variable with the light color as
fallback, so that one figure fits light and dark color schemes. Text remains text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.dom import minidom

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from triscale.report.draw.marks import SERIES_ID, LegendEntry, PlotMark, marks_group

INK, MUTED, GRID, SURFACE, BLUE, ORANGE, ON_STRONG = (
    "#1d2127",
    "#5b6470",
    "#dde1e6",
    "#fffffe",
    "#2763b2",
    "#c2520e",
    "#fffeff",
)
SERIES = ("#0f857f", "#7b50b4", "#8a7611", "#b53b73", "#3e8a3b", "#56708a", "#9a5a3c")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
"""Marker letters of matplotlib, one for each color of a series."""
SCALE = ("#eff3d9", "#c9e1c2", "#9dceb5", "#70bab1", "#48a2b2", "#3487b1", "#3c69aa")
"""From low to high in even steps of lightness; a dark color scheme runs from dark to light."""
PALETTE: dict[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    SURFACE: "--surface",
    BLUE: "--blue",
    ORANGE: "--orange",
    ON_STRONG: "--on-strong",
} | {color: f"--series-{index + 1}" for index, color in enumerate(SERIES)}
PALETTE |= {color: f"--scale-{index + 1}" for index, color in enumerate(SCALE)}
"""Each color of the figures and the CSS variable that it follows."""

FONT_SIZE = 10.5
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": FONT_SIZE,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_VARIABLE = re.compile(r"var\(--[\w-]+, (#[0-9a-f]{6})\)")
_FONT = re.compile(r"font: (?:(bold|[1-9]00) )?([\d.]+)px [^;]*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")


@dataclass(frozen=True, slots=True)
class Picture:
    """An inline SVG with its captions.

    Attributes:
        name: Name, unique in the report.
        title: Title below the figure.
        description: Text for screen readers.
        svg: The SVG element.
        width: Width in CSS pixels at which the text has its intended size.
        keys: Legend entries, if the report shows the legend instead of the figure.
    """

    name: str
    title: str
    description: str
    svg: str
    width: int
    keys: tuple[LegendEntry, ...] = ()


Paint = Callable[[Figure], Sequence[PlotMark] | None]


def draw(
    *,
    name: str,
    title: str,
    description: str,
    width: int,
    height: int,
    paint: Paint,
    keys: Sequence[LegendEntry] = (),
) -> Picture:
    """Create a figure of ``width`` x ``height`` pixels, draw it with ``paint``, and return it as inline SVG.

    Args:
        name: Name of the figure, unique in the report: every id in the SVG begins with it.
        title: Title shown below the figure.
        description: Text for screen readers.
        width: Width in pixels.
        height: Height in pixels.
        paint: Draws into the figure; may return marks, whose tooltips browsers show without any script.
        keys: Legend entries of series that can be hidden.

    Example:
        >>> empty = draw(name="a", title="A", description="None", width=80, height=60, paint=lambda figure: None)
        >>> empty.svg[:4]
        '<svg'
    """
    buffer = io.StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        # The browser draws the text, so glyphs missing from matplotlib's own font do not matter.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(width / 72, height / 72))
        marks = paint(figure) or ()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = _inline(buffer.getvalue(), name, title, description, marks)
    return Picture(name, title, description, svg, width, tuple(keys))


def standalone(picture: Picture) -> str:
    """Return a picture as a standalone SVG file with light colors, white background, fixed size and common fonts.

    CSS variables are replaced, since many SVG viewers do not support them.
    """
    document = minidom.parseString(picture.svg)
    root = document.documentElement
    assert root is not None
    width, height = root.getAttribute("viewBox").split()[2:]
    for key, value in (
        ("width", width),
        ("height", height),
        ("font-family", "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"),
    ):
        root.setAttribute(key, value)
    background = document.createElement("rect")
    for key, value in (("width", width), ("height", height), ("fill", "#ffffff")):
        background.setAttribute(key, value)
    # After title and description, below all other elements.
    root.insertBefore(background, root.childNodes[2])
    return _VARIABLE.sub(r"\1", root.toxml()) + "\n"


def plot_area(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes with the given margins in pixels."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


def _inline(text: str, name: str, title: str, description: str, marks: Sequence[PlotMark]) -> str:
    document = minidom.parseString(text)
    root = document.documentElement
    assert root is not None
    _prune(root)
    elements = [root, *root.getElementsByTagName("*")]
    used = {_target(value) for element in elements for value in _attributes(element).values()}
    for element in elements:
        for key, value in _attributes(element).items():
            _rename(element, key, value, name, used)
    for key in ("width", "height", "version", "xmlns:xlink"):
        if root.hasAttribute(key):
            root.removeAttribute(key)
    for key, value in (
        # Screen readers skip the inside of an image, so a figure with tooltips is a group.
        ("role", "group" if marks else "img"),
        ("aria-labelledby", f"{name}-title {name}-description"),
        ("style", "stroke-linejoin: round; stroke-linecap: butt"),
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


def _rename(element: minidom.Element, key: str, value: str, name: str, used: set[str]) -> None:
    """Adapt an attribute to the report: ids begin with the name of the figure, colors become CSS variables."""
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
        element.setAttribute(key, _report_style(value))
    if "url(#" in value:
        element.setAttribute(key, value.replace("url(#", f"url(#{name}-"))


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


def _report_style(style: str) -> str:
    def color(match: re.Match[str]) -> str:
        variable = PALETTE.get(match[0])
        return f"var({variable}, {match[0]})" if variable else match[0]

    def font(match: re.Match[str]) -> str:
        weight = f"; font-weight: {match[1]}" if match[1] else ""
        return f"font-size: {match[2]}px{weight}"

    return _FONT.sub(font, _COLOR.sub(color, style))
