"""Corruptions against their definitions and other implementations."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image

from triscale.data.images.bands import from_array, to_array
from triscale.data.images.corruptions import CORRUPTIONS, STRENGTHS, corrupt, reduced


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A real photograph of 640 x 427 pixels, reduced."""
    return reduced(Image.fromarray(load_sample_image("flower.jpg")), 256)


def values(image) -> np.ndarray:
    return to_array(image).astype(float)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(width=st.integers(1, 60), height=st.integers(1, 60), strength=st.integers(1, 5), key=st.text(max_size=5))
@settings(max_examples=10, deadline=None)
def test_size_and_channels_stay_and_a_key_gives_the_same_image(kind, channels, width, height, strength, key):
    rng = np.random.default_rng(0)
    image = from_array(rng.integers(0, 256, (height, width, channels), dtype=np.uint8))
    before = to_array(image)
    found = corrupt(image, kind, strength, key)
    assert to_array(found).shape == (height, width, channels)
    assert np.array_equal(to_array(found), to_array(corrupt(image, kind, strength, key)))
    assert np.array_equal(to_array(image), before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_strength_changes_a_photo_more(photo, kind):
    changes = [np.abs(values(corrupt(photo, kind, s, "a")) - values(photo)).mean() for s in range(1, 6)]
    assert changes[0] > 0
    assert changes == sorted(changes)


def test_keys_choose_the_direction_and_the_noise(photo):
    darker = {values(corrupt(photo, "brightness", 3, str(key))).mean() < values(photo).mean() for key in range(20)}
    assert darker == {True, False}
    first, second = (values(corrupt(photo, "noise", 3, key)) for key in "ab")
    assert not np.array_equal(first, second)
    one, two = (values(corrupt(photo, "rotation", 3, str(key))) for key in (0, 1))
    assert one.shape == two.shape


@pytest.mark.parametrize("strength", range(1, 6))
def test_noise_has_its_standard_deviation(strength):
    gray = Image.new("RGB", (200, 200), (128, 128, 128))
    noise = values(corrupt(gray, "noise", strength, "k")) - 128
    amount = 255 * STRENGTHS["noise"][strength - 1]
    if strength < 4:  # above, the values are cut off at 0 and 255
        assert noise.std() == pytest.approx(amount, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=4 * amount / noise.size**0.5 + 0.05)


def test_brightness_multiplies_values_and_cuts_them_off(photo):
    found = values(corrupt(photo, "brightness", 2, "k"))
    up, down = (np.rint(values(photo) * factor).clip(0, 255) for factor in (1.2, 0.8))
    assert np.array_equal(found, up) or np.array_equal(found, down)


@pytest.mark.parametrize("strength", range(1, 6))
def test_blur_agrees_with_a_gaussian_filter_of_scipy(photo, strength):
    sigma = STRENGTHS["blur"][strength - 1] * 256
    expected = ndimage.gaussian_filter(values(photo), (sigma, sigma, 0), mode="nearest")
    found = values(corrupt(photo, "blur", strength, "k"))
    inner = (slice(20, -20), slice(20, -20))
    # Pillow's filter is three box filters, and rounds.
    assert np.abs(found - expected)[inner].mean() < 1.5


def test_jpeg_is_that_of_pillow(photo):
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=10)
    assert np.array_equal(values(corrupt(photo, "jpeg", 4, "k")), values(Image.open(buffer)))


@pytest.mark.parametrize("size", [(90, 90), (200, 40), (40, 200)])
@pytest.mark.parametrize("strength", [1, 5])
def test_rotation_agrees_with_scipy_and_leaves_no_empty_corners(size, strength):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((size[1], size[0])), 5)
    image = Image.fromarray((100 + 155 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8))
    found = values(corrupt(image, "rotation", strength, "k"))[..., 0]
    assert found.min() >= 99  # the image has no darker value, and black corners would
    angle = STRENGTHS["rotation"][strength - 1]
    errors = [
        np.abs(ndimage.rotate(values(image)[..., 0], sign * angle, reshape=False, order=1, mode="grid-mirror") - found)
        for sign in (1, -1)
    ]
    assert min(error.mean() for error in errors) < 2


def test_reduction_keeps_the_ratio_and_small_images():
    assert reduced(Image.new("RGB", (4000, 3000)), 256).size == (341, 256)
    small = Image.new("L", (100, 30))
    assert reduced(small, 256) is small
