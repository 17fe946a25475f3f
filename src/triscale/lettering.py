"""Text in drawn pictures: the font, and names cut to the space there is."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import matplotlib
from PIL import ImageFont

_DRAWN = dict.fromkeys(("Cc", "Zl", "Zp", "Cs"), "\N{REPLACEMENT CHARACTER}")
"""What is drawn for control characters, line breaks and half surrogate pairs, which the layout engine refuses."""


def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib; ``size`` is in pixels."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def ellipsize(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut text that is wider than ``width`` pixels, with an ellipsis at its end; control characters become U+FFFD.

    Example:
        >>> ellipsize("golden retriever", load_font(11), 60)
        'golden r…'
    """
    text = "".join(_DRAWN.get(unicodedata.category(character), character) for character in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
