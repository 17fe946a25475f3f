"""Images with 16 bits per channel whose values use fewer bits are scaled by the range of the whole data set."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triscale.data.images.decode import decode, open_image
from triscale.data.images.deep import bit_depth_of
from triscale.data.options import DataOptions
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Split, make_split
from triscale.network.contract import BIT_DEPTHS, Preprocessing

from .pictures import chunk, png, ramp, tiff


def values_of(depth: int, channels: int = 1) -> np.ndarray:
    """Return a picture whose values reach the end of a depth; an alpha channel is opaque."""
    picture = np.round(ramp().astype(float) / 255 * ((1 << depth) - 1)).astype(np.uint16)
    if channels in (1, 2):
        picture = picture[..., :1]
    if channels in (2, 4):
        picture = np.concatenate([picture, np.full_like(picture[..., :1], 65535)], axis=-1)
    return picture


def encode(kind: str, depth: int) -> bytes:
    if kind == "gray PNG":
        return png(values_of(depth), 16, 0)
    if kind == "interlaced RGB PNG":
        return png(values_of(depth, 3), 16, 2, interlaced=True)
    if kind.endswith("PNG"):
        color, channels = {"gray and alpha PNG": (4, 2), "RGB PNG": (2, 3), "RGBA PNG": (6, 4)}[kind]
        return png(values_of(depth, channels), 16, color)
    if kind == "PPM":
        return b"P6\n24 16\n65535\n" + values_of(depth, 3).astype(">u2").tobytes()
    if kind == "PGM":
        return b"P5\n24 16\n65535\n" + values_of(depth).astype(">u2").tobytes()
    if kind == "gray TIFF":
        return tiff(values_of(depth).tobytes(), (24, 16), {258: 16, 262: 1})
    buffer = io.BytesIO()
    Image.fromarray(values_of(depth)[..., 0]).save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()


KINDS = (
    "gray PNG",
    "gray and alpha PNG",
    "RGB PNG",
    "RGBA PNG",
    "interlaced RGB PNG",
    "PGM",
    "PPM",
    "gray TIFF",
    "LZW TIFF",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", BIT_DEPTHS)
def test_values_are_scaled_by_the_bits_that_they_use(kind, depth):
    content = encode(kind, depth)
    opened = open_image(content, bit_depth=None)
    assert bit_depth_of(opened.range.highest) == depth
    expected = np.broadcast_to(values_of(depth, 3 if "RGB" in kind or kind == "PPM" else 1) >> (depth - 8), (16, 24, 3))
    assert np.abs(np.asarray(opened.load()).astype(int) - expected).max() <= (kind == "PPM" and depth == 16)
    assert decode(content, bit_depth=depth).tobytes() == open_image(content, bit_depth=None).load().tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_values_above_the_depth_are_white(kind):
    pixels = np.asarray(decode(encode(kind, 12), bit_depth=10))
    assert pixels.max() == 255
    assert len(np.unique(pixels)) > 5


def color_tiff(values: np.ndarray, order: str) -> bytes:
    """Write an uncompressed TIFF of 16 bits in each of several channels."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    depths = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8 + len(data)), (259, 4, 1, 1), (262, 4, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 4, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))]
    tags += [(338, 4, 1, 2)] if channels == 4 else []
    entries = b"".join(struct.pack(f"{order}HHLL", *tag) for tag in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", 8 + len(data) + len(depths))
    return head + data + depths + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("depth", [8, 12, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_of_several_channels(depth, order, channels):
    values = values_of(depth, channels)
    opened = open_image(color_tiff(values, order), bit_depth=None)
    assert bit_depth_of(opened.range.highest) == depth
    assert (np.asarray(opened.load()) == values[..., :3] >> (depth - 8)).all()


def test_8_bit_images_and_declared_ranges_are_not_scaled():
    picture = io.BytesIO()
    Image.fromarray(ramp() // 4).save(picture, "PNG")
    assert open_image(picture.getvalue(), bit_depth=None).range.highest == 0
    assert decode(picture.getvalue(), bit_depth=8).tobytes() == (ramp() // 4).tobytes()
    declared = b"P5\n24 16\n4095\n" + values_of(10).astype(">u2").tobytes()
    assert open_image(declared, bit_depth=None).range.highest == 0
    assert decode(declared, bit_depth=8).tobytes() == decode(declared).tobytes()


def test_transparent_color_stays_transparent():
    values = np.full((4, 4, 3), 900, np.uint16)
    values[0, 0] = (1, 2, 3)
    content = png(values, 16, 2, chunk(b"tRNS", np.array([1, 2, 3], ">u2").tobytes()))
    image = decode(content, bit_depth=10)
    assert image.getpixel((0, 0)) == (128, 128, 128)
    assert image.getpixel((1, 1)) == (225, 225, 225)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 12-bit values in 16-bit files, of which one image reaches 12 bits."""
    for number, name in enumerate("xy"):
        (tmp_path / name).mkdir()
        for index in range(6):
            top = 4000 if (number, index) == (0, 0) else 700
            picture = np.random.default_rng(10 * number + index).integers(0, top, (16, 16)).astype(np.uint16)
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_one_depth_is_measured_for_the_data_set(images):
    found = scan(images)
    assert found.bit_depth == 12
    assert "read as 12-bit values; --bit-depth 16" in found.notes[0]
    split = make_split(found)
    assert split.bit_depth == 12
    assert Split.from_json(split.to_json()) == split
    (batch,) = eval_batches(split.train, split.root, Preprocessing(resolution=16, bit_depth=split.bit_depth), batch=64)
    assert 10 < batch.images.float().mean() < 60
    assert scan(images).bit_depth == 12  # from the cache


def write_values(root: Path, *pictures: np.ndarray) -> Path:
    """Write 16-bit images of two classes in turn."""
    for number, picture in enumerate(pictures):
        folder = root / "xy"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint16)).save(folder / f"{number}.png")
    return root


def noise(low: int, high: int, seed: int) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(low, high + 1, (16, 16))
    picture[0, :2] = low, high
    return picture


@pytest.mark.parametrize(("bits", "count"), [(8, 30), (10, 30), (12, 30), (10, 4)])
def test_hot_pixel_of_one_file_is_named_with_the_depth_of_the_others(tmp_path, bits, count):
    pictures = [noise(0, (1 << bits) - 1, seed) for seed in range(count)]
    pictures[7 % count][3, 3] = 65535
    found = scan(write_values(tmp_path, *pictures))
    assert found.bit_depth == 16
    (note,) = found.notes
    assert note.startswith(f"only 1 of {count} 16-bit image has values of more than {bits} bits (up to 65535 in ")
    assert f"--bit-depth {bits}, which" in note
    (note,) = scan(tmp_path, options=DataOptions(bit_depth=bits)).notes
    assert "become white" in note


def test_images_of_many_depths_are_not_called_errors(tmp_path):
    pictures = [noise(0, 65535 if seed % 5 == 0 else 1023, seed) for seed in range(30)]
    assert scan(write_values(tmp_path, *pictures)).notes == ()


@pytest.mark.parametrize(("low", "high", "levels", "depth"), [(7400, 8799, 23, 14), (1000, 1255, 17, 12)])
def test_few_gray_levels_are_named(tmp_path, low, high, levels, depth):
    found = scan(write_values(tmp_path, *(noise(low, high, seed) for seed in range(12))))
    assert found.bit_depth == depth
    assert f"lie between {low} and {high}, which leaves {levels} of 256 gray levels at {depth} bits" in found.notes[-1]
    image = decode((tmp_path / "x" / "0.png").read_bytes(), bit_depth=depth)
    assert np.ptp(np.asarray(image)) + 1 == levels


def test_dead_pixels_do_not_hide_that_few_gray_levels_are_used(tmp_path):
    pictures = [noise(7400, 8799, seed) for seed in range(40)]
    pictures[0][5, 5], pictures[1][5, 5] = 0, 16383
    assert "lie between 7400 and 8799" in " ".join(scan(write_values(tmp_path, *pictures)).notes)


def test_values_over_most_of_the_range_cause_no_note_on_gray_levels(tmp_path):
    found = scan(write_values(tmp_path, *(noise(1200, 3900, seed) for seed in range(12))))
    assert len(found.notes) == 1


def test_depth_can_be_set(images):
    assert "become white" in scan(images, options=DataOptions(bit_depth=10)).notes[0]
    assert scan(images, options=DataOptions(bit_depth=16)).bit_depth == 16
    assert "--bit-depth 12 fits" in scan(images, options=DataOptions(bit_depth=16)).notes[0]
    assert scan(images, options=DataOptions(bit_depth=12)).notes == ()


def test_full_depth_is_left_out_of_contract_and_split():
    assert "bit_depth" not in json.loads(Preprocessing(resolution=32).to_json())
    assert json.loads(Preprocessing(resolution=32, bit_depth=12).to_json())["bit_depth"] == 12
    assert Preprocessing.from_json(Preprocessing(resolution=32).to_json()).bit_depth == 16
