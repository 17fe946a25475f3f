"""Images of any number of channels: Pillow's operations on each, and every kind of file that holds them."""

from __future__ import annotations

import contextlib
import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from triscale.data.images.arrays import channel_axis
from triscale.data.images.bands import Bands, as_picture, from_array, to_array
from triscale.data.images.channels import to_channels, to_eight_bits
from triscale.data.images.color import BadImage, NotAnImage, to_rgb
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits, decode, open_image
from triscale.data.images.header import format_of

from .pictures import encode, noise, png, ramp

FIVE = np.concatenate([ramp(), 255 - ramp()[..., :2]], axis=-1)
"""uint8 [16, 24, 5], with different values in each channel."""


def npy(values: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def read(content: bytes, channels: int, limits: ImageLimits = DEFAULT_LIMITS, bit_depth: int = 16) -> np.ndarray:
    return to_array(decode(content, limits, bit_depth, channels))


def tifffile_bytes(values: np.ndarray, **options: object) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda size: arrays.arrays(np.uint8, (*size, 3))),
    st.sampled_from([Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(*[st.floats(0, 0.4)] * 4),
    st.sampled_from(list(Image.Transpose)),
)
def test_operations_on_three_bands_equal_those_on_rgb(values, resampling, size, margins, turn):
    rgb, bands = Image.fromarray(values), Bands.from_array(values)
    left, top, right, bottom = margins
    box = (left * rgb.width, top * rgb.height, (1 - right) * rgb.width, (1 - bottom) * rgb.height)
    whole = tuple(map(round, (box[0] - 1, box[1] - 1, box[2] + 2, box[3] + 2)))
    for one, other in (
        (rgb, bands),
        (rgb.resize(size, resampling), bands.resize(size, resampling)),
        (rgb.resize(size, resampling, box), bands.resize(size, resampling, box)),
        (rgb.resize((4, 4), resampling, reducing_gap=2.0), bands.resize((4, 4), resampling, reducing_gap=2.0)),
        (rgb.crop(whole), bands.crop(whole)),
        (rgb.transpose(turn), bands.transpose(turn)),
    ):
        assert (one.size, one.width, one.height) == (other.size, other.width, other.height)
        assert np.array_equal(np.asarray(one), other.to_array())


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_arrays_and_images_are_inverse(channels, height, width):
    values = np.random.default_rng(channels).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = from_array(values)
    assert np.array_equal(to_array(image), values)
    assert image.size == as_picture(image).size == (width, height)
    assert as_picture(image).mode == "RGB"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pictures_for_people_show_the_first_channels(channels):
    shown = np.asarray(as_picture(from_array(FIVE[..., :channels])))
    assert np.array_equal(shown, FIVE[..., :3] if channels >= 3 else np.repeat(FIVE[..., :1], 3, axis=-1))


def test_three_channels_are_as_without_the_option():
    for kind, options in (("PNG", {}), ("JPEG", {}), ("WEBP", {"lossless": True})):
        content = encode(noise(1, 40), kind, **options)
        assert decode(content, DEFAULT_LIMITS, 16, 3).tobytes() == decode(content).tobytes()


def test_gray_is_read_as_pillow_converts_it():
    picture = noise(2, 40)
    for content in (encode(picture, "PNG"), encode(picture, "JPEG"), encode(picture, "WEBP")):
        gray = decode(content, DEFAULT_LIMITS, 16, 1)
        assert gray.mode == "L"
        assert gray.tobytes() == decode(content).convert("L").tobytes()


def test_gray_files_keep_their_values():
    gray = noise(3, 64).convert("L")
    assert np.array_equal(read(encode(gray, "PNG"), 1)[..., 0], np.asarray(gray))
    content = encode(gray, "JPEG")
    assert np.array_equal(read(content, 1)[..., 0], np.asarray(Image.open(io.BytesIO(content))))
    turned = encode(gray.resize((64, 32)), "JPEG", exif=_exif(6))
    assert decode(turned, DEFAULT_LIMITS, 16, 1).size == (32, 64)


def test_gray_jpegs_are_decoded_at_a_reduced_size():
    content = encode(noise(4, 256).convert("L"), "JPEG")
    file = open_image(content, channels=1)
    assert file.can_reduce(4)
    assert (file.load(4).mode, open_image(content, channels=1).load(4).size) == ("L", (64, 64))


def test_gray_of_16_bits_is_scaled_by_its_depth():
    values = (ramp()[..., 0].astype(np.uint16) * 4)[..., None]
    content = encode(Image.fromarray(values[..., 0]), "PNG")
    assert np.array_equal(read(content, 1, bit_depth=10), values >> 2)
    opened = open_image(content, bit_depth=None, channels=1)
    assert opened.range.highest == values.max()
    assert np.array_equal(to_array(opened.load()), values >> 2)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}),
                          ("TIFF", {"compression": "tiff_lzw"})]
)  # fmt: skip
def test_fourth_channel_is_kept_as_data(kind, options):
    values = FIVE[..., :4].copy()
    values[:8, :, 3] = 0  # what is transparent in a picture
    content = encode(Image.fromarray(values), kind, **options)
    assert np.array_equal(read(content, 4), values)
    assert np.array_equal(read(content, 3), np.asarray(to_rgb(Image.fromarray(values))))


