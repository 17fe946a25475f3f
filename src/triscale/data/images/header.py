"""What the bytes of an image file say about it, read without decoding: format, orientation, checksums."""

from __future__ import annotations

import re
import struct
import zlib

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)


def format_of(content: bytes) -> str | None:
    """Return the image format that the first bytes of a file announce (``"JPEG"``, ``"PNG"``, ...), or None."""
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:1] == b"P" and content[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and content[2:3].isspace():
        return "PPM"
    return None


def orientation(exif: object) -> int:
    """Return the orientation, 1 to 8, that an EXIF block asks for; 1 where it says nothing or is damaged.

    The tag (0x0112) is read from the first directory of the TIFF structure that EXIF is.
    """
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHLH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3 and count == 1:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PALETTE = 3
"""The color type of a PNG with a palette."""


def check_png(content: bytes) -> None:
    """Verify a PNG: Pillow skips checksums and chunks that it must understand, and takes too short data for black rows.

    Raises:
        ValueError: a checksum differs, a critical chunk is unknown, missing or there twice, the file ends before its
            last chunk, or there are fewer pixels than announced.
    """
    view, position = memoryview(content), 8
    header, data, has_palette = b"", [], False
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">L4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        critical = not name[0] & 0x20  # a chunk that a reader must understand begins with a capital letter
        if critical and zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">L", content, end)[0]:
            raise ValueError(f"checksum of chunk {name.decode('latin-1')} differs")
        if critical and name not in _CRITICAL:
            raise ValueError(f"nobody knows how to read its chunk {name.decode('latin-1')}")
        if name == b"IHDR":
            if header:
                raise ValueError("it has two headers")
            header = bytes(view[position + 8 : end])
        elif name == b"PLTE":
            has_palette = True
        elif name == b"IDAT":
            data.append(view[position + 8 : end])
        elif name == b"IEND":
            if header[9] == _PALETTE and not has_palette:
                raise ValueError("it has no palette")
            if _inflated_size(data, _png_size(header)) < _png_size(header):
                raise ValueError("pixel data ends early")
            return
        position = end + 4
    raise ValueError("file is truncated")


_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""What ends the data of a scan: no stuffed zero, no restart."""


def end_of_scan(content: bytes) -> int | None:
    """Return where the data of a JPEG's first scan end; None where there is no scan, or no end of it."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        kind, length = struct.unpack_from(">xBH", content, position)
        position += 2 + length
        if kind == 0xDA:
            found = _MARKER.search(content, position)
            return None if found is None else found.start()
    return None


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row and the steps between them, for each pass of an interlaced PNG."""


def _png_size(header: bytes) -> int:
    """Return the number of bytes that the pixels of a PNG take before compression; each row has one byte more."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">LLBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    size = 0
    for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -(-(width - left) // right)), max(0, -(-(height - top) // down))
        size += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return size


def _inflated_size(chunks: list[memoryview], enough: int) -> int:
    """Return the number of bytes that compressed chunks hold, counted until there are enough."""
    inflater, size = zlib.decompressobj(), 0
    for chunk in chunks:
        rest: bytes | memoryview = chunk
        while rest and size < enough and not inflater.eof:
            size += len(inflater.decompress(rest, 1 << 18))
            rest = inflater.unconsumed_tail
    return size
