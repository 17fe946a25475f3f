"""Read when an image was captured."""

from __future__ import annotations

from datetime import datetime, timedelta

from PIL import ExifTags

from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits, exif_of


def capture_time(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> datetime | None:
    """Return the capture time of an image by the clock of its camera; None if the file does not hold it.

    It is the EXIF field DateTimeOriginal (0x9003), with SubsecTimeOriginal (0x9291) as fraction of a second. DateTime
    (0x0132) is not used: programs change it when they save a file again.

    Args:
        content: The bytes of the file.
        limits: Limits on pixels.

    Example:
        >>> capture_time(b"GIF89a") is None
        True
    """
    fields = exif_of(content, limits)
    try:
        camera = fields.get_ifd(ExifTags.IFD.Exif)
        taken = datetime.strptime(_text(camera.get(ExifTags.Base.DateTimeOriginal)), "%Y:%m:%d %H:%M:%S")
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, ArithmeticError, LookupError, RuntimeError):
        return None  # Pillow raises these on damaged EXIF data
    fraction = _text(camera.get(ExifTags.Base.SubsecTimeOriginal))
    if fraction.isascii() and fraction.isdigit():
        taken += timedelta(seconds=float(f"0.{fraction}"))
    return taken


def _text(value: object) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 ")
