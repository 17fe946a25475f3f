"""What a baseline search maximizes: accuracy weighed against cost, and the front of all that nothing beats on both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from triscale.record import Record
from triscale.search.baseline.space import Sample

CostName = Literal["macs", "params", "latency"]
EXPONENT = -0.07


class Objective(Record):
    """``accuracy * (cost / target) ** exponent`` (Tan et al. 2019, equations 2 to 4).

    ``form``: ``soft`` weighs the cost above and below the target alike, with an exponent of -.07 in the paper: twice
    the cost has to buy 5% more accuracy, relative to what there is. ``hard`` weighs nothing up to the target, and
    above it with an exponent of -1. ``constraint`` refuses what costs more than the target: it is not trained, and its
    reward is below all others. ``cost`` is MACs, parameters, or milliseconds for one image.
    """

    cost: CostName = "macs"
    target: float = Field(gt=0)
    form: Literal["soft", "hard", "constraint"] = "soft"
    exponent: float = Field(default=EXPONENT, le=0, ge=-10)

    def reward(self, accuracy: float, cost: float) -> float:
        """Return the reward of a network.

        Args:
            accuracy: From 0 to 1.
            cost: In the unit of the target.
        """
        share = cost / self.target
        match self.form:
            case "soft":
                return accuracy * math.pow(share, self.exponent)
            case "hard":
                return accuracy if share <= 1 else accuracy / share
            case "constraint":
                return accuracy if share <= 1 else 1 - share

    def admits(self, cost: float) -> bool:
        """Whether a network of this cost is worth a training."""
        return self.form != "constraint" or cost <= self.target


class Observation(NamedTuple):
    """What a strategy is told of a sample: its reward, and the two figures that it is made of.

    ``accuracy`` is None for a network that was not trained, since it costs more than a constraint allows.
    """

    sample: Sample
    reward: float
    accuracy: float | None
    cost: float


def front(accuracies: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto front, from the cheapest to the most expensive.

    On the front is what nothing beats: all that is more accurate costs more. Of equals the first is on it.

    Args:
        accuracies: Of the networks.
        costs: Of the same.
    """
    found: list[int] = []
    best = -math.inf
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -accuracies[index], index)):
        if accuracies[index] > best:
            found.append(index)
            best = accuracies[index]
    return found
