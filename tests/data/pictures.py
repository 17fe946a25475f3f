"""Make test pictures and image files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def ramp(width: int = 24, height: int = 16) -> np.ndarray:
    """Return a smooth RGB picture, uint8 [height, width, 3], without any symmetry of axes, sides or channels."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / (width - 1), 255 * y / (height - 1)
    blue = 255 * ((x / (width - 1)) ** 2 * 0.7 + 0.3 * (1 - y / (height - 1)))
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def noise(seed: int, side: int = 16) -> Image.Image:
    """Return a picture that differs for every seed."""
    values = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def png(
    values: np.ndarray,
    depth: int,
    color: int,
    *extra: bytes,
    size: tuple[int, int] | None = None,
    interlaced: bool = False,
) -> bytes:
    """Write a PNG by hand: integer samples [height, width, channels], bits per sample and color type."""
    height, width = values.shape[:2]
    passes = ADAM7 if interlaced else [(slice(None), slice(None))]
    data = b"".join(_rows(values[rows, columns], depth) for rows, columns in passes)
    header = struct.pack(">LLBBBBB", *(size or (width, height)), depth, color, 0, 0, interlaced)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


ADAM7 = [
    (slice(0, None, 8), slice(0, None, 8)),
    (slice(0, None, 8), slice(4, None, 8)),
    (slice(4, None, 8), slice(0, None, 4)),
    (slice(0, None, 4), slice(2, None, 4)),
    (slice(2, None, 4), slice(0, None, 2)),
    (slice(0, None, 2), slice(1, None, 2)),
    (slice(1, None, 2), slice(0, None, 1)),
]
"""The rows and columns of each pass of an interlaced PNG."""


def _rows(values: np.ndarray, depth: int) -> bytes:
    if not values.size:
        return b""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8)
    elif depth == 8:
        packed = rows.astype(np.uint8)
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def tiff(data: bytes, size: tuple[int, int], tags: Mapping[int, int]) -> bytes:
    """Write a little-endian TIFF of one uncompressed strip by hand; every tag holds one short number."""
    known = {256: size[0], 257: size[1], 259: 1, 273: 8, 277: 1, 278: size[1], 279: len(data), **tags}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(known.items()))
    padded = data + b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(known)) + entries + struct.pack("<L", 0)
    return b"II*\0" + struct.pack("<L", 8 + len(padded)) + padded + directory


def write_classes(root: Path, counts: Mapping[str, int], seed: int = 0) -> Path:
    """Write ``counts[name]`` small PNG files into ``root/name`` for every name."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise(seed * 1000 + index + hash_text(name)).save(root / name / f"{index:03d}.png")
    return root


def hash_text(text: str) -> int:
    """Return a small number derived from a text, the same in every process."""
    return zlib.crc32(text.encode()) % 10_000 * 1000
