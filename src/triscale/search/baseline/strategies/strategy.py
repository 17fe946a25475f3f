"""The ask-and-tell interface of strategies of the baseline search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from triscale.search.baseline.objective import Observation
from triscale.search.baseline.space import Sample, Space

TRIES = 1000
"""Attempts to find a new sample before a strategy repeats an old one."""


class Strategy(Protocol):
    """A sampling strategy with an ask-and-tell interface.

    Calls alternate: after each ``ask``, one ``tell`` reports all of its samples in the same order. Their number may
    differ from call to call. Proposals are a deterministic function of the space, the seed and all previous calls,
    so that a search resumes by replaying the same calls on a new strategy.
    """

    def ask(self, count: int) -> list[Sample]:
        """Propose samples to evaluate.

        Args:
            count: Number of samples; they may contain duplicates and samples of earlier calls.
        """

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Report the evaluations of the samples proposed last.

        Args:
            outcomes: One for each sample, in the same order.
        """


def propose(space: Space, seen: set[Sample], first: Sample, following: Callable[[Sample], Sample]) -> Sample:
    """Return a sample that was not proposed before and add it to ``seen``; repeat one if none is found.

    Args:
        space: The search space.
        seen: The samples proposed so far, changed in place.
        first: The first sample to try.
        following: Returns the next sample to try, given the last.
    """
    sample = first
    for _ in range(TRIES):
        if sample not in seen or len(seen) >= space.size:
            break
        sample = following(sample)
    seen.add(sample)
    return sample
