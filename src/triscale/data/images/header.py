"""Read facts about an image file without decoding it: format, orientation, checksums."""

from __future__ import annotations

import re
import struct
import zlib

from triscale.data.images.arrays import is_image_array

_JXL_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xff\x0a", "JXL"),
    (_JXL_CONTAINER, "JXL"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)


def format_of(content: bytes) -> str | None:
    """Return the image format that the first bytes of a file announce, or None.

    Example:
        >>> format_of(b"GIF89a...")
        'GIF'
    """
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[4:8] == b"ftyp":
        return _heif_format(content)
    if is_image_array(content):
        return "NPY"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:1] == b"P" and content[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and content[2:3].isspace():
        return "PPM"
    return None


def _heif_format(content: bytes) -> str | None:
    """Return the format of a file that begins with a file type box of ISO media files (ISO/IEC 14496-12, 4.3).

    ::

        size (4 bytes) | ftyp | major brand (4 bytes) | version (4 bytes) | compatible brands (4 bytes each)
    """
    end = min(int.from_bytes(content[:4], "big"), 256, len(content))
    brands = [content[8:12], *(content[start : start + 4] for start in range(16, end, 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] in _HEIF_BRANDS and _AVIF_BRANDS & set(brands)):
        return "AVIF"
    return "HEIF" if brands[0] in _HEIF_BRANDS else None


_JXL_SIDE_BITS = (9, 13, 18, 30)
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jxl_size(content: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG XL file (ISO/IEC 18181-1, annex D.2), since its decoder decodes on opening.

    Raises:
        ValueError: The file is damaged.
    """
    codestream = content[:64] if content.startswith(b"\xff\x0a") else _jxl_codestream(content)
    bits, position = int.from_bytes(codestream[2:16], "little"), 0

    def read(count: int) -> int:
        nonlocal position
        position += count
        return bits >> (position - count) & ((1 << count) - 1)

    def read_side(*, is_small: bool) -> int:
        return 8 * (read(5) + 1) if is_small else read(_JXL_SIDE_BITS[read(2)]) + 1

    is_small = bool(read(1))
    height = read_side(is_small=is_small)
    ratio = read(3)
    if ratio == 0:
        return read_side(is_small=is_small), height
    numerator, denominator = _JXL_RATIOS[ratio - 1]
    return height * numerator // denominator, height


def _jxl_codestream(content: bytes) -> bytes:
    position = 0
    while position + 8 <= len(content):
        size, name = struct.unpack_from(">L4s", content, position)
        start = position + 8
        if size == 1 and start + 8 <= len(content):
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        if name in (b"jxlc", b"jxlp"):
            start += 4 if name == b"jxlp" else 0
            return content[start : start + 64]
        if size < 8:
            break
        position += size
    raise ValueError("no codestream")


def orientation(exif: object) -> int:
    """Return the orientation, 1 to 8, that an EXIF block gives; 1 if it has none or is damaged.

    An EXIF block is a TIFF structure::

        byte order, 42 | offset of IFD0 | ... | number of entries | (tag, type, count, value) x entries
        4 bytes        | 4 bytes        |     | 2 bytes           | 12 bytes each

    The orientation is tag 0x0112 of its first directory (IFD0).
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
    """Verify a PNG, since Pillow ignores checksums and unknown critical chunks, and reads missing rows as black.

    Chunk layout (https://www.w3.org/TR/png-3/#5Chunk-layout)::

        length (4 bytes) | name (4 bytes) | data (length bytes) | CRC-32 of name and data (4 bytes)

    Raises:
        ValueError: A checksum differs, a critical chunk is unknown, missing or duplicated, the file ends before its
            last chunk, or there are fewer pixels than announced.
    """
    view, position = memoryview(content), 8
    header, data, has_palette = b"", [], False
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">L4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        critical = not name[0] & 0x20  # a chunk that every reader must understand begins with a capital letter
        if critical and zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">L", content, end)[0]:
            raise ValueError(f"checksum of chunk {name.decode('latin-1')} differs")
        if critical and name not in _CRITICAL:
            raise ValueError(f"critical chunk {name.decode('latin-1')} is unknown")
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
"""The marker that ends the entropy-coded data of a JPEG scan: neither a stuffed zero nor a restart marker."""


def end_of_scan(content: bytes) -> int | None:
    """Return the offset at which the data of a JPEG's first scan end; None without a scan or an end of it."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        kind, length = struct.unpack_from(">xBH", content, position)
        position += 2 + length
        if kind == 0xDA:  # start of scan
            marker = _MARKER.search(content, position)
            return None if marker is None else marker.start()
    return None


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, then column and row step, of each pass of an interlaced PNG (Adam7)."""


def _png_size(header: bytes) -> int:
    """Return the number of bytes of the filtered rows of a PNG; each row has one byte for its filter type."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">LLBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]  # color type -> channels: gray, RGB, palette, LA, RGBA
    size = 0
    for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -(-(width - left) // right)), max(0, -(-(height - top) // down))
        size += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return size


def _inflated_size(chunks: list[memoryview], enough: int) -> int:
    """Return the decompressed size of chunks in bytes; counting stops at ``enough``."""
    inflater, size = zlib.decompressobj(), 0
    for chunk in chunks:
        rest: bytes | memoryview = chunk
        while rest and size < enough and not inflater.eof:
            size += len(inflater.decompress(rest, 1 << 18))
            rest = inflater.unconsumed_tail
    return size
