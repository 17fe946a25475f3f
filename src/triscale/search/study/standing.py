"""Means over seeds, their standard errors, and which differences mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from triscale.search.shape import Array
from triscale.search.study.trial import Score

TWO_SIDED = 0.975


def means_and_errors(scores: Sequence[Sequence[Score]]) -> tuple[Array, Array, float]:
    """Average the seeds of each candidate.

    With several seeds the spread between them is taken to be alike for all candidates and pooled, since two or three
    values say little about it. It holds for these held-out images. With one seed there is no such spread, and the
    standard error is that of the held-out images.

    Args:
        scores: For each candidate one score a seed, of all the same number.

    Returns:
        Mean accuracies ``[n]``, their standard errors ``[n]``, and the degrees of freedom (infinite with one seed).
    """
    accuracy = np.array([[score.accuracy for score in seeds] for seeds in scores])
    seeds = accuracy.shape[1]
    if seeds == 1:
        return accuracy[:, 0], np.array([seeds[0].error for seeds in scores]), np.inf
    freedom = accuracy.shape[0] * (seeds - 1)
    pooled = float(accuracy.var(axis=1, ddof=1).mean())
    return accuracy.mean(axis=1), np.full(len(accuracy), np.sqrt(pooled / seeds)), freedom


def tied_with_best(means: Array, errors: Array, freedom: float) -> list[bool]:
    """Tell which candidates are not worse than the best by more than chance (two-sided t test, 5%).

    Each is compared with the best by itself. The best itself counts as tied.
    """
    best = int(np.argmax(means))
    limit = float(stdtrit(freedom, TWO_SIDED)) if np.isfinite(freedom) else 1.959964
    gaps = means[best] - means
    return [bool(gap <= limit * np.hypot(error, errors[best])) for gap, error in zip(gaps, errors, strict=True)]
