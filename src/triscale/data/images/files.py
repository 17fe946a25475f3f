"""Image files as bytes, within limits."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pydantic import PositiveInt

from triscale.data.images.color import BadImage, FileTooLarge
from triscale.record import Record


class ImageLimits(Record):
    """Limits on one image file, all checked before any pixel is decoded.

    Attributes:
        file_bytes: Maximum size of the file.
        pixels: Maximum width times height.
        frames: Maximum number of frames of an animation or a multi-page file.
    """

    file_bytes: PositiveInt = 500_000_000
    pixels: PositiveInt = 250_000_000
    frames: PositiveInt = 1000


DEFAULT_LIMITS = ImageLimits()
NO_LIMITS = ImageLimits(file_bytes=1 << 40, pixels=1 << 40, frames=1 << 30)
"""For files that a scan has accepted."""


def read_bytes(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Read a file that may be an image.

    Args:
        path: The file.
        limits: Gives the maximum size.

    Raises:
        BadImage: The file does not exist, cannot be read, is not a regular file (a pipe or a device is never opened),
            or is larger than ``limits.file_bytes``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file")
        if status.st_size > limits.file_bytes:
            raise FileTooLarge(too_large(status.st_size, limits))
        # Non-blocking, in case a pipe replaces the file between stat() and open().
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb", buffering=0) as file:
            return file.read(status.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_named(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Read a file that the user has named, which may also be a pipe, such as ``/dev/stdin``, and is read to its end.

    Args:
        path: The file.
        limits: Gives the maximum size.

    Raises:
        BadImage: As :func:`read_bytes` raises it.
    """
    try:
        if not path.is_fifo():
            return read_bytes(path, limits)
        with path.open("rb") as file:
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror or error})") from error
    if len(content) > limits.file_bytes:
        raise FileTooLarge(too_large(len(content), limits))
    return content


def too_large(num_bytes: int, limits: ImageLimits) -> str:
    """Return the reason to refuse a file of a size."""
    return f"{num_bytes} bytes, more than the limit of {limits.file_bytes}; raise it with --max-file-size"
