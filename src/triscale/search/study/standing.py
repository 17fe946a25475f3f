"""Means over seeds, their standard errors, and which candidates are tied with the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from triscale.search.shape import Array
from triscale.search.study.trial import Score

TWO_SIDED = 0.975


def means_and_errors(scores: Sequence[Sequence[Score]]) -> tuple[Array, Array, float]:
    """Average the seeds of each candidate.

    With several seeds the variance between them is assumed equal for all candidates and pooled, since two or three
    values estimate it poorly. It does not include the sampling of the validation images. With one seed the standard
    error is the binomial error of the validation images.

    Args:
        scores: For each candidate one score per seed, the same number for all.

    Returns:
        Mean accuracies ``[n]``, their standard errors ``[n]``, and the degrees of freedom (infinite with one seed).

    Example:
        >>> means, errors, freedom = means_and_errors([[Score(0.5), Score(0.7)], [Score(0.8), Score(0.8)]])
        >>> means.round(3).tolist(), errors.round(3).tolist(), freedom
        ([0.6, 0.8], [0.071, 0.071], 2)
    """
    accuracy = np.array([[score.accuracy for score in seeds] for seeds in scores])
    seeds = accuracy.shape[1]
    if seeds == 1:
        return accuracy[:, 0], np.array([seeds[0].error for seeds in scores]), np.inf
    freedom = accuracy.shape[0] * (seeds - 1)
    pooled = float(accuracy.var(axis=1, ddof=1).mean())
    return accuracy.mean(axis=1), np.full(len(accuracy), np.sqrt(pooled / seeds)), freedom


def tied_with_best(means: Array, errors: Array, freedom: float) -> list[bool]:
    """Return which candidates are not significantly worse than the best (two-sided t test, 5%).

    Each candidate is compared with the best without correction for multiple tests. The best itself counts as tied.

    Args:
        means: Mean accuracies ``[n]``.
        errors: Their standard errors ``[n]``.
        freedom: Degrees of freedom of the errors.

    Example:
        >>> tied_with_best(np.array([0.80, 0.79, 0.60]), np.array([0.01, 0.01, 0.01]), 10)
        [True, True, False]
    """
    best = int(np.argmax(means))
    limit = float(stdtrit(freedom, TWO_SIDED)) if np.isfinite(freedom) else 1.959964
    gaps = means[best] - means
    return [bool(gap <= limit * np.hypot(error, errors[best])) for gap, error in zip(gaps, errors, strict=True)]
