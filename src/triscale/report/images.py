"""Images in a report: checked when they enter its content, written into it as data URIs with their size."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_PIXELATED_BELOW = 96
# Markers of a JPEG's frame header, without DHT, JPG and DAC, which share their range (ITU T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _png(value: object) -> object:
    value = _decoded(value, "PNG")
    if isinstance(value, bytes) and not value.startswith(PNG_SIGNATURE):
        raise ValueError("expected a PNG image")
    return value


def _raster(value: object) -> object:
    value = _decoded(value, "PNG or JPEG")
    if isinstance(value, bytes) and not value.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        raise ValueError("expected a PNG or JPEG image")
    return value


def _decoded(value: object, formats: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected a {formats} image in base64") from error


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


Png = Annotated[bytes, BeforeValidator(_png), PlainSerializer(_base64, return_type=str, when_used="json")]
"""The bytes of a PNG file; base64 in the JSON form."""

Raster = Annotated[bytes, BeforeValidator(_raster), PlainSerializer(_base64, return_type=str, when_used="json")]
"""The bytes of a PNG or JPEG file; base64 in the JSON form."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a ``data:`` URI with its size in pixels; a ``small`` one is shown with its pixels visible."""

    uri: str
    width: int
    height: int
    small: bool


def to_image(raster: bytes) -> Image:
    """Return a PNG or JPEG file with its size, ready for an ``img`` element.

    Args:
        raster: The bytes of the file.
    """
    if raster.startswith(PNG_SIGNATURE):
        # Bytes 16 to 24 of a PNG are its width and height: https://www.w3.org/TR/png/#11IHDR
        kind, width, height = "png", int.from_bytes(raster[16:20], "big"), int.from_bytes(raster[20:24], "big")
    else:
        kind, (width, height) = "jpeg", _jpeg_size(raster)
    return Image(f"data:image/{kind};base64,{_base64(raster)}", width, height, max(width, height) < _PIXELATED_BELOW)


def _jpeg_size(raster: bytes) -> tuple[int, int]:
    """Walk the segments of a JPEG to its frame, which begins with precision, height and width (ITU T.81, B.2.2)."""
    offset = 2
    while offset + 9 <= len(raster):
        if raster[offset + 1] in _START_OF_FRAME:
            height, width = raster[offset + 5 : offset + 7], raster[offset + 7 : offset + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        offset += 2 + int.from_bytes(raster[offset + 2 : offset + 4], "big")
    return 0, 0
