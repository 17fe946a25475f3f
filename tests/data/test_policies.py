"""AutoAugment v0 and RandAugment against timm's table and operations, and the released formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from triscale.data.images.policies import (
    AUTOAUGMENT,
    OPERATIONS,
    POLICY_V0,
    RANDAUGMENT,
    AutoAugmentV0,
    RandAugment,
)

from .pictures import noise, ramp

timm_augment = pytest.importorskip("timm.data.auto_augment", reason="needs timm, the reference")


def test_policy_matches_released_code() -> None:
    theirs = timm_augment.auto_augment_policy_v0({})
    names = [[(step.name.removesuffix("Rel"), step.prob, step.magnitude) for step in pair] for pair in theirs]
    assert names == [list(pair) for pair in POLICY_V0]


BY_LEVEL = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
)


@pytest.mark.parametrize("name", BY_LEVEL)
@pytest.mark.parametrize("level", [0, 1, 4, 9, 10, 17, 28])
def test_color_operations_match_timm(name: str, level: int) -> None:
    if name == "Posterize" and level < 3:
        pytest.skip("Pillow, which timm calls, refuses to keep no bit; the released code makes the image black")
    image = noise(3, side=40)
    to_argument = timm_augment.LEVEL_TO_ARG[name]
    arguments = to_argument(level, {}) if to_argument else ()
    expected = timm_augment.NAME_TO_OP[name](image, *arguments)
    assert np.array_equal(OPERATIONS[name](image, level, RANDAUGMENT), expected)


@pytest.mark.parametrize("level", [0, 3, 7, 10, 17, 28])
def test_solarize_add_follows_its_formula(level: int) -> None:
    image = noise(5, side=30)
    before = np.asarray(image).astype(int)
    expected = np.where(before < 128, np.minimum(255, before + int(level / 10 * 110)), before)
    assert np.array_equal(OPERATIONS["SolarizeAdd"](image, level, RANDAUGMENT), expected)


@pytest.mark.parametrize(
    ("name", "argument"),
    [("Rotate", 51.0), ("ShearX", 0.51), ("ShearY", 0.51), ("TranslateX", 170.0), ("TranslateY", 170.0)],
)
def test_geometry_at_magnitude_17_matches_released_code(name: str, argument: float) -> None:
    """30 degrees, 0.3 and 100 pixels are the values at level 10; level 17 exceeds them, in both directions."""
    image = Image.fromarray(ramp(240, 240))
    theirs = timm_augment.NAME_TO_OP[name]
    options = {"fillcolor": (128, 128, 128), "resample": Image.Resampling.BILINEAR}
    expected = {np.asarray(theirs(image, sign * argument, **options)).tobytes() for sign in (1, -1)}
    result = set()
    for seed in range(20):
        torch.manual_seed(seed)
        result.add(np.asarray(OPERATIONS[name](image, 17, RANDAUGMENT)).tobytes())
    assert result == expected


def test_translation_depends_on_policy_and_image_size() -> None:
    column = np.zeros((32, 32, 3), np.uint8)
    column[:, 16] = 255
    image = Image.fromarray(column)
    for strength, pixels in ((AUTOAUGMENT, 0.2 * 250 * 32 / 224), (RANDAUGMENT, 0.2 * 100 * 32 / 224)):
        torch.manual_seed(0)
        moved = np.asarray(OPERATIONS["TranslateX"](image, 2, strength))[10, :, 0].astype(float)
        inside = np.where(moved == 128, 0, moved)
        assert abs(abs((inside * np.arange(32)).sum() / inside.sum() - 16) - pixels) < 0.6


@given(st.integers(0, 1000), st.sampled_from([0.0, 9.0, 17.0, 28.0]))
@settings(max_examples=30, deadline=None)
def test_augmentation_keeps_size_and_mode(seed: int, magnitude: float) -> None:
    torch.manual_seed(seed)
    image = noise(seed, side=21)
    for policy in (RandAugment(2, magnitude), AutoAugmentV0()):
        varied = policy(image)
        assert varied.size == image.size
        assert varied.mode == "RGB"


def test_operations_are_sampled_uniformly(monkeypatch) -> None:
    result = dict.fromkeys(OPERATIONS, 0)

    def count(name: str):
        def operation(image, level, strength):
            result[name] += 1
            return image

        return operation

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, count(name))
    torch.manual_seed(0)
    image = noise(0, side=8)
    for _ in range(2000):
        RandAugment(2, 9)(image)
    expected = 4000 / len(OPERATIONS)
    assert all(abs(times - expected) < 5 * expected**0.5 for times in result.values())