def test_gray_and_a_second_channel_are_two():
    values = FIVE[..., :2]
    assert np.array_equal(read(encode(Image.fromarray(values, "LA"), "PNG"), 2), values)


def test_exif_orientation_is_applied_to_every_channel():
    values = FIVE[..., :4]
    content = encode(Image.fromarray(values), "PNG", exif=_exif(6))
    assert np.array_equal(read(content, 4), np.rot90(values, -1))


def test_four_channels_of_16_bits_share_their_depth():
    values = FIVE[..., :4].astype(np.uint16) * 4
    content = png(values, 16, 6)
    opened = open_image(content, bit_depth=None, channels=4)
    assert opened.range.highest == values.max()
    assert np.array_equal(to_array(opened.load()), FIVE[..., :4])
    assert np.array_equal(read(content, 4), values >> 8)


@pytest.mark.parametrize("layout", [{"planarconfig": "contig"}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("channels", [2, 4, 5, 9])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiffs_of_many_bands_are_read(layout, channels, kind):
    eight = np.concatenate([FIVE, FIVE], axis=-1)[..., :channels]
    values = {np.uint8: eight, np.uint16: eight.astype(np.uint16) * 257, np.float32: eight.astype(np.float32) / 255}
    stored = values[kind] if layout["planarconfig"] == "contig" else np.moveaxis(values[kind], -1, 0)
    content = tifffile_bytes(stored, photometric="minisblack", **layout)
    assert np.array_equal(read(content, channels), eight)
    opened = open_image(content, bit_depth=None, channels=channels)
    assert opened.range.highest == (values[kind].max() if kind is np.uint16 else 0)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
def test_compressed_tiffs_are_read(compression):
    pytest.importorskip("imagecodecs")
    content = tifffile_bytes(
        FIVE, photometric="minisblack", planarconfig="contig", compression=compression, tile=(16, 16)
    )
    assert np.array_equal(read(content, 5), FIVE)


def test_truncated_tiffs_are_bad_images():
    pytest.importorskip("imagecodecs")
    content = tifffile_bytes(FIVE, photometric="minisblack", planarconfig="contig", compression="lzw", tile=(16, 16))
    for end in range(0, len(content), 3):
        with pytest.raises(BadImage):
            read(content[:end], 5)


def test_big_and_turned_tiffs_are_read():
    turned = [(274, "H", 1, 6, True)]
    for options in ({"bigtiff": True}, {"byteorder": ">"}):
        content = tifffile_bytes(FIVE, photometric="minisblack", planarconfig="contig", extratags=turned, **options)
        assert np.array_equal(read(content, 5), np.rot90(FIVE, -1))


def test_fourth_band_of_a_tiff_is_kept_whatever_it_is_called():
    for extra in ("unspecified", "assocalpha", "unassalpha"):
        content = tifffile_bytes(FIVE[..., :4], photometric="rgb", extrasamples=[extra])
        assert np.array_equal(read(content, 4), FIVE[..., :4]), extra


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_channel_on_each_page_is_read(kind):
    values = FIVE / np.float32(255) if kind is np.float32 else FIVE.astype(kind) * (257 if kind is np.uint16 else 1)
    pages = [Image.fromarray(np.ascontiguousarray(values[..., i]).astype(kind)) for i in range(5)]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(read(content, 5), FIVE)
    assert np.array_equal(read(content, 1)[..., 0], FIVE[..., 0])  # the first page, as without channels
    with pytest.raises(BadImage, match="has 5 pages of one channel; expected 4"):
        read(content, 4)


def test_overviews_are_not_channels():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for band in range(2):
            writer.write(FIVE[..., band])
        writer.write(FIVE[::2, ::2, 0], subfiletype=1)
    assert np.array_equal(read(buffer.getvalue(), 2), FIVE[..., :2])


def test_missing_library_for_tiffs_is_named_with_the_command(monkeypatch):
    content = tifffile_bytes(FIVE, photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(BadImage, match=r'5 channels is read with tifffile; install it .* "triscale\[tiff]"'):
        read(content, 5)


@pytest.mark.parametrize("values", [FIVE, np.moveaxis(FIVE, -1, 0), np.asfortranarray(FIVE)])
def test_arrays_of_channels_are_read(values):
    assert format_of(npy(values)) == "NPY"
    assert np.array_equal(read(npy(values), 5), FIVE)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (FIVE.astype(">u2") * 257, FIVE),
        (FIVE.astype(np.float32) / 255, FIVE),
        (FIVE / 255, FIVE),
        (FIVE.astype(np.float16) / 255, FIVE),
        (FIVE > 100, np.where(FIVE > 100, 255, 0)),
    ],
    ids=["uint16", "float32", "float64", "float16", "bool"],
)
def test_values_of_arrays_become_8_bits(values, expected):
    assert np.array_equal(read(npy(values), 5), expected)


def test_arrays_of_gray_and_rgb_are_read_as_pictures():
    rgb = FIVE[..., :3]
    assert np.array_equal(read(npy(rgb), 3), rgb)
    assert np.array_equal(read(npy(rgb[..., 0]), 1)[..., 0], rgb[..., 0])
    assert np.array_equal(read(npy(rgb[..., 0]), 3), np.repeat(rgb[..., :1], 3, axis=-1))
    assert np.array_equal(read(npy(rgb), 1)[..., 0], np.asarray(Image.fromarray(rgb).convert("L")))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_axis_of_channels_is_the_one_of_their_number(first, second, third, channels):
    shape = (first, second, third)
    axis = channel_axis(shape, channels)
    if third == channels:
        assert axis == -1
    elif first == channels:
        assert axis == 0
    else:
        assert shape[axis] == min(first, third)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6)).flatmap(
        lambda shape: arrays.arrays(np.uint8, shape)
    ),
    st.booleans(),
)
def test_arrays_survive_a_round_trip(values, is_first):
    channels = values.shape[-1]
    stored = np.moveaxis(values, -1, 0) if is_first and values.shape[1] != channels else values
    assert np.array_equal(read(npy(np.ascontiguousarray(stored)), channels), values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (FIVE.astype(np.float32), "floating-point values from 0 to 255; expected 0 to 1"),
        (np.full((4, 4, 5), np.nan), "no finite numbers"),
        (FIVE.astype(np.int64), "values of type int64; expected uint8, uint16, or floats from 0 to 1"),
        (FIVE.astype(np.complex64), "values of type complex64; expected"),
        (np.zeros((4, 4), [("a", "u1")]), "an array of type .*; expected uint8"),
        (np.full((4, 4), None), "an array of type object; expected uint8"),
    ],
)
def test_arrays_of_other_values_are_refused(values, reason):
    with pytest.raises(BadImage, match=reason):
        read(npy(values, allow_pickle=True), 5)


