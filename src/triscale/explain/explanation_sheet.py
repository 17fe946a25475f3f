"""Draw a contact sheet of explained images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from triscale.lettering import ellipsize, load_font

MAX_COLUMNS = 6
_THUMB, _GAP, _MARGIN, _LABEL = 168, 12, 24, 40
_BACKGROUND, _TEXT, _FAINT_TEXT = (255, 255, 255), (28, 32, 38), (112, 118, 128)


class SheetEntry(NamedTuple):
    """An image with its map, and the prediction.

    Attributes:
        name: Name of the file.
        predicted: Name of the predicted class.
        confidence: Probability of the class.
        overlay: The image with the map drawn over it.
    """

    name: str
    predicted: str
    confidence: float
    overlay: Image.Image


def explanation_sheet(images: Sequence[SheetEntry], title: str) -> Image.Image:
    """Draw images in rows of six, each with its predicted class, the probability and the file name.

    Args:
        images: At least one image.
        title: Heading of the sheet.

    Example:
        >>> item = SheetEntry("cat.jpg", "cat", 0.98, Image.new("RGB", (32, 32)))
        >>> explanation_sheet([item], "efficientnet_b0").size
        (360, 292)
    """
    columns = min(MAX_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    top = _MARGIN + 36
    width = max(360, 2 * _MARGIN + columns * (_THUMB + _GAP) - _GAP)
    sheet = Image.new("RGB", (width, top + rows * (_THUMB + _LABEL + _GAP) - _GAP + _MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    heading = ellipsize(title, load_font(18, bold=True), width - 2 * _MARGIN)
    draw.text((_MARGIN, _MARGIN - 4), heading, _TEXT, load_font(18, bold=True))
    for number, shown in enumerate(images):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * (_THUMB + _GAP), top + row * (_THUMB + _LABEL + _GAP)
        sheet.paste(shown.overlay.resize((_THUMB, _THUMB), Image.Resampling.LANCZOS), (x, y))
        confidence = f" {shown.confidence:.0%}"
        max_width = _THUMB - load_font(13, bold=True).getlength(confidence)
        predicted = ellipsize(shown.predicted, load_font(13, bold=True), max_width)
        draw.text((x, y + _THUMB + 4), predicted + confidence, _TEXT, load_font(13, bold=True))
        draw.text((x, y + _THUMB + 21), ellipsize(shown.name, load_font(11), _THUMB), _FAINT_TEXT, load_font(11))
    return sheet
