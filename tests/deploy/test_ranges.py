"""Ranges of activations: the smallest squared error, and the choice by the logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.deploy.quantize.ranges import BINS, best_by_logits, least_squares_range, ways_of_ranges


def error_of(values, low, high):
    """Return the mean squared error of torch's own fake quantization to 256 levels."""
    step = max((high - low) / 255, 1e-9)
    zero = round(-low / step)
    rounded = torch.fake_quantize_per_tensor_affine(torch.from_numpy(values), step, zero, 0, 255).numpy()
    return float(np.square(rounded - values).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 4.0]), st.booleans())
def test_no_other_range_is_much_better_than_that_of_least_squares(seed, tail, rectified):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(20_000) ** tail).astype(np.float32)
    values = np.maximum(values, 0) if rectified else values
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    counts, _ = np.histogram(values, BINS, (values.min(), values.max()))
    found = error_of(values, *least_squares_range(counts.astype(float), float(values.min()), float(values.max())))
    tried = [
        error_of(values, low * below, high * above)
        for below in np.linspace(0.1, 1, 7)
        for above in np.linspace(0.1, 1, 7)
    ]
    assert found <= 1.15 * min(tried)


def test_ways_differ_in_what_outliers_do():
    rng = np.random.default_rng(0)
    images = [{"x": rng.uniform(-1, 1, (1, 500)).astype(np.float32)} for _ in range(50)]
    images[7]["x"][0, 0] = 30.0
    ways = ways_of_ranges(lambda: images)
    highs = {name: ranges["x"][1] for name, ranges in ways.items()}
    assert highs["extremes"] == 30
    assert highs["means"] == pytest.approx((30 + 49) / 50, abs=0.02)
    # One value of 25,000 at 30 weighs (30 - b)^2; the rounding of all others (b + 1)^2 / 255^2 / 12 each.
    bounds = np.linspace(1, 30, 2901)
    errors = np.square(30 - bounds) + 24_999 * np.square((bounds + 1) / 255) / 12
    assert highs["least_squares"] == pytest.approx(bounds[errors.argmin()], abs=0.7)


def test_an_image_without_a_value_has_a_range_of_zero():
    zeros = [{"x": np.zeros((1, 4), np.float32)}] * 3
    assert {ranges["x"] for ranges in ways_of_ranges(lambda: zeros).values()} == {(0.0, 0.0)}


def test_candidate_with_the_least_noise_in_the_median_image_is_chosen():
    exact = np.eye(5, dtype=np.float32)
    noise = {"small": 0.01, "large": 0.1}
    results = {name: exact + share * np.float32(1) for name, share in noise.items()}
    results["odd"] = exact.copy()
    results["odd"][:3] += 9  # three of five images are far off
    assert best_by_logits(results, results.__getitem__, exact) == "small"
