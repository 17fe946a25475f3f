"""Draw a contact sheet: a few images of every class in one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw

from triscale.data.images.bands import as_picture
from triscale.data.images.color import BadImage
from triscale.data.images.decode import NO_LIMITS, decode
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.data.sources.store import Store, open_store
from triscale.lettering import ellipsize, load_font
from triscale.network.contract import BitDepth

MAX_IMAGES = 8
"""Maximum number of images shown per class."""

MAX_CLASSES = 60
"""Maximum number of classes shown; of more, an evenly spaced selection."""

_Item = TypeVar("_Item")
_THUMB, _GAP, _MARGIN, _LABEL = 96, 6, 24, 184
_BACKGROUND, _CELL, _TEXT, _FAINT_TEXT = (255, 255, 255), (240, 241, 243), (28, 32, 38), (112, 118, 128)


def contact_sheet(scan: Scan) -> bytes:
    """Draw up to 8 evenly spaced images of every class, one class per row.

    Args:
        scan: The dataset; its files are decoded again.

    Returns:
        The picture as a PNG.
    """
    images = [image for in_split in scan.by_role.values() for image in in_split]
    of_class: dict[int, list[ScannedImage]] = {label: [] for label in range(len(scan.classes))}
    for image in images:
        for label in image.labels:
            of_class[label].append(image)
    shown = _evenly(range(len(scan.classes)), MAX_CLASSES)
    columns = min(MAX_IMAGES, max(len(of_class[label]) for label in shown))
    width = 2 * _MARGIN + _LABEL + columns * (_THUMB + _GAP) - _GAP
    top = _MARGIN + 50
    sheet = Image.new("RGB", (width, top + len(shown) * (_THUMB + _GAP) - _GAP + _MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    store = open_store(scan.root)
    _title(draw, scan, shown, width)
    for row, label in enumerate(shown):
        y = top + row * (_THUMB + _GAP)
        count = len(of_class[label])
        bold = load_font(15, bold=True)
        draw.text((_MARGIN, y + 30), ellipsize(scan.classes[label], bold, _LABEL - 16), _TEXT, bold)
        draw.text((_MARGIN, y + 52), f"{count:,} image{'' if count == 1 else 's'}", _FAINT_TEXT, load_font(12))
        for column, image in enumerate(_evenly(of_class[label], columns)):
            x = _MARGIN + _LABEL + column * (_THUMB + _GAP)
            sheet.paste(_thumbnail(store, image.path, scan.bit_depth, scan.channels), (x, y))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _title(draw: ImageDraw.ImageDraw, scan: Scan, shown: Sequence[int], width: int) -> None:
    draw.text(
        (_MARGIN, _MARGIN - 6),
        ellipsize(Path(scan.root).name, load_font(19, bold=True), width // 2),
        _TEXT,
        load_font(19, bold=True),
    )
    classes = f"{len(scan.classes):,} classes" + ("" if len(shown) == len(scan.classes) else f", {len(shown)} shown")
    draw.text((_MARGIN, _MARGIN + 20), f"{scan.num_images:,} images in {classes}", _FAINT_TEXT, load_font(12))


def _thumbnail(store: Store, path: str, bit_depth: BitDepth, channels: int) -> Image.Image:
    """Fit an image into a square cell; small images are enlarged by an integer factor."""
    square = Image.new("RGB", (_THUMB, _THUMB), _CELL)
    try:
        image = as_picture(decode(store.read(path, NO_LIMITS), NO_LIMITS, bit_depth, channels))
    except BadImage:  # the file has changed since the scan
        return square
    if 2 * max(image.size) <= _THUMB:
        factor = _THUMB // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        ratio = _THUMB / max(image.size)
        size = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    square.paste(image, ((_THUMB - image.width) // 2, (_THUMB - image.height) // 2))
    return square


def _evenly(items: Sequence[_Item], number: int) -> list[_Item]:
    """Return up to ``number`` evenly spaced items."""
    count = min(number, len(items))
    return [items[index * len(items) // count] for index in range(count)]
