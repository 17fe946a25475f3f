"""Uniform random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence

from triscale.search.baseline.objective import Observation
from triscale.search.baseline.space import Sample, Space
from triscale.search.baseline.strategies.strategy import propose


class RandomSearch:
    """Proposes uniformly random samples, without repetition while new ones are easy to find."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._random = space, random.Random(seed)
        self._seen: set[Sample] = set()

    def ask(self, count: int) -> list[Sample]:
        """Draw new random samples."""
        return [propose(self._space, self._seen, self._draw(), lambda _: self._draw()) for _ in range(count)]

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Ignore the outcomes."""

    def _draw(self) -> Sample:
        return self._space.sample(self._random)
