"""AVIF, HEIC and JPEG XL are read as strictly as the other formats, or named with what to install."""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from triscale.data.images.color import BadImage
from triscale.data.images.decode import ImageLimits, decode
from triscale.data.images.header import format_of, jxl_size

from .pictures import encode, ramp

PICTURE = Image.fromarray(ramp(48, 32))
LIBRARIES = {"AVIF": "PIL.AvifImagePlugin", "HEIF": "pillow_heif", "JXL": "pillow_jxl"}


@pytest.fixture(params=LIBRARIES)
def kind(request: pytest.FixtureRequest) -> str:
    """A format whose library is installed."""
    library = pytest.importorskip(LIBRARIES[request.param], reason=f"{LIBRARIES[request.param]} is not installed")
    if request.param == "HEIF":
        library.register_heif_opener()
    if request.param == "AVIF" and not library.SUPPORTED:
        pytest.skip("this Pillow has no AVIF")
    return request.param


def made(kind: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    return encode(image, kind, **({"lossless": True} if kind == "JXL" else {"quality": 95}), **options)


def test_pixels_are_read(kind):
    content = made(kind)
    assert format_of(content) == kind
    assert np.abs(np.asarray(decode(content)).astype(int) - ramp(48, 32)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind, orientation):
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a[:, ::-1].transpose(1, 0, 2),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a[::-1].transpose(1, 0, 2),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](ramp(48, 32))))
    if kind == "JXL":  # its orientation is in its header, which the encoder leaves at 1; EXIF is for information only
        assert decode(made(kind, stored, exif=exif.tobytes())).size == stored.size
        return
    image = decode(made(kind, stored, exif=exif.tobytes()))
    assert image.size == (48, 32)
    assert np.abs(np.asarray(image).astype(int) - ramp(48, 32)).mean() < 4


def test_transparency_is_put_on_mid_gray(kind):
    transparent = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert np.abs(np.asarray(decode(made(kind, transparent))).astype(int) - 128).max() <= 2


def test_gray_images_are_read(kind):
    assert np.abs(np.asarray(decode(made(kind, Image.new("L", (32, 32), 70)))).astype(int) - 70).max() <= 3


def test_truncation_is_never_silently_misread(kind, capfd):
    content = made(kind)
    whole = np.asarray(decode(content))
    for length in {*range(0, len(content), 29), *range(len(content) - 8, len(content))}:
        try:
            cut = np.asarray(decode(content[:length]))
        except BadImage:
            continue
        assert np.array_equal(cut, whole)


def test_corrupted_bytes_give_image_or_error(kind, capfd):
    content, chance = made(kind), random.Random(0)
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 10])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(BadImage):
            assert decode(bytes(damaged), ImageLimits(pixels=1_000_000)).mode == "RGB"


def test_limits_are_checked_before_decoding(kind):
    with pytest.raises(BadImage, match=r"48 x 32 pixels, more than the limit of 100; .*--max-pixels"):
        decode(made(kind), ImageLimits(pixels=100))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 7), (640, 480), (1920, 1080), (2000, 17), (256, 256)])
def test_size_of_jpeg_xl_is_read_from_its_header(size):
    pytest.importorskip("pillow_jxl", reason="pillow_jxl is not installed")
    assert jxl_size(encode(Image.new("RGB", size), "JXL")) == size
    assert jxl_size(encode(Image.new("RGB", size), "JXL", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")) == size


HEADS = {
    "HEIF": b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf",
    "JXL": b"\xff\x0a\x09\x07\0\x15",
}


@pytest.mark.parametrize(("kind", "title"), [("HEIF", "HEIC"), ("JXL", "JPEG XL")])
def test_missing_library_is_named_with_the_command(kind, title, monkeypatch):
    monkeypatch.setitem(
        sys.modules, {"HEIF": "pillow_heif.as_plugin", "JXL": "pillow_jxl.JpegXLImagePlugin"}[kind], None
    )
    extra = {"HEIF": "heif", "JXL": "jxl"}[kind]
    with pytest.raises(BadImage, match=rf'{title}.* pip install "triscale\[{extra}\]", or convert it to PNG or JPEG'):
        decode(HEADS[kind])


def test_pillow_without_avif_is_named(monkeypatch):
    monkeypatch.setattr(importlib.import_module("PIL.AvifImagePlugin"), "SUPPORTED", False)
    with pytest.raises(BadImage, match=r'AVIF.* pip install "pillow>=11.3"'):
        decode(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1")


@pytest.mark.parametrize(
    ("brands", "expected"),
    [(b"heic", "HEIF"), (b"mif1", "HEIF"), (b"mif1\0\0\0\0avif", "AVIF"), (b"avis", "AVIF"), (b"isom", None)],
)
def test_brands(brands, expected):
    content = b"ftyp" + brands.ljust(8, b"\0") if len(brands) == 4 else b"ftyp" + brands
    assert format_of(bytes((0, 0, 0, len(content) + 4)) + content) == expected
