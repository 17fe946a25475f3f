"""Evaluation transforms are exact, and training transforms are random within their bounds."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from triscale.data.images.transforms import Augmentation, eval_transform, normalize, train_transform
from triscale.errors import RecordError
from triscale.network.contract import Preprocessing

from .pictures import noise, ramp

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pixels(tensor: Tensor) -> np.ndarray:
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


def weights(size: int, start: float, side: float, resolution: int, interpolation: str) -> np.ndarray:
    """Antialiased interpolation along one axis as a matrix [resolution, size] (Keys' cubic, a = -0.5; or the tent)."""
    step = side / resolution
    spread = max(step, 1.0)
    center = start + (np.arange(resolution) + 0.5) * step
    distance = np.abs(np.arange(size) + 0.5 - center[:, None]) / spread
    if interpolation == "bilinear":
        values = np.clip(1 - distance, 0, None)
    else:
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        values = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return values / values.sum(axis=1, keepdims=True)


@settings(max_examples=40)
@given(
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(1, 48),
    st.floats(0.5, 1.0),
    st.sampled_from(["bilinear", "bicubic"]),
    st.sampled_from([(1, 1), (3, 1), (2, 5)]),
)
def test_evaluation_crop_follows_formula(
    width: int, height: int, resolution: int, crop: float, interpolation: str, ratio: tuple[int, int]
) -> None:
    picture = ramp(width, height)
    preprocessing = Preprocessing(resolution=resolution, aspect_ratio=ratio, crop=crop, interpolation=interpolation)
    ratio = preprocessing.size.width, preprocessing.size.height
    unit = crop * min(width / ratio[0], height / ratio[1])
    wide, high = unit * ratio[0], unit * ratio[1]
    left, top = (width - wide) / 2, (height - high) / 2
    across = weights(width, left, wide, preprocessing.size.width, interpolation)
    down = weights(height, top, high, resolution, interpolation)
    # Pillow rounds to whole levels between its two passes and after them, and ties may fall to either side.
    narrow = np.floor(np.einsum("xw,hwc->hxc", across, picture.astype(float)).clip(0, 255) + 0.5)
    expected = np.einsum("yh,hxc->yxc", down, narrow).clip(0, 255)
    seen = pixels(eval_transform(preprocessing)(Image.fromarray(picture)))
    assert np.abs(seen - expected).max() <= 2
    assert np.abs(seen - expected).mean() <= 0.5 + 0.5 / expected[..., 0].size  # of few pixels all may be ties


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.integers(2, 24))
def test_random_crops_of_rectangles_are_those_of_torchvision(seed: int, across: int, down: int, height: int) -> None:
    preprocessing = Preprocessing(resolution=height, aspect_ratio=(across, down), interpolation="bilinear")
    augmentation = Augmentation(crop_area=(0.2, 1.0), flip=False)
    across, down = preprocessing.size.ratio  # of whole pixels
    image = noise(seed).resize((12 * across, 12 * down))
    low, high = (edge * across / down for edge in augmentation.crop_ratio)
    theirs = v2.RandomResizedCrop(preprocessing.input_shape[1:], scale=augmentation.crop_area, ratio=(low, high))
    torch.manual_seed(seed)
    expected = theirs(image)
    torch.manual_seed(seed)
    seen = train_transform(preprocessing, augmentation)(image)
    np.testing.assert_array_equal(pixels(seen), np.array(expected))


