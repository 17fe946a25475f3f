"""A contact sheet of explained images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

ACROSS = 6
_THUMB, _GAP, _MARGIN, _LABEL = 168, 12, 24, 40
_PAPER, _INK, _FAINT = (255, 255, 255), (28, 32, 38), (112, 118, 128)


class SheetItem(NamedTuple):
    """An image with its map laid over it, and what the network says of it."""

    name: str
    predicted: str
    confidence: float
    overlay: Image.Image


def contact_sheet(images: Sequence[SheetItem], title: str) -> Image.Image:
    """Draw images in rows of six, each with its class, the probability of that, and its file's name."""
    across = min(ACROSS, len(images))
    rows = -(-len(images) // across)
    top = _MARGIN + 36
    width = max(360, 2 * _MARGIN + across * (_THUMB + _GAP) - _GAP)
    sheet = Image.new("RGB", (width, top + rows * (_THUMB + _LABEL + _GAP) - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    heading = _clipped(title, _font(18, bold=True), width - 2 * _MARGIN)
    draw.text((_MARGIN, _MARGIN - 4), heading, _INK, _font(18, bold=True))
    for number, shown in enumerate(images):
        row, column = divmod(number, across)
        x, y = _MARGIN + column * (_THUMB + _GAP), top + row * (_THUMB + _LABEL + _GAP)
        sheet.paste(shown.overlay.resize((_THUMB, _THUMB), Image.Resampling.LANCZOS), (x, y))
        caption = f" {shown.confidence:.0%}"
        room = _THUMB - _font(13, bold=True).getlength(caption)
        named = _clipped(shown.predicted, _font(13, bold=True), room)
        draw.text((x, y + _THUMB + 4), named + caption, _INK, _font(13, bold=True))
        draw.text((x, y + _THUMB + 21), _clipped(shown.name, _font(11), _THUMB), _FAINT, _font(11))
    return sheet


def _clipped(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
