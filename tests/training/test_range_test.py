"""What a range test concludes from its losses."""

import math

import pytest

from triscale.training.range_test import (
    MARGIN,
    MAX_CHANGE,
    has_diverged,
    range_rates,
    suggested_rate,
    with_rate,
)
from triscale.training.recipe import AdamW, Recipe, Sgd

PEAK = 0.005


def losses_with_edge(edge: float, *, falls: float = 0.0) -> list[float]:
    """Losses that fall a little, and rise where the rate exceeds the edge."""
    return [
        2.3 - falls * step / 100 + 0.02 * math.sin(9 * step) + (2.0 if rate > edge else 0.0)
        for step, rate in enumerate(range_rates(PEAK))
    ]


@pytest.mark.parametrize("edge", [0.002, 0.01, 0.04])
@pytest.mark.parametrize("falls", [0.0, 1.5])
def test_rate_lies_below_the_edge(edge, falls):
    found = suggested_rate(range_rates(PEAK), losses_with_edge(edge, falls=falls), PEAK)
    # Smoothing notices the rise a few steps late, 7% each.
    assert edge / MARGIN <= found <= 1.5 * edge / MARGIN


def test_no_finite_loss_keeps_the_rate():
    assert suggested_rate(range_rates(PEAK), [math.nan], PEAK) == PEAK


def test_change_is_limited():
    rates = range_rates(PEAK)
    assert suggested_rate(rates, [2.0, 9.0], PEAK) == PEAK / MAX_CHANGE
    assert suggested_rate(rates, [2.0] * len(rates), PEAK) == MAX_CHANGE * PEAK


def test_losses_after_one_that_is_not_finite_are_ignored():
    rates = range_rates(PEAK)
    losses = losses_with_edge(1.0)
    assert suggested_rate(rates, [*losses[:60], math.inf, 0.0], PEAK) == suggested_rate(rates, losses[:60], PEAK)


def test_test_ends_when_losses_diverge():
    assert not has_diverged([])
    assert not has_diverged([2.0] * 50)
    assert has_diverged([2.0] * 50 + [9.0] * 20)
    assert has_diverged([2.0, math.inf])


def test_weight_decay_follows_rate_of_adamw():
    recipe = Recipe(learning_rate=0.01, reference_batch=32, batch=64, weight_decay=0.1, optimizer=AdamW())
    found = with_rate(recipe, 0.005)
    assert found.peak_learning_rate == 0.005
    assert found.peak_learning_rate * found.weight_decay == pytest.approx(recipe.peak_learning_rate * 0.1)
    assert with_rate(recipe.replace(optimizer=Sgd()), 0.005).weight_decay == 0.1
