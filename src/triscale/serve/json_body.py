"""Read images from a JSON body, where they are base64 text."""

from __future__ import annotations

import base64
import binascii
import json
import re

from triscale.serve.limits import ServerLimits
from triscale.serve.problems import problem
from triscale.serve.upload import UploadedImage, check_count

KEYS = ("image", "images")
MAX_STRUCTURE = 100
"""Commas and brackets beyond those that separate images; base64 contains neither."""
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")
_WHITESPACE = {ord(character): None for character in " \t\r\n"}


def images_of_json(body: bytes, limits: ServerLimits) -> tuple[tuple[UploadedImage, ...], bool]:
    """Return the images of ``{"image": base64}`` or ``{"images": [base64, ...]}``.

    Base64 may contain line breaks, and may be a data URL (``data:image/png;base64,...``).

    Args:
        body: The body of the request.
        limits: Limits of the number of images and of their size after decoding.

    Returns:
        The images, and whether they were given as a list.

    Raises:
        HTTPException: Status 400 (not JSON), 413 (too many or too large) or 422 (another structure or wrong base64).
    """
    # Millions of empty lists would take hundreds of times their size in memory: count before parsing.
    structure = sum(body.count(character) for character in b",[{")
    check_count(structure - limits.images - MAX_STRUCTURE, limits.images)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise problem(400, 'the body is not valid JSON; send {"image": "<base64>"}') from None
    if not isinstance(data, dict) or len(data) != 1:
        raise problem(422, 'the JSON body must be {"image": "<base64>"} or {"images": ["<base64>", ...]}')
    ((key, value),) = data.items()
    if key not in KEYS:
        raise problem(422, f"unknown key {key[:100]!r}; send 'image' or 'images'")
    many = key == "images"
    texts = value if many else [value]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or not texts:
        expected = "a list of one or more base64 texts" if many else "one base64 text"
        raise problem(422, f"the value of {key!r} must be {expected}")
    check_count(len(texts), limits.images)
    _check_size(sum(len(text) for text in texts) * 3 // 4, limits, slack=1.05)
    contents = [_decode(text, number, many) for number, text in enumerate(texts, 1)]
    _check_size(sum(len(content) for content in contents), limits)
    return tuple(UploadedImage(content=content) for content in contents), many


def _check_size(size: int, limits: ServerLimits, slack: float = 1.0) -> None:
    """Check the size in bytes; slack allows for line breaks in text that is not decoded yet."""
    if size > slack * limits.body_bytes:
        raise problem(413, f"the decoded images have more than {limits.body_bytes} bytes; send fewer or smaller images")


def _decode(text: str, number: int, many: bool) -> bytes:
    prefix = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[prefix.end() if prefix else 0 :].translate(_WHITESPACE), validate=True)
    except (binascii.Error, ValueError):
        name = f"image {number}" if many else "the image"
        raise problem(422, f"{name} is not valid base64; encode the bytes of the image file") from None
