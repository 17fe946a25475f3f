"""Training crops of JPEGs draw the same numbers as torchvision, and reduced decoding changes pixels only slightly."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2

from triscale.data.images.color import BadImage
from triscale.data.images.decode import LazyImage, decode, open_image
from triscale.data.images.transforms import Augmentation, TrainTransform, torchcodec_decoder, train_transform
from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import DataError
from triscale.network.contract import Preprocessing

WIDE = Augmentation(crop_area=(0.08, 1.0))
PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # two photographs of 640 x 427


@pytest.fixture(scope="module")
def decoder() -> Callable[[bytes], Tensor]:
    pytest.importorskip("torchcodec")
    return torchcodec_decoder()


def as_jpeg(image: Image.Image, *, turn: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, exif=exif, **options)
    return stream.getvalue()


def drawn(transform: Callable[[object], Tensor], image: object, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return transform(image).numpy().astype(int)


@pytest.mark.parametrize("size", [(640, 427), (61, 300), (300, 61), (17, 19)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_crops_and_flips_match_torchvision(size, interpolation):
    image = PHOTOS[0].resize(size)
    mode = v2.InterpolationMode(interpolation)
    steps = [
        v2.RandomResizedCrop(32, scale=(0.08, 1.0), interpolation=mode),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
    ]
    theirs, ours = v2.Compose(steps), train_transform(Preprocessing(resolution=32, interpolation=interpolation), WIDE)
    for seed in range(30):
        assert np.array_equal(drawn(ours, image, seed), drawn(theirs, image, seed))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [48, 80])
@pytest.mark.stress
def test_reduced_decoding_differs_by_half_a_level_on_average(turn, interpolation, side):
    transform = train_transform(Preprocessing(resolution=side, interpolation=interpolation), Augmentation())
    differences = []
    for seed in range(20):
        content = as_jpeg(PHOTOS[seed % 2].crop((0, 0, 640, 424)), turn=turn)
        full, file = decode(content), open_image(content)
        assert file.size == full.size
        differences.append(np.abs(drawn(transform, file, seed) - drawn(transform, full, seed)))
    assert max(part.mean() for part in differences) <= 2
    assert np.mean(differences) <= 1
    assert np.mean(differences) > 0  # some were reduced


@pytest.mark.parametrize("turn", [1, 6])
def test_unreducible_images_decode_identically(turn):
    transform = train_transform(Preprocessing(resolution=112), WIDE)
    for seed in range(10):
        for image in (PHOTOS[0], PHOTOS[0].convert("L"), PHOTOS[0].convert("CMYK")):
            content = as_jpeg(image, turn=turn)
            assert np.array_equal(drawn(transform, open_image(content), seed), drawn(transform, decode(content), seed))
    sideways = as_jpeg(PHOTOS[0].crop((0, 0, 639, 427)), turn=turn)
    assert open_image(sideways).can_reduce(2) == (turn == 1)


def test_random_state_does_not_depend_on_decoding():
    transform = train_transform(Preprocessing(resolution=48), Augmentation(policy="autoaugment", erase=0.5))
    content = as_jpeg(PHOTOS[1])
    for seed in range(5):
        drawn(transform, open_image(content), seed)
        after = torch.get_rng_state()
        drawn(transform, decode(content), seed)
        assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduced_image_is_the_mean_of_squares(scale):
    image = PHOTOS[1].crop((0, 0, 640, 424))
    content = as_jpeg(image, subsampling=0)
    small = np.asarray(open_image(content).load(scale)).astype(int)
    assert small.shape == (424 // scale, 640 // scale, 3)
    means = np.asarray(decode(content)).reshape(424 // scale, scale, 640 // scale, scale, 3).mean((1, 3))
    assert np.abs(small - means).mean() < 1.5


@pytest.mark.parametrize("scale", [1, 2])
def test_truncated_file_is_detected_at_any_scale(scale):
    content = as_jpeg(PHOTOS[0])
    with pytest.raises(BadImage, match="damaged JPEG"):
        open_image(content[: len(content) // 2]).load(scale)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_torchcodec_pixels_match_pillow(turn, options, decoder):
    for image in (PHOTOS[0], PHOTOS[0].convert("L")):
        content = as_jpeg(image, turn=turn, **options)
        assert np.array_equal(decoder(content).permute(1, 2, 0).numpy(), np.asarray(decode(content)))


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 12)])
def test_torchcodec_crops_are_close_to_pillow(interpolation, most, decoder):
    preprocessing = Preprocessing(resolution=112, interpolation=interpolation)
    fast, plain = (train_transform(preprocessing, WIDE, each) for each in (decoder, None))
    for seed in range(24):
        content = as_jpeg(PHOTOS[seed % 2], turn=1 + seed % 8)
        difference = np.abs(drawn(fast, open_image(content), seed) - drawn(plain, open_image(content), seed))
        assert difference.mean() < 0.25
        assert difference.max() <= most


def test_torchcodec_crops_get_same_augmentation(decoder):
    augmentation = WIDE.model_copy(update={"policy": "autoaugment", "erase": 0.5})
    fast, plain = (train_transform(Preprocessing(resolution=112), augmentation, each) for each in (decoder, None))
    for seed in range(10):
        content = as_jpeg(PHOTOS[seed % 2])
        varied = drawn(fast, open_image(content), seed)
        after = torch.get_rng_state()
        # An operation on colors may make much of one level; another operation would make far more.
        assert np.median(np.abs(varied - drawn(plain, open_image(content), seed))) <= 1
        assert torch.equal(torch.get_rng_state(), after)


def test_pillow_is_used_where_torchcodec_differs(decoder):
    transform = train_transform(Preprocessing(resolution=64), WIDE, decoder)
    stream = io.BytesIO()
    PHOTOS[0].save(stream, "PNG")
    for content in (stream.getvalue(), as_jpeg(PHOTOS[0].convert("CMYK"))):
        assert open_image(content).jpeg is None
        assert np.array_equal(drawn(transform, open_image(content), 3), drawn(transform, decode(content), 3))
    nearest = TrainTransform(Preprocessing(resolution=64, interpolation="nearest"), WIDE, decoder)
    content = as_jpeg(PHOTOS[0])
    assert np.array_equal(drawn(nearest, open_image(content), 3), drawn(nearest, decode(content), 3))


def test_torchcodec_reports_a_damaged_file(decoder):
    with pytest.raises(BadImage, match="damaged JPEG"):
        decoder(as_jpeg(PHOTOS[0])[:5000])


def test_missing_torchcodec_is_reported(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchcodec.decoders", None)
    with pytest.raises(DataError, match=r"pip install 'triscale\[fast\]'"):
        torchcodec_decoder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs whose crops for 48 px are decoded at a reduced size, and small ones that are cached."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(24):
        path = root / ("china", "flower")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture = PHOTOS[number % 2].crop((number, 0, 600 + number, 400))
        path.write_bytes(as_jpeg(picture if number % 3 else picture.resize((90, 60))))
    return root


@pytest.mark.parametrize("fast", [False, True])
def test_workers_and_cache_do_not_change_reduced_images(folder, fast, request):
    decode_jpeg = request.getfixturevalue("decoder") if fast else None
    split = make_split(scan(folder))

    def epochs(workers: int, cache_bytes: int) -> list[Tensor]:
        with TrainLoader(
            split,
            Preprocessing(resolution=48),
            Augmentation(),
            batch=5,
            seed=3,
            workers=workers,
            cache_bytes=cache_bytes,
            decode_jpeg=decode_jpeg,
        ) as loader:
            return [batch.images for epoch in (0, 0, 1) for batch in loader.epoch(epoch)]

    expected = epochs(0, 0)
    for workers, cache_bytes in ((0, 1 << 28), (0, 60_000), (2, 1 << 28)):
        assert all(torch.equal(a, b) for a, b in zip(epochs(workers, cache_bytes), expected, strict=True))


def test_decoded_image_reports_full_size():
    file = LazyImage(PHOTOS[0])
    assert (file.size, file.jpeg, file.can_reduce(2), file.load()) == (PHOTOS[0].size, None, False, PHOTOS[0])