@pytest.mark.parametrize("shape", [(5,), (), (2, 3, 4, 5), (0, 4, 3)])
def test_arrays_of_other_shapes_are_not_images(shape):
    content = npy(np.zeros(shape, np.uint8))
    assert format_of(content) is None
    with pytest.raises(NotAnImage, match=r"an array of shape \[.*; expected \[H, W], \[H, W, C] or \[C, H, W]"):
        read(content, 3)


def test_arrays_are_checked_by_their_header():
    content = npy(np.zeros((100, 200, 5), np.uint8))
    with pytest.raises(BadImage, match="200 x 100 pixels, more than the limit"):
        read(content[:128], 5, ImageLimits(pixels=19_999))
    assert read(content, 5, ImageLimits(pixels=20_000)).shape == (100, 200, 5)
    with pytest.raises(BadImage, match="truncated array"):
        read(content[:-1], 5)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_damaged_arrays_are_bad_images(noise, start):
    content = bytearray(npy(FIVE))
    content[start : start + len(noise)] = noise
    for damaged in (bytes(content), b"\x93NUMPY\x01\0" + noise, b"\x93NUMPY\x03\0" + noise):
        with contextlib.suppress(BadImage):
            read(damaged, 5)


@pytest.mark.parametrize(
    ("content", "channels", "reason"),
    [
        (npy(FIVE), 3, "has 5 channels; expected 3; train on them with --channels 5"),
        (npy(FIVE[..., :4]), 1, "has 4 channels; expected 1; train on them with --channels 4"),
        (npy(FIVE), 4, "has 5 channels; expected 4; save all images with 4, or train on them with --channels 5"),
        (npy(FIVE[..., 0]), 2, "has 1 channel; expected 2"),
        (encode(noise(1), "PNG"), 4, "has 3 channels; expected 4"),
        (encode(noise(1), "JPEG"), 4, "has 3 channels; expected 4"),
        (encode(noise(1).convert("L"), "JPEG"), 5, "has 1 channel; expected 5"),
        (encode(noise(1).convert("P"), "GIF"), 4, "has 3 channels; expected 4"),
        (encode(noise(1).convert("CMYK"), "JPEG"), 4, "mode CMYK, which are not plain channels"),
        (encode(noise(1), "TIFF"), 4, "has 3 channels; expected 4"),
        (encode(noise(1).convert("L"), "TIFF"), 4, "has 1 channel; expected 4"),
    ],
)
def test_another_number_of_channels_is_named_with_the_option(content, channels, reason):
    with pytest.raises(BadImage, match=reason):
        read(content, channels)


def test_wrong_number_of_bands_in_a_tiff_needs_no_library(monkeypatch):
    content = tifffile_bytes(FIVE, photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(BadImage, match="has 5 channels; expected 3; train on them with --channels 5"):
        read(content, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_tiffs_from_0_to_1_are_read(channels):
    gray = FIVE[..., 0]
    content = encode(Image.fromarray(gray / np.float32(255)), "TIFF")
    assert np.array_equal(read(content, channels), np.repeat(gray[..., None], channels, axis=-1))


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_values_of_16_bits_keep_their_upper_bits(depth):
    values = np.arange(1 << depth, dtype=np.uint16)
    eight, (_, highest) = to_eight_bits(values, None)
    assert highest == values.max()
    assert np.array_equal(eight, values >> (depth - 8))


def test_loaded_images_are_converted_like_files():
    values = FIVE[..., :4]
    image = Image.fromarray(values)
    assert np.array_equal(to_array(to_channels(image, 4)), values)
    assert to_channels(image, 3).tobytes() == to_rgb(image).tobytes()
    assert to_channels(image, 1).tobytes() == to_rgb(image).convert("L").tobytes()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
