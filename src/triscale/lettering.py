"""Text in drawn pictures: the font, and names cut to the space there is."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import ImageFont


def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib; ``size`` is in pixels."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def ellipsize(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut text that is wider than ``width`` pixels, with an ellipsis at its end.

    Example:
        >>> ellipsize("golden retriever", load_font(11), 60)
        'golden r…'
    """
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
