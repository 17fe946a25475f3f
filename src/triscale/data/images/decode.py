"""Decode the bytes of an image to 8 bits: the only decoder, used by scan, training, evaluation and the server."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, overload

from PIL import Image, ImageFile, features
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from triscale.data.images.arrays import SIGNATURE, array_header, array_size, read_array
from triscale.data.images.bands import AnyImage
from triscale.data.images.channels import PICTURE_CHANNELS, fit_channels, load_channels, to_eight_bits
from triscale.data.images.color import BadImage, FileTooLarge, NotAnImage, to_rgb
from triscale.data.images.deep import NOT_MEASURED, ValueRange
from triscale.data.images.files import DEFAULT_LIMITS, NO_LIMITS, ImageLimits, read_bytes, too_large
from triscale.data.images.header import check_png, end_of_scan, format_of, orientation
from triscale.data.images.optional_formats import check_pixels, needs_orientation, open_optional
from triscale.data.images.other_formats import unread_format
from triscale.data.images.tiff import TiffTags, needs_values, read_tiff, tiff_tags
from triscale.network.contract import BitDepth

__all__ = [
    "DEFAULT_LIMITS",
    "FORMATS",
    "NO_LIMITS",
    "BadImage",
    "ImageLimits",
    "LazyImage",
    "decode",
    "exif_of",
    "open_image",
    "read_bytes",
]


# The readers are called directly: Image.open() prints its own warnings and applies process-wide limits.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "PPM": PpmImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}
FORMATS = tuple(sorted((*_READERS, *(["AVIF"] if features.check("avif") else []))))
"""The formats that need no optional library, recognized by their first bytes."""

# What Pillow's readers raise on damaged files, found by flipping bits in and truncating files of every format.
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
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

# Pillow warns about damaged metadata, which does not affect pixels, once per file. The filter is set once because
# warnings.catch_warnings() is not thread-safe.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Jpeg|Png|Tiff)ImagePlugin")

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_FILL_GRAYS = (128, (128, 128, 128))
"""The pixels that JPEG decoders fill in where data are missing."""
_RESTART_MARKERS = tuple(bytes((0xFF, number)) for number in range(0xD0, 0xD8))
_OTHER_DATA = b"".join(restart + bytes(range(1, 255)) for restart in (b"", *_RESTART_MARKERS, *_RESTART_MARKERS))
"""Entropy-coded data that a decoder can continue with, whichever restart marker it waits for."""


@overload
def decode(
    source: Path | bytes, limits: ImageLimits = ..., bit_depth: BitDepth = ..., channels: Literal[3] = ...
) -> Image.Image: ...
@overload
def decode(
    source: Path | bytes, limits: ImageLimits = ..., bit_depth: BitDepth = ..., *, channels: int
) -> AnyImage: ...
@overload
def decode(source: Path | bytes, limits: ImageLimits, bit_depth: BitDepth, channels: int) -> AnyImage: ...
def decode(
    source: Path | bytes, limits: ImageLimits = DEFAULT_LIMITS, bit_depth: BitDepth = 16, channels: int = 3
) -> AnyImage:
    """Decode an image file completely: 8 bits, upright, the first frame if there are several.

    The format follows from the bytes, never from the name. The EXIF orientation is applied; see
    :func:`triscale.data.images.color.to_rgb` for colors, transparency and bit depth. With another number of channels
    than 1 and 3, files must have as many, see :func:`triscale.data.images.channels.to_channels`.

    Args:
        source: A file, or its content.
        limits: Limits on size, pixels and frames.
        bit_depth: How many bits the values of images with 16 bits per channel use.
        channels: Number of channels: 1 for gray, 3 for RGB, or as many as the file has.

    Returns:
        An image of the size in pixels that a viewer would show: of mode ``L`` with one channel, of mode ``RGB`` with
        three, otherwise :class:`triscale.data.images.bands.Bands`.

    Raises:
        BadImage: The file is not a regular file, not readable, of another format, above a limit, truncated or damaged,
            or has another number of channels.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("L", (4, 3), 200).save(buffer, "PNG")
        >>> image = decode(buffer.getvalue())
        >>> image.mode, image.size
        ('RGB', (4, 3))
    """
    content = read_bytes(source, limits) if isinstance(source, Path) else source
    return open_image(content, limits, bit_depth, channels).load()


def open_image(
    content: bytes, limits: ImageLimits = DEFAULT_LIMITS, bit_depth: BitDepth | None = 16, channels: int = 3
) -> LazyImage:
    """Check the header of an image file, and postpone decoding the pixels of an RGB or gray JPEG.

    Args:
        content: The bytes of the file.
        limits: Limits on size, pixels and frames.
        bit_depth: How many bits the values of images with 16 bits per channel use; None for as many as this image's,
            whose range of values is then in the result.
        channels: Number of channels.

    Raises:
        BadImage: As :func:`decode` raises it, except for damage that only decoding a JPEG reveals.
    """
    if not content:
        raise NotAnImage("empty")
    if len(content) > limits.file_bytes:
        raise FileTooLarge(too_large(len(content), limits))
    unread = unread_format(content)
    if unread is not None:
        raise BadImage(str(unread))
    kind = format_of(content)
    if kind is None:
        raise NotAnImage(_not_an_image(content))
    with _named_damage(kind):
        if kind == "NPY":
            return _prepare_array(content, limits, bit_depth, channels)
        return _prepare(content, kind, limits, bit_depth, channels)


class LazyImage:
    """An image whose pixels may not be decoded yet.

    Attributes:
        size: Width and height in pixels as a viewer would show them.
        jpeg: The content of the file if it is an RGB or gray JPEG whose pixels are not decoded yet.
        range: The lowest and the highest value of an image with 16 bits per channel, if they were measured.
    """

    def __init__(
        self,
        image: AnyImage,
        orientation: int = 1,
        jpeg: bytes | None = None,
        values: ValueRange = NOT_MEASURED,
        channels: int = 3,
    ) -> None:
        self.range, self._channels = values, channels
        self._image, self._transpose, self.jpeg = image, _TRANSPOSES.get(orientation), jpeg
        self.size = image.size[::-1] if orientation in _SIDEWAYS else image.size

    def can_reduce(self, scale: int) -> bool:
        """Return whether :meth:`load` can decode at ``1 / scale``, with pixel ``(x, y)`` covering a square block.

        The last column or row of a JPEG covers a smaller block where ``scale`` does not divide the side; an EXIF
        orientation can move it to the front, which would shift all other pixels.
        """
        width, height = self._image.size
        return self.jpeg is not None and (self._transpose is None or (width % scale, height % scale) == (0, 0))

    def load(self, scale: int = 1) -> AnyImage:
        """Decode to an upright image with 8 bits and the number of channels asked for; call it only once.

        Args:
            scale: 1, or 2, 4 or 8 if :meth:`can_reduce` allows it: the sides are divided by it (rounded up) and every
                pixel is the mean of a block, which saves much of the decoding.

        Raises:
            BadImage: The file is truncated or damaged.
        """
        if self.jpeg is None:
            return self._image
        assert isinstance(self._image, Image.Image)
        with _named_damage("JPEG"):
            if scale > 1:
                self._image.draft(self._image.mode, (self._image.width // scale, self._image.height // scale))
            self._image.load()
            if scale == 1:
                _check_end(self._image, self.jpeg)
            mode = "L" if self._channels == 1 else "RGB"
            image = self._image if self._image.mode == mode else to_rgb(self._image)
            image = image if image.mode == mode else image.convert(mode)
        return image if self._transpose is None else image.transpose(self._transpose)


@contextmanager
def _named_damage(kind: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into a :class:`BadImage`."""
    try:
        yield
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("decoding it needs more memory than is available") from error
    except _DAMAGE as error:
        # The reader of JPEG XL continues with advice to those who build it.
        reason = str(error).strip().partition(". Please build")[0]
        raise BadImage(f"damaged {kind} ({reason or type(error).__name__})") from error


