"""Colors of all figures, each a token with a CSS class, so that one figure fits light and dark color schemes."""

from __future__ import annotations

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
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    SURFACE: "surface",
    BLUE: "blue",
    ORANGE: "orange",
    ON_STRONG: "on-strong",
} | {color: f"series-{index + 1}" for index, color in enumerate(SERIES)}
PALETTE |= {color: f"scale-{index + 1}" for index, color in enumerate(SCALE)}
"""Each color of the figures and the name of the CSS variable that it follows."""
PAINTED = ("fill", "stroke")
"""The attributes of an SVG element that hold a color."""


def class_of(attribute: str, color: str) -> str:
    """Return the CSS class by which ``fill`` or ``stroke`` follows the color scheme; empty for other colors."""
    return f"{attribute}-{PALETTE[color]}" if attribute in PAINTED and color in PALETTE else ""


def color_rules() -> str:
    """Return the style rules of all classes of :func:`class_of`.

    The color itself is an attribute of each element, which a rule overrides: a program without CSS variables, such as
    the preview of an e-mail client, drops the rule and shows the color of the light scheme.

    Example:
        >>> color_rules().splitlines()[0]
        '.fill-ink { fill: var(--ink) }'
    """
    return "\n".join(
        f".{class_of(attribute, color)} {{ {attribute}: var(--{name}) }}"
        for color, name in PALETTE.items()
        for attribute in PAINTED
    )
