"""The rules that round widths, repeats and resolutions, and their exact inverses."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triscale.families import get
from triscale.network.custom import CustomNetwork
from triscale.scaling.apply import min_resolution, resolution_multiple
from triscale.scaling.rounding import (
    ScaleRounding,
    min_repeats_for,
    min_resolution_for,
    min_width_for,
    round_repeats,
    round_resolution,
    round_width,
)

widths = st.floats(min_value=1e-3, max_value=1e5)
A_HAIR_LESS = 1 - 1e-7


@pytest.mark.parametrize(
    ("width", "rounded"),
    [(0.1, 8), (8, 8), (8.8, 8), (8.9, 16), (12, 16), (17.7, 16), (17.8, 24), (19.2, 24), (20, 24), (26.6, 24),
     (26.7, 32), (44, 48), (83.9, 80), (84, 88), (1408.0, 1408)],
)  # fmt: skip
def test_widths_are_rounded_to_multiples(width, rounded):
    assert round_width(width) == rounded


@given(widths)
@example(16 * 1.2)
def test_width_is_a_multiple_of_8_and_at_most_10_percent_below(width):
    rounded = round_width(width)
    assert isinstance(rounded, int)
    assert rounded % 8 == 0
    assert rounded >= max(8, 0.9 * width)
    assert rounded <= max(8, width + 8)


@given(widths, widths)
def test_rounding_of_widths_is_monotonic(one, other):
    assert (round_width(min(one, other))) <= round_width(max(one, other))


@given(st.integers(1, 5000).map(lambda count: 8 * count))
def test_width_inverse_is_exact(rounded):
    least = min_width_for(rounded)
    assert rounded == 8 or round_width(least) == rounded
    assert rounded == 8 or round_width(least * A_HAIR_LESS) == rounded - 8


@given(st.integers(1, 10_000))
def test_integer_repeats_are_unchanged(repeats):
    assert round_repeats(repeats) == repeats
    assert round_repeats(repeats + 1e-12) == round_repeats(repeats - 1e-12) == repeats


def test_floating_point_errors_do_not_add_blocks():
    assert math.ceil(100 * 1.1) == 111
    for tenths in range(10, 60):
        for repeats in range(1, 9):
            exact = -(-repeats * tenths // 10)
            assert round_repeats(repeats * (tenths / 10)) == exact


@given(st.floats(1e-6, 1e4), st.floats(1e-6, 1e4))
def test_rounding_of_repeats_is_monotonic(one, other):
    low, high = sorted((one, other))
    assert 1 <= round_repeats(low) <= round_repeats(high)
    assert round_repeats(low) >= low - 1e-8


@given(st.integers(2, 1000))
def test_repeats_inverse_is_exact(rounded):
    least = min_repeats_for(rounded)
    assert round_repeats(least) == rounded
    assert round_repeats(least - 1e-8) == rounded - 1


@given(st.floats(1e-3, 1e5), st.integers(1, 64))
def test_resolution_is_rounded_to_nearest_multiple(resolution, multiple):
    rounded = round_resolution(resolution, multiple)
    assert rounded % multiple == 0
    assert rounded >= multiple
    assert rounded == multiple or abs(rounded - resolution) <= multiple / 2


@given(st.integers(1, 500), st.integers(1, 64))
def test_resolution_inverse_is_exact(count, multiple):
    rounded = count * multiple
    least = min_resolution_for(rounded, multiple)
    assert round_resolution(least, multiple) == rounded
    assert count == 1 or round_resolution(math.nextafter(least, 0), multiple) == rounded - multiple


@pytest.mark.parametrize(("name", "multiple"), [("efficientnet_b0", 16), ("resnet50", 16), ("mobilenet_v1", 16)])
def test_resolutions_are_multiples_of_half_total_stride(name, multiple):
    assert resolution_multiple(get(name)) == multiple
    assert min_resolution(get(name)) == 32


@pytest.mark.parametrize(("stride", "multiple"), [(1, 1), (2, 1), (4, 2), (8, 4)])
def test_small_total_strides_use_finer_multiples(stride, multiple):
    own = CustomNetwork(name="own", function="a:b", total_stride=stride, resolution=28)
    assert resolution_multiple(own) == multiple
    assert min_resolution(own) == stride


roundings = st.builds(
    ScaleRounding,
    width=st.sampled_from(["nearest", "up"]),
    width_multiple=st.sampled_from([1, 4, 8, 16, 32]),
    min_width_ratio=st.sampled_from([0.0, 0.9]),
    depth=st.sampled_from(["nearest", "up"]),
)


@given(roundings, st.integers(2, 500), widths, widths)
def test_every_rounding_has_an_exact_inverse_and_is_monotonic(rounding, count, one, other):
    rounded = count * rounding.width_multiple
    least = min_width_for(rounded, rounding)
    assert round_width(least, rounding) == rounded
    assert round_width(least * A_HAIR_LESS, rounding) == rounded - rounding.width_multiple
    assert round_width(min(one, other), rounding) <= round_width(max(one, other), rounding)
    least = min_repeats_for(count, rounding)
    assert round_repeats(least, rounding) == count
    assert round_repeats(least - 1e-7, rounding) == count - 1


@given(st.integers(2, 500), st.sampled_from([1, 4, 16, 32]), st.sampled_from(["nearest", "up"]))
def test_resolutions_have_an_exact_inverse_in_both_directions(count, multiple, direction):
    least = min_resolution_for(count * multiple, multiple, direction)
    assert round_resolution(least, multiple, direction) == count * multiple
    assert round_resolution(least * (1 - 1e-8), multiple, direction) == (count - 1) * multiple


def test_default_rounding_is_left_out_of_json():
    assert ScaleRounding().model_dump(exclude_defaults=True) == {}
    assert ScaleRounding(depth="nearest").model_dump() == {"depth": "nearest"}
