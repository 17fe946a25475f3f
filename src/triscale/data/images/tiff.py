"""Read the TIFF files that Pillow does not: many channels, floating-point values, a channel on each page."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from triscale.data.images.channels import PICTURE_CHANNELS, wrong_channels
from triscale.data.images.color import BadImage
from triscale.data.images.deep import raw_mode_of
from triscale.data.images.optional_formats import check_pixels, missing_library

_SUBFILE, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _SAMPLE_FORMAT = 254, 262, 274, 277, 339
_REDUCED_OR_MASK = 1 | 4
"""Bits of NewSubfileType: a smaller copy of another page, or a mask of one."""
_FLOAT = 3
_MAX_PICTURE_SAMPLES = 4
_PAGE_MODES = ("1", "L", "F")
_PLAIN_RAW_MODES = ("LA", "RGBA")

# It logs what is wrong with a damaged file before it raises an error that says the same.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class TiffTags(NamedTuple):
    """What the first page of a TIFF says about its values.

    Attributes:
        samples: Number of channels.
        is_float: Whether the values are floating-point numbers.
        orientation: From 1 to 8, as in EXIF.
    """

    samples: int
    is_float: bool
    orientation: int


def tiff_tags(content: bytes) -> TiffTags:
    """Return what the first page of a TIFF says; Pillow refuses to open many of these files.

    Raises:
        SyntaxError: The file is damaged, as several other errors of Pillow report it.
    """
    stream = io.BytesIO(content)
    tags = ImageFileDirectory_v2(stream.read(16 if content[2:3] == b"+" else 8))
    stream.seek(tags.next)
    tags.load(stream)
    formats = tags.get(_SAMPLE_FORMAT, (1,))
    return TiffTags(int(tags.get(_SAMPLES, 1)), formats[0] == _FLOAT, int(tags.get(_ORIENTATION, 1)))


def needs_values(image: TiffImageFile | None, tags: TiffTags, channels: int) -> bool:
    """Return whether :func:`read_tiff` reads the file, since Pillow does not read its channels as they are.

    Args:
        image: The file as opened by Pillow, not loaded; None if it refuses to.
        tags: Its tags.
        channels: The number of channels that is expected.
    """
    if channels in PICTURE_CHANNELS:
        return tags.is_float or tags.samples > _MAX_PICTURE_SAMPLES
    # Pillow divides by associated alpha, and drops a fourth channel that is not declared as alpha.
    return image is None or raw_mode_of(image).partition(";16")[0] not in _PLAIN_RAW_MODES


def read_tiff(content: bytes, tags: TiffTags, channels: int, max_pixels: int) -> tuple[NDArray[Any], int]:
    """Read the values of a TIFF with a number of channels, or with a channel on each page.

    Args:
        content: The bytes of the file.
        tags: Its tags.
        channels: The number of channels that is expected.
        max_pixels: Maximum width times height.

    Returns:
        Values ``[H, W, C]`` of any type, and the EXIF orientation that is still to be applied.

    Raises:
        BadImage: The number of channels or the size is another one, or a library is missing.
    """
    if tags.samples == 1:
        try:
            return _read_pages(content, channels, max_pixels), 1
        except SyntaxError as error:  # Pillow knows no floating-point numbers but those of 32 bits
            if channels not in PICTURE_CHANNELS:
                raise BadImage(f"pages of an unusual number of bits; save one image of {channels} channels") from error
    if tags.samples != channels and not {tags.samples, channels} <= set(PICTURE_CHANNELS):
        raise wrong_channels(tags.samples, channels)
    return _read_samples(content, tags.samples, max_pixels), tags.orientation


def _read_pages(content: bytes, channels: int, max_pixels: int) -> NDArray[Any]:
    """Return one channel of each page; smaller copies and masks of pages do not count."""
    with TiffImageFile(io.BytesIO(content)) as image:
        check_pixels(image.size, max_pixels)
        if channels in PICTURE_CHANNELS:
            return _page(image)[..., None]
        numbers = []
        for number in range(image.n_frames):
            image.seek(number)
            if not int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED_OR_MASK:
                numbers.append(number)
        if len(numbers) != channels:
            if len(numbers) == 1:
                raise wrong_channels(1, channels)
            raise BadImage(f"has {len(numbers)} pages of one channel; expected {channels}, one for each channel")
        pages = []
        for number in numbers:
            image.seek(number)
            check_pixels(image.size, max_pixels)
            pages.append(_page(image))
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise BadImage("its pages differ in size or in the type of their values; expected the same for each channel")
    return np.stack(pages, axis=-1)


def _page(image: TiffImageFile) -> NDArray[Any]:
    is_white_zero = image.tag_v2.get(_PHOTOMETRIC) == 0
    image.load()
    if image.mode not in _PAGE_MODES and not image.mode.startswith("I"):
        raise BadImage(f"pages of mode {image.mode}, which are not plain channels; save them as gray images")
    values = np.array(image.convert("L") if image.mode == "1" else image)
    # Pillow regards which value is white at 8 bits only.
    return np.iinfo(values.dtype).max - values if is_white_zero and values.dtype == np.uint16 else values


def _read_samples(content: bytes, samples: int, max_pixels: int) -> NDArray[Any]:
    """Return the channels of the first page, which lie side by side for each pixel, or one after the other."""
    try:
        tifffile = importlib.import_module("tifffile")
    except ImportError as error:
        raise missing_library(f"a TIFF of {samples} channels", "tifffile", "triscale[tiff]", ".npy") from error
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        check_pixels((page.imagewidth, page.imagelength), max_pixels)
        if page.samplesperpixel != samples or page.imagedepth != 1:
            raise BadImage("a TIFF of volumes; save each layer as an image")
        # Strips and tiles that begin at the end of the file would be read as zeros.
        if any(sum(part) > len(content) for part in zip(page.dataoffsets, page.databytecounts, strict=False)):
            raise BadImage("truncated TIFF (its values end early)")
        try:
            # planes, depth, height, width, channels of a pixel
            values = page.asarray(squeeze=False, maxworkers=1)
        except ValueError as error:
            if page.compression != 1 and importlib.util.find_spec("imagecodecs") is None:
                title = f"a TIFF with compression {page.compression.name}"
                raise missing_library(title, "imagecodecs", "triscale[tiff]", ".npy") from error
            raise
    return np.moveaxis(values[:, 0, ..., 0], 0, -1) if len(values) == samples else np.asarray(values[0, 0])
