r"""Read arrays in NumPy's format (``.npy``) as images.

Format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)::

    \x93NUMPY | version (2 bytes) | length (2 or 4 bytes) | {'descr': '<u2', 'shape': (30, 40), ...} | values
"""

from __future__ import annotations

import io
import math
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from triscale.data.images.color import BadImage

SIGNATURE = b"\x93NUMPY"

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Version 3.0 differs in the names of fields only, which images have none of."""
_DAMAGE = (ValueError, SyntaxError, TypeError, LookupError, EOFError, RecursionError, MemoryError, TokenError)


class ArrayHeader(NamedTuple):
    """The header of an array.

    Attributes:
        shape: The length of each axis.
        is_fortran: Whether the first index varies fastest.
        dtype: The type of the values.
        start: The offset of the values in the file.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    start: int


def array_header(content: bytes) -> ArrayHeader | None:
    """Return the header of a file in NumPy's format; None if it has none or it is damaged.

    Example:
        >>> buffer = io.BytesIO()
        >>> np.save(buffer, np.zeros((30, 40, 5), np.uint8))
        >>> array_header(buffer.getvalue()).shape
        (30, 40, 5)
    """
    if not content.startswith(SIGNATURE):
        return None
    stream = io.BytesIO(content[: 1 << 16])
    try:
        shape, is_fortran, dtype = _READERS[npy.read_magic(stream)](stream)
    except _DAMAGE:
        return None
    return ArrayHeader(shape, is_fortran, dtype, stream.tell())


def is_image_array(content: bytes) -> bool:
    """Return whether a file holds an array of two or three dimensions, as images have.

    Example:
        >>> buffer = io.BytesIO()
        >>> np.save(buffer, np.zeros(10))
        >>> is_image_array(buffer.getvalue())
        False
    """
    header = array_header(content)
    return header is not None and len(header.shape) in (2, 3) and min(header.shape) > 0


def channel_axis(shape: tuple[int, ...], channels: int) -> int:
    """Return the axis of an array of three dimensions that holds the channels, the first or the last.

    It is the one whose length is the number of channels, the last if both are. If none is, it is the shorter one.

    Example:
        >>> channel_axis((5, 40, 30), 5), channel_axis((30, 40, 5), 5), channel_axis((5, 40, 5), 5)
        (0, -1, -1)
    """
    if shape[-1] == channels:
        return -1
    if shape[0] == channels:
        return 0
    return 0 if shape[0] < shape[-1] else -1


def array_size(header: ArrayHeader, channels: int) -> tuple[int, int]:
    """Return width and height of the image in an array."""
    sides = list(header.shape)
    if len(sides) == 3:
        del sides[channel_axis(header.shape, channels)]
    return sides[1], sides[0]


def read_array(content: bytes, header: ArrayHeader, channels: int) -> NDArray[Any]:
    """Return the values of an array ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` as ``[H, W, C]``.

    Args:
        content: The bytes of the file.
        header: Its header.
        channels: The number of channels that is expected.

    Raises:
        BadImage: The file is truncated, or holds Python objects.

    Example:
        >>> buffer = io.BytesIO()
        >>> np.save(buffer, np.zeros((5, 30, 40), np.uint8))
        >>> read_array(buffer.getvalue(), array_header(buffer.getvalue()), channels=5).shape
        (30, 40, 5)
    """
    if header.dtype.hasobject or header.dtype.names is not None or header.dtype.itemsize == 0:
        raise BadImage(f"an array of type {header.dtype}; expected uint8, uint16, or floats from 0 to 1")
    count = math.prod(header.shape)
    if len(content) - header.start < count * header.dtype.itemsize:
        raise BadImage("truncated array (its values end early)")
    flat = np.frombuffer(content, header.dtype, count, header.start)
    values = flat.reshape(header.shape, order="F" if header.is_fortran else "C")
    if values.ndim == 2:
        return values[..., None]
    return np.moveaxis(values, channel_axis(header.shape, channels), -1)
