"""Rank correlation between a cheap score of networks and trained accuracy, and whether it suffices for a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from triscale.errors import SearchError
from triscale.record import Record
from triscale.search.shape import Array
from triscale.search.study.standing import TWO_SIDED

BOUND = 0.5
"""Minimum Kendall's tau for a trusted ranking: 3 of 4 pairs of networks are in the right order."""

MIN_NETWORKS = 5
"""Minimum number of networks for a confidence interval."""


class Ranking(Record):
    """How well a cheap score ranks networks that were also trained individually.

    ``kendall`` (tau-b) is the share of concordant minus discordant pairs, ``spearman`` the correlation of ranks.
    ``low`` and ``high`` are an approximate 95% interval of Kendall's tau for all networks of the space. ``trusted``
    means that tau is at least ``bound`` and significantly above 0.
    """

    networks: int = Field(ge=MIN_NETWORKS)
    kendall: float
    spearman: float
    low: float
    high: float
    bound: float = BOUND
    trusted: bool

    @property
    def doubt(self) -> str:
        """Why the ranking is not trusted, as a sentence; empty if it is trusted."""
        if self.trusted:
            return ""
        if self.kendall < self.bound:
            return f"that is below {self.bound:g}, hardly better than a random order"
        return f"{self.networks} networks are too few for a significant correlation"


def rank(cheap: Sequence[float], trained: Sequence[float]) -> Ranking:
    """Compare two scores of the same random networks of a space.

    Args:
        cheap: A cheap score of each network, such as a supernet's.
        trained: Accuracy of each network after its own training.

    Raises:
        SearchError: There are fewer than :data:`MIN_NETWORKS` networks.

    Example:
        >>> rank([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]).kendall
        0.8
    """
    number = len(cheap)
    if number < MIN_NETWORKS:
        raise SearchError(f"{number} networks are too few for a rank correlation; train {MIN_NETWORKS} or more")
    tau = kendall(cheap, trained)
    low, high = kendall_interval(tau, number)
    return Ranking(
        networks=number,
        kendall=tau,
        spearman=spearman(cheap, trained),
        low=low,
        high=high,
        trusted=tau >= BOUND and low > 0,
    )


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau-b of paired values, from -1 to 1, adjusted for ties; 0 if all values of one side are tied.

    Example:
        >>> kendall([1, 2, 3], [3, 2, 1])
        -1.0
    """
    x, y = _signs(first), _signs(second)
    scale = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / scale if scale else 0.0


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rho of paired values, from -1 to 1, ties at their mean rank; 0 if one side is all tied."""
    # Up to a constant, a rank is half the sum of the signs of a value's differences; ties get their mean rank.
    x, y = _signs(first).sum(1), _signs(second).sum(1)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else 0.0


def kendall_interval(tau: float, number: int) -> tuple[float, float]:
    """Return an approximate 95% confidence interval for the tau of a population, from a sample.

    Fisher's z of tau has a variance of 0.437 / (number - 4) (Fieller, Hartley & Pearson 1957; Bonett & Wright 2000 find
    the approximation good up to 0.8). A t quantile with ``number - 2`` degrees of freedom replaces the normal one; with
    the latter, coverage falls to 91% for few networks. Tau is clipped to half a pair from 1, where z is infinite.

    Args:
        tau: Kendall's tau of the sample.
        number: Size of the sample, at least :data:`MIN_NETWORKS`.
    """
    assert number >= MIN_NETWORKS
    limit = 1 - 2 / (number * (number - 1))
    z = math.atanh(min(limit, max(-limit, tau)))
    reach = float(stdtrit(number - 2, TWO_SIDED)) * math.sqrt(0.437 / (number - 4))
    return min(tau, math.tanh(z - reach)), max(tau, math.tanh(z + reach))


def _signs(values: Sequence[float]) -> Array:
    """Return the signs of all pairwise differences ``[n, n]``."""
    array = np.asarray(values, dtype=np.float64)
    return np.sign(array[:, None] - array[None, :])
