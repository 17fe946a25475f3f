import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.report.draw import format as text

finite = st.floats(min_value=0, max_value=1e18, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.00k"),
        (97_014, "97.0k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (2_960_000, "2.96M"),
        (390e6, "390M"),
        (37e9, "37.0G"),
        (4.2e15, "4.20P"),
        (5e21, "5,000,000P"),
        (0.5, "0.500"),
        (None, text.ABSENT),
    ],
)
def test_amounts_have_three_digits_and_suffix(value, shown):
    assert text.si(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0 B"), (512, "512 B"), (1_230_000, "1.23 MB"), (999_999, "1.00 MB"), (4.5e9, "4.50 GB")]
)
def test_sizes_use_decimal_units(value, shown):
    assert text.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0%"), (1, "100%"), (0.978, "97.8%"), (0.9999, "> 99.9%"), (0.0001, "< 0.1%"), (0.5, "50.0%"),
     (1.25, "125.0%"), (None, text.ABSENT)],
)  # fmt: skip
def test_shares_are_formatted_as_percent(value, shown):
    assert text.share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1.234, "1.23"), (12.345, "12.3"), (999.96, "1,000"), (15_432, "15,432"), (3.1e-6, "3.1 × 10⁻⁶"),  # noqa: RUF001
     (2.5e7, "2.5 × 10⁷"), (-0.5, "-0.500"), (0.00099999, "0.00100")],  # noqa: RUF001
)  # fmt: skip
def test_numbers_are_formatted(value, shown):
    assert text.number(value) == shown


def test_milliseconds_are_formatted_with_and_without_unit():
    assert text.milliseconds(1.416) == "1.42 ms"
    assert text.milliseconds(1.416, unit=False) == "1.42"
    assert text.milliseconds(None) == text.ABSENT


@given(finite)
def test_formatted_amount_is_within_half_a_percent(value):
    shown = text.si(value).replace(",", "")
    scale = dict(zip("kMGTP", (1e3, 1e6, 1e9, 1e12, 1e15), strict=True)).get(shown[-1], 1.0)
    if "×" not in shown:  # noqa: RUF001
        assert math.isclose(float(shown.rstrip("kMGTP")) * scale, value, rel_tol=0.0051, abs_tol=1e-12)


@given(st.floats(min_value=0, max_value=1))
def test_only_exact_extremes_are_shown_as_0_and_100_percent(value):
    shown = text.share(value)
    assert (shown == "100%") == (value == 1)
    assert (shown == "0%") == (value == 0)


@given(st.text(), st.integers(min_value=2, max_value=30))
def test_shortened_text_fits_one_line(value, limit):
    shown = text.shorten(value, limit)
    assert "\n" not in shown
    assert text.columns(shown) <= max(limit, text.columns("(no name)"))


def test_text_is_shortened():
    assert text.shorten("short", 10) == "short"
    assert text.shorten("a very long name", 8) == "a very…"
    assert text.shorten("日本語の名前", 6) == "日本…"
    assert text.shorten(" \n ", 20) == "(no name)"
    assert text.unbroken("1.23 MB") == "1.23\N{NO-BREAK SPACE}MB"