def exif_of(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Exif:
    """Return the EXIF data of an image file without decoding its pixels; empty if it has none or they are damaged.

    Args:
        content: The bytes of the file.
        limits: Limits on pixels.

    Example:
        >>> dict(exif_of(b"GIF89a"))
        {}
    """
    kind = format_of(content)
    if kind is None:
        return Image.Exif()
    try:
        with _named_damage(kind), _open_header(content, kind, limits) as image:
            return image.getexif()
    except BadImage:
        return Image.Exif()


def _open_header(content: bytes, kind: str, limits: ImageLimits) -> ImageFile.ImageFile:
    stream = io.BytesIO(content)
    return _READERS[kind](stream) if kind in _READERS else open_optional(kind, stream, limits.pixels)


def _not_an_image(content: bytes) -> str:
    if content.startswith(SIGNATURE):
        header = array_header(content)
        if header is None:
            return "a damaged array of NumPy"
        return f"an array of shape {list(header.shape)}; expected [H, W], [H, W, C] or [C, H, W]"
    return f"not an image ({', '.join(FORMATS)})"


def _prepare_array(content: bytes, limits: ImageLimits, bit_depth: BitDepth | None, channels: int) -> LazyImage:
    header = array_header(content)
    assert header is not None
    check_pixels(array_size(header, channels), limits.pixels)
    eight, measured = to_eight_bits(read_array(content, header, channels), bit_depth)
    return LazyImage(fit_channels(eight, channels), values=measured)


def _prepare(content: bytes, kind: str, limits: ImageLimits, bit_depth: BitDepth | None, channels: int) -> LazyImage:
    def opened() -> ImageFile.ImageFile:
        return _open_header(content, kind, limits)

    try:
        image = opened()
    except SyntaxError as error:
        if kind == "TIFF" and needs_values(None, tags := tiff_tags(content), channels):
            return _prepare_tiff(content, tags, limits, bit_depth, channels)
        if "unknown pixel mode" in str(error):
            raise BadImage(
                f"a {kind} of an unusual number of channels or bits; save one or three channels of 8 or 16 bits as PNG"
            ) from error
        raise
    check_pixels(image.size, limits.pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > limits.frames:
        raise BadImage(f"{frames} frames, more than the limit of {limits.frames}; raise it with --max-frames")
    if kind == "JPEG" and image.mode in ("RGB", "L") and channels in PICTURE_CHANNELS:
        return LazyImage(image, orientation(image.info.get("exif")), content, channels=channels)
    if isinstance(image, TiffImageFile) and needs_values(image, tags := tiff_tags(content), channels):
        return _prepare_tiff(content, tags, limits, bit_depth, channels)
    if kind == "PNG":
        check_png(content)
    with image:
        loaded, measured = load_channels(image, content, opened, bit_depth, channels)
        turned = orientation(image.info.get("exif")) if needs_orientation(kind, image) else 1
        transpose = _TRANSPOSES.get(turned)
    return LazyImage(loaded if transpose is None else loaded.transpose(transpose), values=measured)


def _prepare_tiff(
    content: bytes, tags: TiffTags, limits: ImageLimits, bit_depth: BitDepth | None, channels: int
) -> LazyImage:
    values, turned = read_tiff(content, tags, channels, limits.pixels)
    eight, measured = to_eight_bits(values, bit_depth)
    image, transpose = fit_channels(eight, channels), _TRANSPOSES.get(turned)
    return LazyImage(image if transpose is None else image.transpose(transpose), values=measured)


def _check_end(image: Image.Image, content: bytes) -> None:
    """Refuse a JPEG whose data end before its last row, which decoders fill with gray without an error.

    A file whose last pixel is that gray is decoded again with extra data appended to its own. The extra data change
    the pixels only if the original data were incomplete.
    """
    if image.getpixel((image.width - 1, image.height - 1)) not in _FILL_GRAYS:
        return
    end = end_of_scan(content)
    if end is None:
        return
    other = JpegImageFile(io.BytesIO(content[:end] + _OTHER_DATA + content[end:]))
    other.load()
    if other.tobytes() != image.tobytes():
        raise BadImage("truncated JPEG (its data end before its last row)")
