"""The one decoder: the bytes of an image -> 8-bit RGB, for scan, training, evaluation, prediction and server."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pydantic import PositiveInt

from triscale.data.images.color import BadImage, to_rgb
from triscale.data.images.header import check_png, end_of_scan, format_of, orientation
from triscale.record import Record

__all__ = ["DEFAULT_LIMITS", "FORMATS", "BadImage", "ImageLimits", "Prepared", "decode", "prepare", "read_bytes"]


class ImageLimits(Record):
    """What a file may ask for before it is refused; all are checked before any pixel is decoded."""

    file_bytes: PositiveInt = 100_000_000
    pixels: PositiveInt = 50_000_000
    frames: PositiveInt = 1000


DEFAULT_LIMITS = ImageLimits()

# The readers are called directly: Image.open() prints warnings of its own and obeys limits that are global.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "PPM": PpmImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}
FORMATS = tuple(_READERS)
"""The formats that are read, told apart by their first bytes."""

# What Pillow's readers raise on damaged files, found by flipping and cutting files of every format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

# Pillow warns of damaged metadata, which no pixel depends on, file by file. The filter is set once, since
# warnings.catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Jpeg|Png|Tiff)ImagePlugin")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_GREYS = (128, (128, 128, 128))
"""What decoders of JPEG fill in where data are missing."""
_RESTARTS = tuple(bytes((0xFF, number)) for number in range(0xD0, 0xD8))
_OTHER_DATA = b"".join(restart + bytes(range(1, 255)) for restart in (b"", *_RESTARTS, *_RESTARTS))
"""For a decoder to go on with, whichever restart marker it waits for."""


def decode(source: Path | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """Decode an image file in full: 8-bit RGB, upright, the first frame if there are several.

    The bytes decide about the format, never the name. The EXIF orientation is applied; see
    :func:`triscale.data.images.color.to_rgb` for colors, transparency and depth.

    Args:
        source: a file, or its content.
        limits: what a file may ask for.

    Returns:
        An image of mode ``RGB``, of the size in pixels that a viewer would show.

    Raises:
        BadImage: not a regular file, not readable, of another format, above a limit, truncated or damaged.
    """
    content = read_bytes(source, limits) if isinstance(source, Path) else source
    return prepare(content, limits).load().convert("RGB")


def prepare(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Prepared:
    """Check an image file by its header; the pixels of a JPEG in color or grey are left for later.

    Raises:
        BadImage: as :func:`decode`, but for what only decoding a JPEG shows.
    """
    if not content:
        raise BadImage("empty")
    if len(content) > limits.file_bytes:
        raise BadImage(f"{len(content)} bytes, more than the limit of {limits.file_bytes}")
    kind = format_of(content)
    if kind is None:
        raise BadImage(f"not an image ({', '.join(FORMATS)})")
    with _named_damage(kind):
        return _prepare(content, kind, limits)


class Prepared:
    """An image file that may be decoded.

    Attributes:
        size: width and height in pixels as a viewer would show them.
        jpeg: the content of the file if it is a JPEG in color or grey whose pixels are not decoded yet.
    """

    def __init__(self, image: Image.Image, orientation: int = 1, jpeg: bytes | None = None) -> None:
        self._image, self._turn, self.jpeg = image, _TURNS.get(orientation), jpeg
        self.size = image.size[::-1] if orientation in _SIDEWAYS else image.size

    def can_reduce(self, scale: int) -> bool:
        """Return whether :meth:`load` may reduce, so that pixel ``(x, y)`` stands for a square at ``scale`` times it.

        The last column or row of a JPEG stands for less where the scale does not divide the side; turned to the
        front, it would move the others.
        """
        width, height = self._image.size
        return self.jpeg is not None and (self._turn is None or (width % scale, height % scale) == (0, 0))

    def load(self, scale: int = 1) -> Image.Image:
        """Decode: 8-bit RGB, upright; once only.

        Args:
            scale: 1, or 2, 4 or 8 if it can be reduced: the sides are so many times shorter (rounded up), every pixel
                the mean of a square as the JPEG has it; much of the decoding is saved.

        Raises:
            BadImage: truncated or damaged.
        """
        if self.jpeg is None:
            return self._image
        with _named_damage("JPEG"):
            if scale > 1:
                self._image.draft(self._image.mode, (self._image.width // scale, self._image.height // scale))
            self._image.load()
            if scale == 1:
                _check_end(self._image, self.jpeg)
            rgb = self._image if self._image.mode == "RGB" else to_rgb(self._image)
        return rgb if self._turn is None else rgb.transpose(self._turn)


@contextmanager
def _named_damage(kind: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into a reason."""
    try:
        yield
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("decoding it takes more memory than there is") from error
    except _DAMAGE as error:
        raise BadImage(f"damaged {kind} ({str(error).strip() or type(error).__name__})") from error


def read_bytes(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Read a file that may be an image.

    Raises:
        BadImage: there is no such file, it cannot be read, it is no regular file (a pipe or a device is never opened)
            or it holds more than ``limits.file_bytes``.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadImage("not a regular file")
        if found.st_size > limits.file_bytes:
            raise BadImage(f"{found.st_size} bytes, more than the limit of {limits.file_bytes}")
        # Non-blocking, should a pipe take the file's place in between.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb", buffering=0) as file:
            return file.read(found.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _prepare(content: bytes, kind: str, limits: ImageLimits) -> Prepared:
    image = _READERS[kind](io.BytesIO(content))
    width, height = image.size
    if width * height > limits.pixels:
        raise BadImage(f"{width} x {height} pixels, more than the limit of {limits.pixels}")
    frames = getattr(image, "n_frames", 1)
    if frames > limits.frames:
        raise BadImage(f"{frames} frames, more than the limit of {limits.frames}")
    if kind == "JPEG" and image.mode in ("RGB", "L"):
        return Prepared(image, orientation(image.info.get("exif")), content)
    if kind == "PNG":
        check_png(content)
    with image:
        if isinstance(image, TiffImageFile):
            return Prepared(_decode_tiff(image))
        image.load()
        rgb = to_rgb(image)
        turn = _TURNS.get(orientation(image.info.get("exif")))
    return Prepared(rgb if turn is None else rgb.transpose(turn))


def _check_end(image: Image.Image, content: bytes) -> None:
    """Refuse a JPEG whose data end before its last row, where decoders fill in grey and say nothing.

    A file whose last pixel is that grey is decoded once more, with other data behind its own: they show where its own
    are too few, and nowhere else.
    """
    if image.getpixel((image.width - 1, image.height - 1)) not in _GREYS:
        return
    end = end_of_scan(content)
    if end is None:
        return
    other = JpegImageFile(io.BytesIO(content[:end] + _OTHER_DATA + content[end:]))
    other.load()
    if other.tobytes() != image.tobytes():
        raise BadImage("truncated JPEG (its data end before its last row)")


def _decode_tiff(image: TiffImageFile) -> Image.Image:
    """Decode a TIFF, whose orientation Pillow applies and whose depth and polarity above 8 bits it does not."""
    depths, photometric = image.tag_v2.get(258), image.tag_v2.get(262)
    image.load()
    return to_rgb(image, bits=12 if depths == (12,) else 16, white_is_zero=photometric == 0)