def test_random_crops_of_a_square_image_keep_the_ratio_of_the_input() -> None:
    """The whole image has no crop with a ratio of 8; its area is measured in the largest one."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(64)[None] * 4, np.arange(64)[:, None] * 4
    preprocessing = Preprocessing(resolution=8, aspect_ratio=(8, 1), interpolation="bilinear")
    transform = train_transform(preprocessing, Augmentation(crop_area=(0.3, 0.9), flip=False))
    shapes = []
    for seed in range(40):
        torch.manual_seed(seed)
        seen = pixels(transform(Image.fromarray(picture))).astype(int)
        shapes.append((np.ptp(seen[..., 0]) / 4, np.ptp(seen[..., 1]) / 4))
    wide, high = np.array(shapes).T
    assert len(set(wide.round())) > 10
    assert 25 < wide.min() < wide.max() < 64
    assert 2 < high.min() < high.max() < 10


@pytest.mark.parametrize("interpolation", FILTERS)
def test_evaluation_equals_resize_then_center_crop_at_whole_edges(interpolation: str) -> None:
    picture = Image.fromarray(ramp(56, 40))
    preprocessing = Preprocessing(resolution=24, crop=0.8, interpolation=interpolation)
    by_hand = picture.resize((42, 30), FILTERS[interpolation]).crop((9, 3, 33, 27))
    assert np.array_equal(pixels(eval_transform(preprocessing)(picture)), np.asarray(by_hand))


def test_image_of_target_size_is_unchanged() -> None:
    picture = ramp(20, 20)
    for interpolation in ("nearest", "bilinear", "bicubic"):
        transform = eval_transform(Preprocessing(resolution=20, interpolation=interpolation))
        assert np.array_equal(pixels(transform(Image.fromarray(picture))), picture)


def test_evaluation_uses_no_random_numbers() -> None:
    before = torch.get_rng_state()
    eval_transform(Preprocessing(resolution=8))(noise(0))
    assert torch.equal(before, torch.get_rng_state())


def test_normalization_follows_formula() -> None:
    preprocessing = Preprocessing(resolution=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = normalize(images, preprocessing)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), (images.numpy() / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert torch.equal(result[0], normalize(images[0], preprocessing))


EVERYTHING = Augmentation(policy="randaugment", magnitude=20, color_jitter=0.4, erase=0.5)


@pytest.mark.parametrize("policy", ["none", "autoaugment_v0", "randaugment", "autoaugment", "trivialaugment"])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_training_transform_has_resolution_and_follows_seed(policy: str, interpolation: str) -> None:
    augmentation = Augmentation(policy=policy, color_jitter=0.2, erase=0.5)
    transform = train_transform(Preprocessing(resolution=12, interpolation=interpolation), augmentation)
    seen = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        seen.append(transform(noise(0, side=30)))
    assert all(tensor.shape == (3, 12, 12) and tensor.dtype == torch.uint8 for tensor in seen)
    assert torch.equal(seen[0], seen[1])
    assert len({tensor.numpy().tobytes() for tensor in seen}) == 4


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 2)])
def test_images_of_extreme_shapes_are_transformed(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 200, 30))
    for transform in (
        eval_transform(Preprocessing(resolution=16, crop=0.9)),
        train_transform(Preprocessing(resolution=16), Augmentation()),
    ):
        assert (transform(image).view(3, -1).float().std(dim=1) == 0).all()


def test_augmentation_can_be_disabled() -> None:
    still = Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False)
    preprocessing = Preprocessing(resolution=16)
    image = noise(3, side=32)
    assert torch.equal(train_transform(preprocessing, still)(image), eval_transform(preprocessing)(image))


def test_half_of_images_are_flipped() -> None:
    mirrored = Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    transform = train_transform(Preprocessing(resolution=16), mirrored)
    torch.manual_seed(0)
    original = pixels(eval_transform(Preprocessing(resolution=16))(noise(3)))
    seen = [pixels(transform(noise(3))) for _ in range(400)]
    flips = sum(np.array_equal(picture, original[:, ::-1]) for picture in seen)
    assert flips + sum(np.array_equal(picture, original) for picture in seen) == 400
    assert 150 < flips < 250


def test_transforms_are_picklable() -> None:
    preprocessing = Preprocessing(resolution=8)
    for transform in (eval_transform(preprocessing), train_transform(preprocessing, EVERYTHING)):
        again = pickle.loads(pickle.dumps(transform))
        torch.manual_seed(0)
        expected = transform(noise(1))
        torch.manual_seed(0)
        assert torch.equal(again(noise(1)), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_area": (0.0, 1.0)},
        {"crop_area": (0.8, 0.4)},
        {"crop_area": (0.5, 1.1)},
        {"crop_ratio": (1.2, 1.0)},
        {"magnitude": 31},
        {"policy": "rand"},
        {"flipp": True},
    ],
)
def test_invalid_augmentation_is_rejected(wrong: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        Augmentation(**wrong)
    assert Augmentation.from_json(EVERYTHING.to_json()) == EVERYTHING
