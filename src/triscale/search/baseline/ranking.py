"""How well one way to judge networks orders them as another does, and whether that is good enough to search by."""

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
"""Kendall's tau from which an order is trusted: of four pairs of networks three are in the right order."""

MIN_NETWORKS = 5
"""Fewer networks give no interval."""


class Ranking(Record):
    """How a cheap score orders networks that were also trained by themselves.

    ``kendall`` (tau-b) is the share of pairs in the same order less that of the others, ``spearman`` the correlation of
    ranks. ``low`` and ``high`` are an approximate 95% interval of Kendall's tau over all networks of the space.
    ``trusted``: tau is at least ``bound``, and chance alone would not give as much.
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
        """Why the order is unreliable, in words; nothing where it is."""
        if self.trusted:
            return ""
        if self.kendall < self.bound:
            return f"that is below {self.bound:g}: its choice is hardly better than chance"
        return f"{self.networks} networks are too few to tell that from chance"


def rank(cheap: Sequence[float], trained: Sequence[float]) -> Ranking:
    """Compare two scores of the same networks, random from those that are to be ordered.

    Args:
        cheap: Scores of the networks, such as a supernet's.
        trained: Accuracies of the same after a training each.

    Raises:
        SearchError: Too few networks to tell anything.
    """
    number = len(cheap)
    if number < MIN_NETWORKS:
        raise SearchError(f"the order of {number} networks says nothing of others; train {MIN_NETWORKS} or more")
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
    """Return Kendall's tau-b of paired values, from -1 to 1, with ties taken out; 0 where one side is all tied."""
    x, y = _signs(first), _signs(second)
    scale = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / scale if scale else 0.0


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rho of paired values, from -1 to 1, ties at their mean rank; 0 where one side is all tied."""
    # A rank is half the sum of the signs of a value's differences, but for a constant: ties get their mean.
    x, y = _signs(first).sum(1), _signs(second).sum(1)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else 0.0


def kendall_interval(tau: float, number: int) -> tuple[float, float]:
    """Return an approximate 95% interval for the tau of a population from that of a sample.

    Fisher's z of tau has a variance of 0.437 / (number - 4) (Fieller, Hartley & Pearson 1957; Bonett & Wright 2000, who
    find it good up to 0.8). For few networks that is taken for an estimate with ``number - 2`` degrees of freedom:
    coverage falls to 91% otherwise. A sample in perfect order is taken for one that misses it by half a pair, as
    perfection has an infinite z.

    Args:
        tau: Of the sample.
        number: Of its members, :data:`MIN_NETWORKS` or more.
    """
    assert number >= MIN_NETWORKS
    most = 1 - 2 / (number * (number - 1))
    z = math.atanh(min(most, max(-most, tau)))
    reach = float(stdtrit(number - 2, TWO_SIDED)) * math.sqrt(0.437 / (number - 4))
    return min(tau, math.tanh(z - reach)), max(tau, math.tanh(z + reach))


def _signs(values: Sequence[float]) -> Array:
    """Return the signs of all differences ``[n, n]``."""
    found = np.asarray(values, dtype=np.float64)
    return np.sign(found[:, None] - found[None, :])
