"""Recognize files that hold images in formats that are not read, and say what to convert them to."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm",
        "avif", "heic", "heif", "hif", "jxl",
    )
)  # fmt: skip
"""The suffixes of formats that are read, some of them with an extra."""

ARRAY_SUFFIX = "npy"
"""The suffix of arrays, which may be images or anything else."""

_RAW = frozenset(
    (
        "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf",
        "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
    )
)  # fmt: skip
_ARRAYS = frozenset(("npz", "fits", "fit", "fts", "nii", "mha", "mhd", "nrrd"))
_PICTURES = frozenset(
    (
        "apng", "bpg", "cur", "dds", "emf", "eps", "exr", "hdr", "icns", "ico", "j2c", "j2k", "jp2", "jpf", "jpx",
        "jxr", "mng", "pam", "pcx", "pdf", "pfm", "psb", "psd", "qoi", "sgi", "svg", "svgz", "tga", "wmf", "xbm", "xcf",
        "xpm", "ai", "dcm", "dicom", "ima", "nd2", "czi", "lif", "svs", "ndpi", "mrxs", "ome",
    )
)  # fmt: skip

_GZIP = b"\x1f\x8b"
_HEAD = 4096
"""Bytes of compressed files, and of their content, that are looked at."""

_CONVERT = "convert it to PNG or JPEG"
_DEVELOP = "develop it to JPEG or to a TIFF of 8 or 16 bits"
_SCALE = "scale its values to 8 or 16 bits and save it as PNG"


class UnreadFormat(NamedTuple):
    """A format that is not read, and the way out."""

    name: str
    remedy: str

    def __str__(self) -> str:
        """Return both as the reason why a file is bad."""
        return f"{self.name} is not read; {self.remedy}"


_RAW_FORMAT = UnreadFormat("a camera raw file", _DEVELOP)
_DICOM = UnreadFormat("DICOM", "export it as PNG of 8 or 16 bits, with the window applied")
_SVG = UnreadFormat("SVG (vector graphics)", "render it to PNG")
_NIFTI = UnreadFormat("NIfTI", "save its slices as PNG of 8 or 16 bits")
_JPEG2000 = UnreadFormat("JPEG 2000", _CONVERT)

_SIGNATURES: tuple[tuple[int, bytes, UnreadFormat], ...] = (
    (8, b"CR\x02\0", _RAW_FORMAT),  # Canon's CR2 is a TIFF with this mark behind its header
    (0, b"II\x1a\0\0\0HEAPCCDR", _RAW_FORMAT),
    (4, b"ftypcrx ", _RAW_FORMAT),
    (0, b"IIRO", _RAW_FORMAT),
    (0, b"IIRS", _RAW_FORMAT),
    (0, b"MMOR", _RAW_FORMAT),
    (0, b"IIU\0", _RAW_FORMAT),
    (0, b"FUJIFILMCCD-RAW", _RAW_FORMAT),
    (0, b"FOVb", _RAW_FORMAT),
    (0, b"\0MRM", _RAW_FORMAT),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG2000),
    (0, b"\xff\x4f\xff\x51", _JPEG2000),
    (0, b"II\xbc\x01", UnreadFormat("JPEG XR", _CONVERT)),
    (0, b"8BPS", UnreadFormat("a Photoshop file (PSD)", _CONVERT)),
    (0, b"gimp xcf", UnreadFormat("a GIMP file (XCF)", _CONVERT)),
    (0, b"%PDF-", UnreadFormat("PDF", "render its pages to PNG")),
    (0, b"%!PS", UnreadFormat("PostScript", "render it to PNG")),
    (128, b"DICM", _DICOM),
    (0, b"v/1\x01", UnreadFormat("OpenEXR (floating-point values)", _SCALE)),
    (0, b"#?RADIANCE", UnreadFormat("Radiance HDR (floating-point values)", _SCALE)),
    (0, b"SIMPLE  =", UnreadFormat("FITS", _SCALE)),
    (0, b"NRRD000", UnreadFormat("NRRD", _SCALE)),
    (344, b"n+1\0", _NIFTI),
    (4, b"n+2\0", _NIFTI),
    (0, b"PF\n", UnreadFormat("PFM (floating-point values)", _SCALE)),
    (0, b"Pf\n", UnreadFormat("PFM (floating-point values)", _SCALE)),
    (0, b"P7\n", UnreadFormat("PAM", _CONVERT)),
    (0, b"qoif", UnreadFormat("QOI", _CONVERT)),
    (0, b"DDS ", UnreadFormat("DDS", _CONVERT)),
    (0, b"icns", UnreadFormat("ICNS", _CONVERT)),
    (0, b"\0\0\x01\0\x01\0", UnreadFormat("ICO", _CONVERT)),
    (0, b"BPG\xfb", UnreadFormat("BPG", _CONVERT)),
)


def unread_format(content: bytes) -> UnreadFormat | None:
    """Return the format that the first bytes of a file announce if it is known but not read, also behind gzip.

    Example:
        >>> str(unread_format(b"8BPS..."))
        'a Photoshop file (PSD) is not read; convert it to PNG or JPEG'
    """
    if content.startswith(_GZIP):
        content = _decompressed_head(content)
    for offset, signature, found in _SIGNATURES:
        if content.startswith(signature, offset):
            return found
    head = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg")) and b"<svg" in head):
        return _SVG
    return _unread_tiff(content) if content[:4] in (b"II*\0", b"MM\0*") else None


def _decompressed_head(content: bytes) -> bytes:
    """Return the first bytes of what gzip compressed; nothing if they are damaged."""
    try:
        return zlib.decompressobj(wbits=31).decompress(content[:_HEAD], _HEAD)
    except zlib.error:
        return b""


def has_image_suffix(path: str) -> bool:
    """Return whether a file has the suffix of an image format that is read.

    Example:
        >>> has_image_suffix("1.JPG"), has_image_suffix("1.psd"), has_image_suffix("jpg/1")
        (True, False, False)
    """
    return _suffix(path) in IMAGE_SUFFIXES


def may_be_image(path: str) -> bool:
    """Return whether a file has the suffix of an image format that is read, or of an array.

    Example:
        >>> may_be_image("1.JPG"), may_be_image("1.npy"), has_image_suffix("1.npy")
        (True, True, False)
    """
    return has_image_suffix(path) or is_named_as_array(path)


def is_named_as_array(path: str) -> bool:
    """Return whether a file has the suffix of an array, which may be an image."""
    return _suffix(path) == ARRAY_SUFFIX


def is_named_as_image(path: str) -> bool:
    """Return whether a file has the suffix of an image format, read or not.

    Example:
        >>> is_named_as_image("1.JPG"), is_named_as_image("1.psd"), is_named_as_image("1.jpg.txt")
        (True, True, False)
    """
    return has_image_suffix(path) or is_named_as_unread(path)


def is_named_as_unread(path: str) -> bool:
    """Return whether a file has the suffix of an image format that is not read.

    Example:
        >>> is_named_as_unread("1.dcm"), is_named_as_unread("1.jpg")
        (True, False)
    """
    suffix = _suffix(path)
    return suffix in _RAW or suffix in _ARRAYS or suffix in _PICTURES


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2].lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


_PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 262, 330, 50706
_RAW_PHOTOMETRICS = (32803, 34892)
"""Color filter array, and linear raw."""


def _unread_tiff(content: bytes) -> UnreadFormat | None:
    """Return what makes a TIFF unreadable: raw data of a camera, whose small preview Pillow would read instead."""
    order = "<" if content[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "L", content, 4)
        first = _directory(content, order, start)
        count, value = first.get(_SUB_IFDS, (0, 0))
        offsets = (value,) if count == 1 else struct.unpack_from(f"{order}{min(count, 16)}L", content, value)
        others = [_directory(content, order, offset) for offset in offsets if count]
    except struct.error:
        return None
    photometrics = [found.get(_PHOTOMETRIC, (0, 0))[1] for found in (first, *others)]
    if _DNG_VERSION in first or any(photometric in _RAW_PHOTOMETRICS for photometric in photometrics):
        return _RAW_FORMAT
    return None


_SHORT = 3


def _directory(content: bytes, order: str, start: int) -> dict[int, tuple[int, int]]:
    """Return the number of values and the value, or its offset, of each tag of a TIFF directory."""
    (entries,) = struct.unpack_from(order + "H", content, start)
    found = {}
    for entry in range(entries):
        position = start + 2 + 12 * entry
        tag, kind, count = struct.unpack_from(order + "HHL", content, position)
        is_short = kind == _SHORT and count <= 2  # they lie in the entry itself
        (value,) = struct.unpack_from(order + ("H" if is_short else "L"), content, position + 8)
        found[tag] = (count, value)
    return found
