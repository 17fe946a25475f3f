"""Strategies of a search in which only some samples of the space, the pool, can be evaluated."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from triscale.search.baseline.objective import Observation
from triscale.search.baseline.space import Sample
from triscale.search.baseline.strategies.strategy import Strategy


class PoolRandomSearch:
    """Proposes random samples of a pool, each once until all were proposed."""

    def __init__(self, pool: Sequence[Sample], seed: int) -> None:
        self._pool, self._random = pool, random.Random(seed)
        self._drawn: set[int] = set()

    def ask(self, count: int) -> list[Sample]:
        """Draw random samples of the pool."""
        return [self._pool[self._draw()] for _ in range(count)]

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Ignore the outcomes."""

    def _draw(self) -> int:
        index = self._random.randrange(len(self._pool))
        while index in self._drawn and len(self._drawn) < len(self._pool):
            index = self._random.randrange(len(self._pool))
        self._drawn.add(index)
        return index


class NearestInPool:
    """Replaces each proposal of a strategy by the nearest sample of a pool that was not proposed yet.

    The distance is the number of choices that differ; of equally near samples the first counts. The strategy observes
    the evaluation of the nearest sample as if it were that of its own proposal, which is a handicap.

    Args:
        strategy: Proposes any sample of the space.
        pool: The samples that can be evaluated.
    """

    def __init__(self, strategy: Strategy, pool: Sequence[Sample]) -> None:
        self._strategy, self._pool = strategy, pool
        self._points = np.array(pool)
        self._free = np.ones(len(pool), dtype=bool)
        self._proposed: list[Sample] = []

    def ask(self, count: int) -> list[Sample]:
        """Return the samples of the pool that are nearest to the strategy's proposals."""
        self._proposed = self._strategy.ask(count)
        return [self._nearest(sample) for sample in self._proposed]

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Report the evaluations to the strategy, under its own proposals."""
        pairs = zip(self._proposed, outcomes, strict=True)
        self._strategy.tell([outcome._replace(sample=sample) for sample, outcome in pairs])

    def _nearest(self, sample: Sample) -> Sample:
        different = (self._points != np.array(sample)).sum(axis=1)
        index = int(np.where(self._free, different, len(sample) + 1).argmin())
        self._free[index] = False
        return self._pool[index]
