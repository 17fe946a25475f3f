"""Images as the page holds them: data URIs with their size."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from triscale.report.run.run_content import PNG_SIGNATURE

_PIXELATED_BELOW = 96
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a ``data:`` URI with its size in pixels; a small one is shown with its pixels visible."""

    uri: str
    width: int
    height: int
    small: bool


def to_image(raster: bytes) -> Image:
    """Return a PNG or JPEG with its size, ready for the page."""
    if raster.startswith(PNG_SIGNATURE):
        # Bytes 16 to 24 of a PNG are its width and height: https://www.w3.org/TR/png/#11IHDR
        kind, width, height = "png", int.from_bytes(raster[16:20], "big"), int.from_bytes(raster[20:24], "big")
    else:
        kind, (width, height) = "jpeg", _jpeg_size(raster)
    uri = f"data:image/{kind};base64,{base64.b64encode(raster).decode('ascii')}"
    return Image(uri, width, height, max(width, height) < _PIXELATED_BELOW)


def _jpeg_size(raster: bytes) -> tuple[int, int]:
    """Walk the segments of a JPEG to its frame, which begins with precision, height and width (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(raster):
        if raster[at + 1] in _START_OF_FRAME:
            return int.from_bytes(raster[at + 7 : at + 9], "big"), int.from_bytes(raster[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(raster[at + 2 : at + 4], "big")
    return 0, 0
