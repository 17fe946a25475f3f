"""Open images in formats that Pillow reads only with an optional library."""

from __future__ import annotations

import importlib
import io
from typing import NamedTuple

from PIL import ImageFile

from triscale.data.images.color import BadImage
from triscale.data.images.header import jxl_size


class OptionalFormat(NamedTuple):
    """A format, the class that reads it, and the extra that installs it."""

    title: str
    module: str
    reader: str
    extra: str


OPTIONAL_FORMATS = {
    "AVIF": OptionalFormat("AVIF", "PIL.AvifImagePlugin", "AvifImageFile", ""),
    "HEIF": OptionalFormat("HEIC (HEIF)", "pillow_heif.as_plugin", "HeifImageFile", "heif"),
    "JXL": OptionalFormat("JPEG XL", "pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "jxl"),
}
"""The formats by the name that :func:`triscale.data.images.header.format_of` gives them."""


def open_optional(kind: str, stream: io.BytesIO, max_pixels: int) -> ImageFile.ImageFile:
    """Open an image in an optional format.

    Args:
        kind: A key of :data:`OPTIONAL_FORMATS`.
        stream: The file.
        max_pixels: Maximum width times height; checked here only where opening decodes the pixels.

    Raises:
        BadImage: The library is not installed, or the image is too large.
    """
    found = OPTIONAL_FORMATS[kind]
    try:
        reader = getattr(importlib.import_module(found.module), found.reader)
        if kind == "AVIF" and not importlib.import_module(found.module).SUPPORTED:
            raise ImportError
    except ImportError as error:
        package = f"triscale[{found.extra}]" if found.extra else "pillow>=11.3"
        library = found.module.partition(".")[0].replace("_", "-") if found.extra else "a newer Pillow"
        raise missing_library(found.title, library, package, "PNG or JPEG") from error
    if kind == "JXL":
        check_pixels(jxl_size(stream.getvalue()), max_pixels)
    opened: ImageFile.ImageFile = reader(stream)
    return opened


def missing_library(title: str, library: str, package: str, other: str) -> BadImage:
    """Return the error for a file that a library reads which is not installed.

    Args:
        title: What the file is.
        library: The name of the library.
        package: What to install.
        other: The formats to convert the file to otherwise.

    Example:
        >>> str(missing_library("JPEG XL", "pillow-jxl", "triscale[jxl]", "PNG"))
        'JPEG XL is read with pillow-jxl; install it with: pip install "triscale[jxl]", or convert it to PNG'
    """
    return BadImage(
        f'{title} is read with {library}; install it with: pip install "{package}", or convert it to {other}'
    )


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Check the size of an image.

    Raises:
        BadImage: It has more pixels than allowed.
    """
    if size[0] * size[1] > max_pixels:
        raise BadImage(
            f"{size[0]} x {size[1]} pixels, more than the limit of {max_pixels}; scale it down, or raise the limit "
            f"with --max-pixels"
        )


def needs_orientation(kind: str, image: ImageFile.ImageFile) -> bool:
    """Return whether the EXIF orientation is still to be applied.

    Pillow applies that of a TIFF, and the libraries apply those of HEIF and JPEG XL, except for a JPEG inside JPEG XL.
    """
    return kind not in ("TIFF", "HEIF") and (kind != "JXL" or bool(getattr(image, "jpeg", False)))
