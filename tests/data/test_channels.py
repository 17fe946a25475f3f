"""Data sets of 1, 2, 4 and 5 channels, from the scan to batches."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triscale.data.checks.contact_sheet import contact_sheet
from triscale.data.checks.duplicates import find_duplicates
from triscale.data.images.bands import Bands, from_array
from triscale.data.images.fingerprint import fingerprints_of, shrink
from triscale.data.images.transforms import Augmentation, TrainTransform, check_channels, eval_transform
from triscale.data.options import DataOptions
from triscale.data.pipeline.loader import TrainLoader, eval_batches
from triscale.data.pipeline.moments import channel_moments
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Sample, make_split
from triscale.data.sources import scan_cache
from triscale.data.sources.pack import pack
from triscale.errors import DataError, RecipeError
from triscale.network.contract import Preprocessing

from .pictures import noise, ramp

CHANNELS = (1, 2, 4, 5)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(scan_cache, "RECENT_SECONDS", 0)


def preprocessing_of(channels: int, resolution: int = 8) -> Preprocessing:
    return Preprocessing(resolution=resolution, mean=(0.5,) * channels, std=(0.25,) * channels)


def picture(seed: int, channels: int, side: int = 24) -> np.ndarray:
    """Return smooth values that differ for every seed and channel, uint8 [side, side, channels]."""
    layers = [np.asarray(noise(1000 * seed + index, side))[..., 0] for index in range(channels)]
    return np.stack(layers, axis=-1)


def write_arrays(root: Path, channels: int, number: int = 12) -> Path:
    for label, name in enumerate(("oak", "pine")):
        (root / name).mkdir(parents=True)
        for index in range(number):
            np.save(root / name / f"{index:02d}.npy", picture(100 * label + index, channels))
    return root


@pytest.mark.parametrize("channels", CHANNELS)
def test_sets_of_any_number_of_channels_are_scanned_and_loaded(channels: int, tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", channels)
    options = DataOptions(channels=channels)
    found = scan(images, options=options)
    assert (found.num_images, found.channels, found.bad) == (24, channels, ())
    assert {image.format for image in found.unsplit} == {"NPY"}
    assert find_duplicates(found).groups == ()
    assert Image.open(io.BytesIO(contact_sheet(found))).mode == "RGB"
    split, preprocessing = make_split(found), preprocessing_of(channels)
    for (batch,), samples in (
        (eval_batches(split.test, split.root, preprocessing, batch=64), split.test),
        (eval_batches(split.test, split.root, preprocessing, batch=64, workers=1), split.test),
    ):
        for image, sample in zip(batch.images, samples, strict=True):
            stored = from_array(np.load(images / sample.path))
            assert torch.equal(image, eval_transform(preprocessing)(stored))


@pytest.mark.parametrize("channels", [1, 5])
def test_batches_depend_neither_on_workers_nor_on_cache(channels: int, tmp_path: Path) -> None:
    split = make_split(scan(write_arrays(tmp_path / "images", channels), options=DataOptions(channels=channels)))
    batches = []
    for workers, cache_bytes in ((0, 0), (0, 5 * 24 * 24 * channels), (0, 1 << 20), (1, 1 << 20)):
        with TrainLoader(
            split,
            preprocessing_of(channels),
            Augmentation(erase=0.5),
            batch=8,
            seed=0,
            workers=workers,
            cache_bytes=cache_bytes,
        ) as loader:
            batches.append([torch.cat([batch.images for batch in loader.epoch(epoch)]) for epoch in (0, 1)])
    assert batches[0][0].shape == (len(split.train), channels, 8, 8)
    for other in batches[1:]:
        assert all(torch.equal(one, same) for one, same in zip(batches[0], other, strict=True))


def test_images_of_other_channels_are_bad_with_the_option(tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", 5)
    with pytest.raises(DataError, match="has 5 channels; expected 3; train on them with --channels 5"):
        scan(images)


def test_cache_of_a_scan_holds_the_number_of_channels(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("oak", "pine"):
        (images / name).mkdir(parents=True)
        for index in range(6):
            values = picture(index + 50 * (name == "oak"), 4)
            Image.fromarray(values).save(images / name / f"{index}.png")
    rgb = scan(images)
    four = scan(images, options=DataOptions(channels=4))
    assert {image.fingerprint for image in rgb.unsplit} != {image.fingerprint for image in four.unsplit}
    assert scan(images) == rgb
    with pytest.raises(DataError, match="has 4 channels; expected 5"):
        scan(images, options=DataOptions(channels=5))


def test_arrays_beside_images_that_are_none_are_ignored(tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", 3)
    np.save(images / "oak" / "labels.npy", np.arange(10))
    np.save(images / "features.npy", np.zeros((10, 20), np.float32))
    found = scan(images)
    assert (found.num_images, found.bad) == (24, ())
    assert found.notes == ("1 file that is not an image is ignored: 1 .npy",)


def test_depth_of_arrays_is_measured_for_the_set(tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", 5)
    for path in images.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.uint16) * 16)
    found = scan(images, options=DataOptions(channels=5))
    assert found.bit_depth == 12
    split = make_split(found)
    preprocessing = preprocessing_of(5, 24).replace(bit_depth=split.bit_depth)
    (batch,) = eval_batches(split.test, split.root, preprocessing, batch=64)
    stored = np.load(images / split.test[0].path)
    assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), stored >> 4)


def test_near_duplicates_look_at_every_channel(tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", 5, number=30)
    first = np.load(images / "oak" / "00.npy")
    np.save(images / "oak" / "copy.npy", np.clip(first.astype(int) + 1, 0, 255).astype(np.uint8))
    other = first.copy()
    other[..., 3] = 255 - other[..., 3]
    np.save(images / "oak" / "other.npy", other)
    found = find_duplicates(scan(images, options=DataOptions(channels=5)))
    assert found.groups == (("oak/00.npy", "oak/copy.npy"),)


def test_fingerprints_of_three_bands_are_those_of_rgb() -> None:
    values = ramp(64, 48)
    assert fingerprints_of([shrink(Bands.from_array(values))]) == fingerprints_of([shrink(Image.fromarray(values))])


@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_images_keep_their_channels(channels: int, tmp_path: Path) -> None:
    images, options = write_arrays(tmp_path / "images", channels), DataOptions(channels=channels)
    found = scan(images, options=options)
    pack(found, tmp_path / "shards")
    again = scan(tmp_path / "shards", options=options)
    assert {(image.path, image.sha256) for image in again.unsplit} == {
        (image.path, image.sha256) for image in found.unsplit
    }


def test_tables_name_arrays(tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", 5)
    rows = [f"{path.relative_to(images)},{path.parent.name}" for path in sorted(images.rglob("*.npy"))]
    (images / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert scan(images / "labels.csv", options=DataOptions(channels=5)).num_images == 24


def test_arrays_beside_pictures_of_the_same_name_are_not_images(tmp_path: Path) -> None:
    rows = ["file,label"]
    (tmp_path / "set").mkdir()
    for index in range(24):
        noise(index).save(tmp_path / "set" / f"{index}.png")
        np.save(tmp_path / "set" / f"{index}.npy", picture(index, 1))
        rows.append(f"{index},{('oak', 'pine')[index % 2]}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    assert {image.format for image in scan(tmp_path / "set" / "labels.csv").unsplit} == {"PNG"}
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "000000.tar", "w") as tar:
        for index in range(24):
            (tmp_path / "set" / f"{index}.cls").write_text(str(index % 2))
            for suffix in ("png", "npy", "cls"):
                tar.add(tmp_path / "set" / f"{index}.{suffix}", f"{index}.{suffix}")
    (tmp_path / "shards" / "classes.json").write_text('["oak", "pine"]')
    assert {image.format for image in scan(tmp_path / "shards").unsplit} == {"PNG"}


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_crops_and_flips_are_drawn_as_for_rgb(channels: int) -> None:
    """Each channel is augmented as the channels of an RGB image are, with the same random numbers."""
    values = picture(3, 5, 64)
    augmentation = Augmentation(flip=True)

    def transformed(image: np.ndarray) -> torch.Tensor:
        torch.manual_seed(7)
        return TrainTransform(preprocessing_of(image.shape[-1], 16), augmentation)(from_array(image))

    rgb = transformed(values[..., :3])
    for _ in range(5):
        assert torch.equal(transformed(values[..., :channels])[:3], rgb[:channels])
        assert torch.rand(1).item() != 0


@pytest.mark.parametrize("channels", CHANNELS)
def test_random_erasing_fills_every_channel_with_gray(channels: int) -> None:
    transform = TrainTransform(preprocessing_of(channels, 32), Augmentation(erase=1.0))
    torch.manual_seed(0)
    erased = transform(from_array(np.zeros((32, 32, channels), np.uint8)))
    assert erased.shape == (channels, 32, 32)
    assert set(erased.unique().tolist()) == {0, 128}
    assert all(torch.equal(channel, erased[0]) for channel in erased)


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment_v0", "autoaugment", "trivialaugment"])
def test_color_policies_work_on_gray(policy: str) -> None:
    augmentation = Augmentation(policy=policy, color_jitter=0.4, erase=0.5)
    check_channels(augmentation, 1)
    transform = TrainTransform(preprocessing_of(1, 32), augmentation)
    results = set()
    for seed in range(20):
        torch.manual_seed(seed)
        piece = transform(from_array(picture(1, 1, 48)))
        assert (piece.shape, piece.dtype) == ((1, 32, 32), torch.uint8)
        results.add(piece.numpy().tobytes())
    assert len(results) == 20


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "randaugment"}, "policy=randaugment changes colors, .* --set augmentation.policy=none"),
        ({"color_jitter": 0.4}, "color_jitter=0.4 changes colors, .* --set augmentation.color_jitter=0"),
    ],
)
def test_augmentation_of_colors_is_refused_for_other_channels(channels: int, fields: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_channels(Augmentation(**fields), channels)
    with pytest.raises(RecipeError, match=message):
        TrainTransform(preprocessing_of(channels), Augmentation(**fields))
    check_channels(Augmentation(erase=0.5), channels)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_moments_are_those_of_the_pixels(channels: int, tmp_path: Path) -> None:
    images = write_arrays(tmp_path / "images", channels)
    samples = [Sample(path.relative_to(images).as_posix(), 0) for path in sorted(images.rglob("*.npy"))]
    values = np.stack([np.load(images / sample.path) for sample in samples]) / 255
    mean, std = channel_moments(samples, images, preprocessing_of(channels, 24))
    assert mean == tuple(np.round(values.mean((0, 1, 2)), 4).tolist())
    assert std == tuple(np.round(values.std((0, 1, 2)), 4).tolist())
    assert channel_moments(samples, images, preprocessing_of(channels, 24), workers=1) == (mean, std)


def test_moments_take_evenly_spaced_images_and_have_a_minimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(10):
        np.save(tmp_path / f"{index}.npy", np.full((4, 4, 2), 10 * index, np.uint8))
    samples = [Sample(f"{index}.npy", 0) for index in range(10)]
    monkeypatch.setattr("triscale.data.pipeline.moments.MAX_IMAGES", 2)
    mean, _ = channel_moments(samples, tmp_path, preprocessing_of(2))
    assert mean == (round(25 / 255, 4),) * 2  # images 0 and 5
    _, std = channel_moments(samples[:1], tmp_path, preprocessing_of(2))
    assert std == (round(1 / 255, 4),) * 2
