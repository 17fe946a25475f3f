"""Rank correlations against scipy's, their interval against its coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from triscale.errors import SearchError
from triscale.search.baseline.ranking import BOUND, MIN_NETWORKS, Ranking, kendall, kendall_interval, rank, spearman

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30)


@given(PAIRS)
def test_correlations_match_scipy_with_ties(pairs):
    first, second = zip(*pairs, strict=True)
    tied = len(set(first)) == 1 or len(set(second)) == 1
    for ours, theirs in ((kendall, stats.kendalltau), (spearman, stats.spearmanr)):
        expected = 0.0 if tied else theirs(first, second).statistic
        assert ours(first, second) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("number", [8, 10, 40])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.85])
def test_tau_interval_has_95_percent_coverage(number, correlation):
    """A bivariate normal distribution has tau = 2 / pi arcsin(rho)."""
    tau = 2 / math.pi * math.asin(correlation)
    random = np.random.default_rng(number)
    covariance = [[1, correlation], [correlation, 1]]
    inside = 0
    for _ in range(600):
        pairs = random.multivariate_normal([0, 0], covariance, number)
        low, high = kendall_interval(kendall(pairs[:, 0], pairs[:, 1]), number)
        inside += low <= tau <= high
    assert inside / 600 >= 0.92


def test_perfect_order_of_few_networks_has_wide_interval():
    few, many = (kendall_interval(1.0, number) for number in (MIN_NETWORKS, 100))
    assert few[1] == many[1] == 1.0
    assert few[0] < 0.3 < 0.9 < many[0]
    mirrored = kendall_interval(-1.0, MIN_NETWORKS)
    assert mirrored == pytest.approx((-1.0, -few[0]))


def test_strong_significant_correlation_is_trusted():
    trained = [0.1 * index for index in range(12)]
    good = rank([*trained[1:], trained[0]], trained)
    assert good.kendall == pytest.approx(1 - 4 * 11 / (12 * 11))
    assert good.trusted
    assert good.low < good.kendall < good.high
    assert Ranking.from_json(good.to_json()) == good
    weak = rank([trained[index] for index in (3, 1, 0, 7, 2, 5, 9, 4, 6, 11, 8, 10)], trained)
    assert 0.4 < weak.kendall < 0.7
    assert weak.trusted == (weak.kendall >= BOUND)
    backwards = rank(trained[::-1], trained)
    assert not backwards.trusted
    assert backwards.kendall == backwards.spearman == backwards.low == -1.0
    alike = rank([0.5] * 12, trained)
    assert (alike.kendall, alike.spearman, alike.trusted) == (0.0, 0.0, False)
    few = rank([0.1, 0.2, 0.3, 0.5, 0.4], trained[:5])
    assert few.kendall > BOUND
    assert not few.trusted


def test_too_few_networks_are_rejected():
    with pytest.raises(SearchError, match="5 or more"):
        rank([0.1] * 4, [0.2] * 4)
