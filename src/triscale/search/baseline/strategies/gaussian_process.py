"""A Gaussian process over the choices and cost of networks (Rasmussen & Williams 2006, chapters 2 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from triscale.search.shape import Array

PRIOR = np.log([0.5, 0.3, 0.5, 0.2, 0.05])
"""Means of the logarithms of the variances: of effects, pairs, linear cost, nonlinear cost, and noise."""
PRIOR_DEVIATION = 2.0
SWEEPS = 2
LARGEST_LOG = 8.0
JITTER = 1e-6


class Posterior(NamedTuple):
    """Means and standard deviations."""

    mean: Array
    deviation: Array


class GaussianProcess:
    """Regression with a covariance of four parts, whose variances are those of the greatest posterior density.

    The parts are products of: choices (a sum of effects), choices squared (effects of pairs), cost figures (linear),
    and a squared exponential of the cost figures.

    Args:
        choices: Number of choices of a sample.

    Example:
        >>> samples = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> process = GaussianProcess(choices=2)
        >>> process.fit(one_hot(samples, (2, 2)), np.zeros((4, 1)), np.array([1.0, 2.0, 3.0, 4.0]))
        >>> process.predict(one_hot(samples, (2, 2)), np.zeros((4, 1))).mean.round().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._logs = PRIOR.copy()

    def fit(self, points: Array, costs: Array, values: Array) -> None:
        """Fit to observations; the search for the variances begins at those of the last fit.

        Args:
            points: Choices ``[n, columns]``, see :func:`one_hot`.
            costs: Standardized cost figures ``[n, figures]``.
            values: What was observed ``[n]``.
        """
        self._points, self._costs = points, costs
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        targets = (values - self._mean) / self._scale
        parts = self._parts(points, costs, points, costs)
        best, step = self._loss(self._logs, parts, targets), 1.0
        for _ in range(SWEEPS):
            for place in range(len(PRIOR)):
                for sign in (1.0, -1.0):
                    while True:
                        moved = self._logs.copy()
                        moved[place] += sign * step
                        loss = self._loss(moved, parts, targets)
                        if loss > best - 1e-3 or abs(moved[place]) > LARGEST_LOG:
                            break
                        self._logs, best = moved, loss
            step /= 2
        self._factor = np.linalg.cholesky(self._covariance(self._logs, parts))
        self._weights = np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, targets))

    def predict(self, points: Array, costs: Array) -> Posterior:
        """Return means and standard deviations ``[m]`` without noise."""
        mean, deviation, _ = self._posterior(points, costs)
        return Posterior(self._mean + self._scale * mean, self._scale * deviation)

    def conditioning(self, points: Array, costs: Array) -> Callable[[int], Array]:
        """Return a function that adds one of the points to the observations and returns all standard deviations."""
        _, deviation, solved = self._posterior(points, costs)
        variance = deviation**2
        noise = float(np.exp(self._logs[-1]))
        added: list[Array] = []

        def condition(index: int) -> Array:
            nonlocal variance
            one = self._kernel(points, costs, points[index : index + 1], costs[index : index + 1])[:, 0]
            shared = one - solved.T @ solved[:, index]
            for earlier in added:
                shared = shared - earlier * earlier[index]
            column = shared / np.sqrt(max(float(shared[index]), 0.0) + noise)
            added.append(column)
            variance = np.maximum(variance - column**2, JITTER)
            result: Array = self._scale * np.sqrt(variance)
            return result

        return condition

    def _posterior(self, points: Array, costs: Array) -> tuple[Array, Array, Array]:
        cross = self._kernel(points, costs, self._points, self._costs)
        solved: Array = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        own = (points**2).sum(axis=1) / self._choices
        diagonal = _scaled(self._logs, [own, own**2, (costs**2).mean(axis=1), np.ones(len(points))])
        mean: Array = cross @ self._weights
        deviation: Array = np.sqrt(np.maximum(diagonal - (solved**2).sum(axis=0), JITTER))
        return mean, deviation, solved

    def _kernel(self, points: Array, costs: Array, others: Array, other_costs: Array) -> Array:
        return _scaled(self._logs, self._parts(points, costs, others, other_costs))

    def _parts(self, points: Array, costs: Array, others: Array, other_costs: Array) -> list[Array]:
        effects = points @ others.T / self._choices
        linear = costs @ other_costs.T / costs.shape[1]
        squares = (costs**2).mean(axis=1)[:, None] + (other_costs**2).mean(axis=1)[None] - 2 * linear
        return [effects, effects**2, linear, np.exp(-squares / 2)]

    def _covariance(self, logs: Array, parts: list[Array]) -> Array:
        covariance = _scaled(logs, parts)
        covariance[np.diag_indices(len(covariance))] += np.exp(logs[-1]) + JITTER
        return covariance

    def _loss(self, logs: Array, parts: list[Array], targets: Array) -> float:
        """Return the negative logarithm of the posterior density of the variances, up to a constant."""
        try:
            factor = np.linalg.cholesky(self._covariance(logs, parts))
        except np.linalg.LinAlgError:
            return np.inf
        solved = solve_triangular(factor, targets, lower=True, check_finite=False)
        prior = (((logs - PRIOR) / PRIOR_DEVIATION) ** 2).sum()
        return float(solved @ solved / 2 + np.log(np.diag(factor)).sum() + prior / 2)


def _scaled(logs: Array, parts: list[Array]) -> Array:
    """Return the sum of the parts with their variances; random choices have effects of variance about 1/3."""
    effects, pairs, linear, curved = np.exp(logs[:4]).tolist()
    result: Array = 3 * effects * parts[0] + 9 * pairs * parts[1] + linear * parts[2] + curved * parts[3]
    return result


def one_hot(samples: NDArray[np.int_], sizes: Sequence[int]) -> Array:
    """Return indices of options as centered indicators, and of three and more options also as numbers from -0.7 to 0.7.

    Args:
        samples: Indices ``[n, choices]``.
        sizes: Number of options of each choice.

    Example:
        >>> one_hot(np.array([[0], [1]]), (2,)).tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    columns = []
    for place, size in enumerate(sizes):
        columns.append(np.eye(size)[samples[:, place]] - 1 / size)
        if size > 2:
            columns.append(0.7 * np.linspace(-1, 1, size)[samples[:, place], None])
    return np.concatenate(columns, axis=1)
