"""Bayesian optimization of networks: the Gaussian process, expected improvement, and what is proposed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from triscale.families.mobilenet import V2
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.space import Choice, around
from triscale.search.baseline.strategies.bayesian import SPREAD, Bayesian, KnownCost, expected_improvement, figures_of
from triscale.search.baseline.strategies.gaussian_process import GaussianProcess, one_hot

SIZES = (2, 3, 4, 2)
SMALL = around(V2.replace(resolution=32), "tiny")


def some(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    samples = np.stack([rng.integers(size, size=number) for size in SIZES], axis=1)
    costs = rng.standard_normal((number, 2))
    return one_hot(samples, SIZES), costs, samples.sum(axis=1) + costs[:, 0] + 0.1 * rng.standard_normal(number)


def covariance(process: GaussianProcess, one, other) -> np.ndarray:
    """The covariance as its documentation defines it, pair by pair."""
    variances = np.exp(process._logs)
    result = np.zeros((len(one[0]), len(other[0])))
    for row, (point, cost) in enumerate(zip(*one, strict=True)):
        for column, (point2, cost2) in enumerate(zip(*other, strict=True)):
            effects = sum(point * point2) / len(SIZES)
            result[row, column] = (
                3 * variances[0] * effects + 9 * variances[1] * effects**2 + variances[2] * np.mean(cost * cost2)
                + variances[3] * np.exp(-np.mean((cost - cost2) ** 2) / 2)
            )  # fmt: skip
    return result


def test_predictions_match_the_definition():
    points, costs, values = some(20)
    process = GaussianProcess(len(SIZES))
    process.fit(points, costs, values)
    new = some(6, seed=1)[:2]
    inverse = np.linalg.inv(
        covariance(process, (points, costs), (points, costs)) + (np.exp(process._logs[4]) + 1e-6) * np.eye(20)
    )
    cross = covariance(process, new, (points, costs))
    mean = values.mean() + values.std() * cross @ inverse @ ((values - values.mean()) / values.std())
    variance = np.diag(covariance(process, new, new) - cross @ inverse @ cross.T)
    predicted = process.predict(*new)
    np.testing.assert_allclose(predicted.mean, mean, atol=1e-6)
    np.testing.assert_allclose(predicted.deviation, values.std() * np.sqrt(variance), rtol=1e-5)
    np.testing.assert_allclose(mean, some(6, seed=1)[2], atol=1.0)


def test_conditioning_gives_the_deviations_of_a_fit_with_more_points():
    points, costs, values = some(15)
    process = GaussianProcess(len(SIZES))
    process.fit(points, costs, values)
    new = some(5, seed=2)[:2]
    condition = process.conditioning(*new)
    condition(1)
    deviations = condition(3)
    all_points, all_costs = (
        np.concatenate([old, fresh[[1, 3]]]) for old, fresh in zip((points, costs), new, strict=True)
    )
    joint = covariance(process, (all_points, all_costs), (all_points, all_costs))
    inverse = np.linalg.inv(joint + np.diag([np.exp(process._logs[4]) + 1e-6] * 15 + [np.exp(process._logs[4])] * 2))
    cross = covariance(process, new, (all_points, all_costs))
    variance = np.diag(covariance(process, new, new) - cross @ inverse @ cross.T)
    np.testing.assert_allclose(deviations, values.std() * np.sqrt(variance), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(0.05, 2), st.floats(-2, 2))
def test_expected_improvement_is_its_integral(mean, deviation, best):
    low = max(best, mean - 10 * deviation)
    exact = 0.0
    if low < mean + 10 * deviation:
        exact, _ = quad(lambda value: (value - best) * norm.pdf(value, mean, deviation), low, mean + 10 * deviation)
    found = expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert found == pytest.approx(exact, abs=1e-6)


def test_no_network_is_proposed_twice_until_all_were():
    strategy = Bayesian(SMALL, 0, SearchObjective(target=10e6), figures=figures_of(SMALL))
    structures = []
    for _ in range(15):
        samples = strategy.ask(10)
        structures += [SMALL.network(sample).structure for sample in samples]
        strategy.tell(
            [Observation(sample, 0.5 + 0.01 * sum(sample), 0.5 + 0.01 * sum(sample), 1e7) for sample in samples]
        )
    assert len(set(structures)) == 150


def test_batch_is_spread():
    space = around(V2.replace(resolution=32), "small")
    strategy = Bayesian(space, 0, SearchObjective(target=10e6))
    samples = strategy.ask(20)
    strategy.tell([Observation(sample, 0.01 * sum(sample), 0.01 * sum(sample), 1e7) for sample in samples])
    least = len(space.free_choices) // SPREAD
    assert least > 1
    for one, other in combinations(strategy.ask(5), 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= least


def test_only_the_pool_is_proposed():
    pool = [(first, second) for first in range(3) for second in range(3)]

    class Grid:
        free_choices = tuple(Choice(place, "layers", (0, 1, 2)) for place in range(2))
        size = 4

    strategy = Bayesian(
        Grid(), 0, SearchObjective(target=1.0), pool=pool,
        figures=lambda sample: KnownCost(str(sample), {"macs": 1.0 + sum(sample)}, (float(sum(sample)),)),
    )  # fmt: skip
    first = strategy.ask(4)
    strategy.tell([Observation(sample, 0.1 * sum(sample), 0.1 * sum(sample), 1.0 + sum(sample)) for sample in first])
    assert set(first) | set(strategy.ask(5)) == set(pool)  # the second batch by a model


def test_additive_accuracy_is_maximized_with_few_evaluations():
    best = max(sum(len(choice.options) - 1 for choice in SMALL.free_choices), 1)
    strategy, found = Bayesian(SMALL, 0, SearchObjective(target=10e6, exponent=0)), []
    for _ in range(6):
        samples = strategy.ask(8)
        scores = [0.9 * sum(sample) / best for sample in samples]
        found += scores
        strategy.tell([Observation(sample, score, score, 1e7) for sample, score in zip(samples, scores, strict=True)])
    assert max(found) == pytest.approx(0.9)


@pytest.mark.parametrize("cost", ["macs", "latency"])
@pytest.mark.parametrize("form", ["soft", "hard", "constraint"])
def test_most_proposals_are_admitted_even_by_a_tight_constraint(cost, form):
    figures = figures_of(SMALL)
    macs = sorted(figures(SMALL.sample(np.random.default_rng(seed))).costs["macs"] for seed in range(200))
    objective = SearchObjective(cost=cost, target=macs[5] / (1 if cost == "macs" else 1e6), form=form)
    strategy, refused = Bayesian(SMALL, 0, objective), 0
    for number in range(5):
        outcomes = []
        for sample in strategy.ask(8):
            price = figures(sample).costs["macs"] / (1 if cost == "macs" else 1e6)
            accuracy = 0.5 + 0.01 * sum(sample) if objective.admits(price) else None
            refused += accuracy is None and number > 1
            outcomes.append(Observation(sample, objective.reward(accuracy or 0.0, price), accuracy, price))
        strategy.tell(outcomes)
    assert refused <= 8
