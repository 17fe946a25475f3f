"""Every color mode is converted to the RGB values that it denotes, within one level."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sizes import figure
from triscale.data.images.color import BadImage
from triscale.data.images.decode import decode

from .pictures import chunk, encode, png, ramp, tiff

RGB = ramp()
GRAY = RGB[..., 0]
ALPHA = RGB[..., 1]
PICTURE = Image.fromarray(RGB)
DEEP = np.linspace(0, 65535, GRAY.size).round().astype(np.uint16).reshape(GRAY.shape)
SIZE = (GRAY.shape[1], GRAY.shape[0])


def three(gray: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(gray)[..., None], 3, axis=2)


def over_gray(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 128 * (1 - share)


def cmyk_as_rgb(cmyk: np.ndarray) -> np.ndarray:
    ink = cmyk.astype(float) / 255
    return 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


def palette_case(transparency: int | bytes | None, kind: str = "PNG") -> tuple[bytes, np.ndarray]:
    indexed = PICTURE.quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    colors = np.asarray(indexed.convert("RGB")).astype(float)
    alpha = np.full(256, 255)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    elif transparency:
        alpha[: len(transparency)] = list(transparency)
    return encode(indexed, kind, **options), over_gray(colors, alpha[np.asarray(indexed)])


def lab_case() -> tuple[bytes, np.ndarray]:
    """Lab of the D50 white to sRGB, by the formulas of CIE 15 and IEC 61966-2-1."""
    lightness = np.linspace(90, 180, GRAY.size).reshape(GRAY.shape)
    lab = np.dstack([lightness, 20 - ALPHA / 8, GRAY / 10 - 12]).round()
    fy = (lab[..., 0] * 100 / 255 + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    from_d50 = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = xyz @ np.array(from_d50).T
    rgb = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0.001) ** (1 / 2.4) - 0.055)
    image = Image.frombytes("LAB", SIZE, lab.astype(np.int64).astype(np.uint8).tobytes())
    return encode(image, "TIFF"), rgb.round()


def cases() -> dict[str, tuple[bytes, np.ndarray]]:
    bits = (RGB[..., 0] > 90).astype(np.uint8)
    wide = RGB.astype(np.uint16) * 257
    cmyk = np.dstack([RGB, RGB[..., 0] // 3])
    flat_cmyk = np.full((16, 16, 4), (40, 90, 160, 30), np.uint8)
    ycc = PICTURE.convert("YCbCr")
    low12 = DEEP >> 4
    packed12 = np.packbits(((low12.reshape(-1, 1) >> np.arange(11, -1, -1)) & 1).astype(np.uint8)).tobytes()
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    gray_alpha = Image.fromarray(np.dstack([GRAY, ALPHA]), "LA")
    keyed = np.where(GRAY == 0, 0, 255)
    return {
        "1-bit PNG": (png(bits, 1, 0), three(bits * 255)),
        "2-bit gray PNG": (png(GRAY >> 6, 2, 0), three((GRAY >> 6) * 85)),
        "4-bit gray PNG": (png(GRAY >> 4, 4, 0), three((GRAY >> 4) * 17)),
        "8-bit gray PNG": (png(GRAY, 8, 0), three(GRAY)),
        "16-bit gray PNG": (png(DEEP, 16, 0), three(DEEP / 257)),
        "8-bit gray PNG with a transparent value": (
            png(GRAY, 8, 0, chunk(b"tRNS", b"\0\0")),
            over_gray(three(GRAY), keyed),
        ),
        "16-bit gray PNG with a transparent value": (
            png(DEEP, 16, 0, chunk(b"tRNS", b"\xff\xff")),
            over_gray(three(DEEP / 257), np.where(DEEP == 65535, 0, 255)),
        ),
        "gray and alpha PNG": (encode(gray_alpha, "PNG"), over_gray(three(GRAY), ALPHA)),
        "16-bit gray and alpha PNG": (png(wide[..., :2], 16, 4), over_gray(three(GRAY), ALPHA)),
        "RGB PNG": (encode(PICTURE, "PNG"), RGB),
        "RGB PNG with a transparent color": (
            encode(PICTURE, "PNG", transparency=tuple(RGB[3, 4].tolist())),
            over_gray(RGB, np.where((RGB[3, 4] == RGB).all(axis=-1), 0, 255)),
        ),
        "48-bit RGB PNG": (png(wide, 16, 2), RGB),
        "48-bit RGB PNG with a transparent color": (
            png(wide, 16, 2, chunk(b"tRNS", wide[3, 4].astype(">u2").tobytes())),
            over_gray(RGB, np.where((RGB[3, 4] == RGB).all(axis=-1), 0, 255)),
        ),
        "RGBA PNG": (encode(rgba, "PNG"), over_gray(RGB, ALPHA)),
        "64-bit RGBA PNG": (png(np.dstack([wide, wide[..., 1]]), 16, 6), over_gray(RGB, ALPHA)),
        "palette PNG": palette_case(None),
        "palette PNG with a transparent entry": palette_case(5),
        "palette PNG with alpha entries": palette_case(bytes([0, 40, 80, 200])),
        "palette GIF": palette_case(None, "GIF"),
        "palette GIF with a transparent entry": palette_case(5, "GIF"),
        "palette BMP": palette_case(None, "BMP"),
        "CMYK TIFF": (encode(Image.fromarray(cmyk, "CMYK"), "TIFF"), cmyk_as_rgb(cmyk)),
        "CMYK JPEG": (
            encode(Image.fromarray(flat_cmyk, "CMYK"), "JPEG", quality=100, subsampling=0),
            cmyk_as_rgb(flat_cmyk),
        ),
        "gray JPEG": (encode(Image.fromarray(np.full((16, 16), 77, np.uint8)), "JPEG"), np.full((16, 16, 3), 77)),
        "YCbCr TIFF": (encode(ycc, "TIFF"), np.asarray(ycc.convert("RGB"))),
        "Lab TIFF": lab_case(),
        "1-bit TIFF of fax compression": (
            encode(Image.fromarray(bits * 255).convert("1"), "TIFF", compression="group4"),
            three(bits * 255),
        ),
        "12-bit TIFF": (tiff(packed12, SIZE, {258: 12, 262: 1}), three(low12 / 4095 * 255)),
        "16-bit TIFF": (encode(Image.fromarray(DEEP), "TIFF"), three(DEEP / 257)),
        "16-bit TIFF where 0 is white": (tiff(DEEP.tobytes(), SIZE, {258: 16, 262: 0}), three(255 - DEEP / 257)),
        "8-bit TIFF where 0 is white": (tiff(GRAY.tobytes(), SIZE, {258: 8, 262: 0}), three(255 - GRAY)),
        "16-bit big-endian TIFF": (
            encode(Image.frombytes("I;16B", SIZE, DEEP.astype(">u2").tobytes()), "TIFF"),
            three(DEEP / 257),
        ),
        "32-bit TIFF of 16-bit values": (encode(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), three(DEEP / 257)),
        "16-bit PGM": (b"P5 %d %d 65535\n" % SIZE + DEEP.astype(">u2").tobytes(), three(DEEP / 257)),
        "1-bit PBM": (b"P4 %d %d\n" % SIZE + np.packbits(1 - bits, axis=1).tobytes(), three(bits * 255)),
        "RGBA WEBP": (encode(rgba, "WEBP", lossless=True, exact=True), over_gray(RGB, ALPHA)),
        "32-bit BMP, whose fourth byte means nothing": (encode(rgba, "BMP"), RGB),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_every_color_mode_becomes_rgb_within_one_level(name: str) -> None:
    content, expected = CASES[name]
    image = decode(content)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(float) - expected).max() <= 1
    figure(7, "color modes within one level", 1, 1)


@pytest.mark.parametrize(
    "values",
    [np.linspace(0, 2, 64, dtype=np.float32), np.full(64, 70_000, np.int32), np.full(64, -1, np.int32)],
    ids=["floats", "too large", "negative"],
)
def test_values_of_unknown_range_are_rejected(values: np.ndarray) -> None:
    with pytest.raises(BadImage, match=r"(pixel|floating-point) values.*scale"):
        decode(encode(Image.fromarray(values.reshape(8, 8)), "TIFF"))
