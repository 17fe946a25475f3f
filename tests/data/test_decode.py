"""The decoder reads every valid image, upright and completely, and gives a short reason for every other file."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sizes import figure
from triscale.data.images.color import BadImage
from triscale.data.images.decode import FORMATS, ImageLimits, decode

from .pictures import chunk, encode, noise, png, ramp

RGB = ramp()
PICTURE = Image.fromarray(RGB)
TURNED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: RGB[:, ::-1].transpose(1, 0, 2),
    7: RGB[::-1, ::-1].transpose(1, 0, 2),
    8: RGB[::-1].transpose(1, 0, 2),
}
"""The transpose of the stored pixels of an upright picture for each value of the EXIF tag (TIFF 6.0, page 36)."""


def stored(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    return encode(Image.fromarray(np.ascontiguousarray(TURNED[orientation])), kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    image = decode(stored(orientation, kind))
    assert image.size == (24, 16)
    assert np.abs(np.asarray(image).astype(int) - RGB).max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    assert decode(encode(PICTURE, "JPEG", exif=exif)).size == (24, 16)


@pytest.mark.parametrize("kind", FORMATS)
def test_format_is_detected_from_content_not_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.txt"
    path.write_bytes(encode(PICTURE, kind))
    assert decode(path).size == (24, 16)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_animation_is_used(kind: str) -> None:
    frames = [noise(seed) for seed in range(4)]
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    difference = np.asarray(decode(content)).astype(int) - np.asarray(frames[0])
    assert np.abs(difference).mean() < (8 if kind == "GIF" else 1e-9)


def hostile() -> dict[str, tuple[bytes, str]]:
    jpeg = encode(PICTURE.resize((200, 150)), "JPEG")
    whole = encode(PICTURE, "PNG")
    flipped = bytearray(whole)
    flipped[len(whole) - 30] ^= 1
    zeros = np.zeros((8, 8, 1), np.uint8)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000), 9))
    bmp_header = struct.pack("<LllHHLLllLL", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    big_gif = bytearray(encode(PICTURE, "GIF"))
    big_gif[6:10] = b"\xff" * 4
    frames = [Image.new("L", (1, 1), value % 256) for value in range(1100)]
    colors = [noise(value, 2) for value in range(1100)]
    taller = bytearray(jpeg)
    struct.pack_into(">H", taller, jpeg.index(b"\xff\xc0") + 5, 900)
    deep = bytearray(jpeg)
    deep[jpeg.index(b"\xff\xc0") + 4] = 12
    canvas = struct.pack("<L", 10) + b"\2\0\0\0" + (16_382).to_bytes(3, "little") * 2
    return {
        "empty": (b"", "empty"),
        "text": (b"not an image at all", "not an image"),
        "HTML error page": (b"<!DOCTYPE html><html>", "not an image"),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG .* is not read"),
        "PDF": (b"%PDF-1.7\n", "PDF is not read"),
        "half a JPEG": (jpeg[: len(jpeg) // 2], "truncated"),
        "JPEG without its last bytes": (jpeg[:-20], "truncated"),
        "start of a JPEG": (jpeg[:3], "damaged JPEG"),
        "half a PNG": (whole[: len(whole) // 2], "truncated"),
        "PNG without its end": (whole[:-12], "truncated"),
        "PNG with one flipped bit": (bytes(flipped), "checksum"),
        "JPEG of more rows than it has data for": (bytes(taller), "its data end before its last row"),
        "JPEG of 12 bits": (bytes(deep), "damaged JPEG"),
        "JPEG without its tables": (jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :], "damaged JPEG"),
        "JPEG whose first segment never ends": (b"\xff\xd8\xff\xe1\xff\xff", "damaged JPEG"),
        "PNG without its palette": (png(zeros, 8, 3), "no palette"),
        "PNG with two headers": (whole[:33] + whole[8:], "two headers"),
        "PNG with a chunk that must be understood": (whole[:33] + chunk(b"CgBI", b"P\0 \2") + whole[33:], "chunk CgBI"),
        "PNG of 3 bits": (png(zeros, 3, 0), "damaged PNG"),
        "PNG without pixels": (whole[:33] + chunk(b"IEND", b""), "ends early"),
        "PNG with a color profile of 60 MB": (
            whole[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60_000_000), 9)) + whole[33:],
            "damaged PNG",
        ),
        "PNG of 1100 frames": (
            encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
            "1100 frames, .* --max-frames",
        ),
        "PNG of no pixels": (png(zeros, 8, 0, size=(0, 8)), "damaged PNG"),
        "PNG of fewer rows than it says": (png(zeros, 8, 0, size=(8, 9)), "ends early"),
        "PNG of 17000 x 17000 pixels in 35 KB": (
            png(np.zeros((1, 1, 1), np.uint8), 1, 0, size=(17_000, 17_000)),
            "17000 x 17000 pixels, more than the limit",
        ),
        "PNG of the largest size there is": (png(zeros, 8, 0, size=(2**31 - 1, 2**31 - 1)), "more than the limit"),
        "PNG with a text of 60 MB": (png(zeros, 8, 0, text), "damaged PNG"),
        "half a GIF": (encode(PICTURE, "GIF")[:500], "damaged GIF"),
        "GIF of a huge screen": (bytes(big_gif), "more than the limit"),
        "GIF of 1100 frames": (
            encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            "1100 frames, .* --max-frames",
        ),
        "half a WEBP": (encode(PICTURE, "WEBP")[:100], "damaged WEBP"),
        "WEBP of a huge canvas": (b"RIFF\x1e\0\0\0WEBPVP8X" + canvas, "WEBP|limit"),
        "WEBP of 1100 frames": (
            encode(colors[0], "WEBP", save_all=True, append_images=colors[1:]),
            "1100 frames, .* --max-frames",
        ),
        "TIFF of 1100 pages": (
            encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
            "1100 frames, .* --max-frames",
        ),
        "TIFF whose directory lies far behind its end": (
            b"II*\0" + struct.pack("<L", 2**31) + bytes(64),
            "damaged TIFF",
        ),
        "half a TIFF": (encode(PICTURE, "TIFF", compression="tiff_lzw")[:300], "damaged TIFF"),
        "half a BMP": (encode(PICTURE, "BMP")[:300], "truncated"),
        "BMP of a huge size": (b"BM" + struct.pack("<LLL", 54, 0, 54) + bmp_header, "60000 x 60000 pixels"),
        "PPM of a huge size": (b"P6 100000 100000 255\n" + bytes(100), "more than the limit"),
        "BMP of 13 bits": (b"BM" + encode(PICTURE, "BMP")[2:28] + b"\x0d\0" + bytes(40), "damaged BMP"),
        "PPM without its size": (b"P6 ", "damaged PPM"),
        "PPM whose brightest value is 0": (b"P6 8 8 0\n" + bytes(192), "damaged PPM"),
        "half a PPM": (b"P6 8 8 255\n" + bytes(100), "damaged PPM"),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is not read"),
        "archive": (b"PK\3\4" + bytes(100), "not an image"),
    }


HOSTILE = hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_rejected_with_reason(tmp_path: Path, name: str) -> None:
    content, reason = HOSTILE[name]
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", category=Image.DecompressionBombWarning)
        for source in (path, content):
            with pytest.raises(BadImage, match=reason):
                decode(source)
    figure(7, "hostile files refused with their reason", 1, 1)


def test_tiff_with_directory_loop_is_read() -> None:
    content = bytearray(encode(PICTURE, "TIFF"))
    (start,) = struct.unpack_from("<L", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<L", content, start + 2 + 12 * entries, start)
    assert np.array_equal(np.asarray(decode(bytes(content))), RGB)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
def test_truncation_is_never_silently_misread(kind: str) -> None:
    content = encode(PICTURE, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    whole = np.asarray(decode(content))
    for length in {*range(0, len(content), 37), *range(len(content) - 12, len(content))}:
        try:
            cut = np.asarray(decode(content[:length]))
        except BadImage:
            continue
        assert np.array_equal(cut, whole)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_truncated_jpeg_with_end_marker_is_rejected(mode: str, options: dict[str, int]) -> None:
    picture = noise(3, 80).convert(mode)
    content = encode(picture, "JPEG", **options)
    whole = np.asarray(decode(content))
    assert np.abs(whole - np.asarray(picture.convert("RGB")).astype(int)).mean() < 4
    for length in range(content.index(b"\xff\xda") + 14, len(content) - 2):
        try:
            cut = np.asarray(decode(content[:length] + b"\xff\xd9"))
        except BadImage:
            continue
        # Only its last block, of 16 x 16 pixels at most, may have lost bits; its color reaches one pixel beyond.
        assert np.array_equal(cut[:63], whole[:63])
        assert np.array_equal(cut[:, :63], whole[:, :63])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("side", [1, 8, 50])
def test_grayscale_jpeg_is_read(mode: str, options: dict[str, int], side: int) -> None:
    gray = Image.new("RGB", (side, side), (128,) * 3).convert(mode)
    for content in (encode(gray, "JPEG", **options), encode(gray, "JPEG", **options) + b"a camera's own notes"):
        assert np.array_equal(np.asarray(decode(content)), np.full((side, side, 3), 128))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*FORMATS, "16-bit"])
def test_corrupted_bytes_give_image_or_error(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "JPEG": {"exif": b"Exif\0\0II*\0\x08\0\0\0\1\0"}}
    deep = Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24))
    content = encode(deep, "TIFF") if kind == "16-bit" else encode(PICTURE, kind, **options.get(kind, {}))
    chance = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 10])):
            damaged[chance.randrange(len(damaged) if chance.random() < 0.5 else 120)] = chance.randrange(256)
        with contextlib.suppress(BadImage):
            assert decode(bytes(damaged), ImageLimits(pixels=1_000_000)).mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (24, 16), (33, 7)])
@pytest.mark.parametrize(("depth", "color"), [(1, 0), (4, 0), (8, 2), (16, 6), (8, 4)])
def test_interlaced_png_of_any_size_is_read(size: tuple[int, int], depth: int, color: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    values = np.random.default_rng(0).integers(0, 1 << depth, (size[1], size[0], channels))
    plain, interlaced = png(values, depth, color), png(values, depth, color, interlaced=True)
    assert np.array_equal(np.asarray(decode(interlaced)), np.asarray(decode(plain)))


def test_limits_are_checked_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encode(PICTURE, "PNG"))
    with pytest.raises(BadImage, match="24 x 16 pixels, more than the limit of 383"):
        decode(path, ImageLimits(pixels=383))
    for source in (path, path.read_bytes()):
        with pytest.raises(BadImage, match="bytes, more than the limit of 100"):
            decode(source, ImageLimits(file_bytes=100))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        decode(tmp_path / "missing.png")
    with pytest.raises(BadImage, match="not a regular file"):
        decode(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(BadImage, match="not a regular file"):
            decode(tmp_path / "pipe.png")
    if Path("/dev/zero").exists():
        with pytest.raises(BadImage, match="not a regular file"):
            decode(Path("/dev/zero"))


def test_file_name_with_null_byte_is_rejected() -> None:
    with pytest.raises(BadImage, match="cannot be read"):
        decode(Path("a\0b.png"))
