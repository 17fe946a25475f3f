"""What a strategy of the baseline search is: it proposes samples, and is told what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from triscale.search.baseline.objective import Observation
from triscale.search.baseline.space import Sample, Space

TRIES = 1000
"""How often a strategy looks for a sample that was not proposed before, until it repeats one."""


class Strategy(Protocol):
    """A way to choose what to train next.

    Calls alternate: the samples of one ``ask`` are all told, in the order in which they were proposed, before the next;
    each time the number may be another. What is proposed is a function of the space, the seed and all calls before, so
    that a search that was stopped continues where it was after the same calls were made again on a new strategy.
    """

    def ask(self, count: int) -> list[Sample]:
        """Propose samples to evaluate.

        Args:
            count: How many; a sample may be among them more than once, or have been told before.
        """

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Learn what came of the samples proposed last.

        Args:
            outcomes: One for each of them, in their order.
        """


def propose(space: Space, seen: set[Sample], first: Sample, following: Callable[[Sample], Sample]) -> Sample:
    """Return a sample that is not among those seen, and add it to them; one of them if none is found.

    Args:
        space: Of the samples.
        seen: What was proposed so far.
        first: Is returned if it was not.
        following: Makes the next one to try from the last.
    """
    sample = first
    for _ in range(TRIES):
        if sample not in seen or len(seen) >= space.size:
            break
        sample = following(sample)
    seen.add(sample)
    return sample
