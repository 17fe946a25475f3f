"""Draw figures with matplotlib as inline SVG: escaped, deterministic, and in the colors and fonts of the report.

Every color of a figure is a token of :mod:`triscale.report.draw.palette`. Text remains text.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from triscale.report.draw.figure_data import FigureData
from triscale.report.draw.inline import inline
from triscale.report.draw.marks import LegendEntry, PlotMark
from triscale.report.draw.palette import GRID, INK, MUTED

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

Paint = Callable[[Figure], Sequence[PlotMark] | None]


@dataclass(frozen=True, slots=True)
class Picture:
    """An inline SVG with its captions, and what is needed to draw it in another format.

    Attributes:
        name: Name, unique in the report.
        title: Title below the figure.
        description: Text for screen readers.
        svg: The SVG element.
        width: Width in CSS pixels at which the text has its intended size.
        height: Height in CSS pixels.
        paint: Draws the figure.
        keys: Legend entries, if the report shows the legend instead of the figure.
        data: The numbers behind the figure.
    """

    name: str
    title: str
    description: str
    svg: str
    width: int
    height: int
    paint: Paint = field(repr=False, compare=False)
    keys: tuple[LegendEntry, ...] = ()
    data: FigureData | None = None


def draw(
    *,
    name: str,
    title: str,
    description: str,
    width: int,
    height: int,
    paint: Paint,
    keys: Sequence[LegendEntry] = (),
    data: FigureData | None = None,
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
        data: The numbers behind the figure, if it is also written as files.

    Example:
        >>> empty = draw(name="a", title="A", description="None", width=80, height=60, paint=lambda figure: None)
        >>> empty.svg[:4]
        '<svg'
    """
    buffer = io.StringIO()
    with styled({"svg.hashsalt": name}):
        figure = _empty(width, height)
        marks = paint(figure) or ()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = inline(buffer.getvalue(), name, title, description, marks)
    return Picture(name, title, description, svg, width, height, paint, tuple(keys), data)


def painted(picture: Picture) -> Figure:
    """Return the figure of a picture, drawn again; call it and save the figure within :func:`styled`."""
    figure = _empty(picture.width, picture.height)
    picture.paint(figure)
    return figure


@contextmanager
def styled(changes: Mapping[str, Any]) -> Iterator[None]:
    """Set the style of the figures in matplotlib for a block.

    Args:
        changes: Settings of matplotlib that differ from the style.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        # The browser draws the text, so glyphs missing from matplotlib's own font do not matter.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | dict(changes))
        yield


def _empty(width: int, height: int) -> Figure:
    return Figure(figsize=(width / 72, height / 72))


def plot_area(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes with the given margins in pixels."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
