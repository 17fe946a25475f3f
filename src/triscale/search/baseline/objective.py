"""The objective of a baseline search: accuracy weighed against cost, and the Pareto front of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from triscale.record import Record
from triscale.search.baseline.space import Sample

CostName = Literal["macs", "params", "latency"]
EXPONENT = -0.07


class SearchObjective(Record):
    """The reward ``accuracy * (cost / target) ** exponent`` (MnasNet, Tan et al. 2019, equations 2-4).

    ``cost`` is MACs, parameters, or latency in milliseconds for one image. ``form`` is one of:

    - ``soft``: the same exponent above and below the target, -0.07 in the paper: twice the cost must buy 5% more
      accuracy, in relative terms.
    - ``hard``: exponent 0 up to the target and -1 above it.
    - ``constraint``: networks above the target are not trained; their reward is below all others.

    Example:
        >>> objective = SearchObjective(cost="macs", target=300e6)
        >>> round(objective.reward(accuracy=0.75, cost=600e6), 4)
        0.7145
    """

    cost: CostName = "macs"
    target: float = Field(gt=0)
    form: Literal["soft", "hard", "constraint"] = "soft"
    exponent: float = Field(default=EXPONENT, le=0, ge=-10)

    def reward(self, accuracy: float, cost: float) -> float:
        """Return the reward of a network.

        Args:
            accuracy: Accuracy from 0 to 1.
            cost: Cost in the unit of the target.
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
        """Return whether a network of this cost is trained."""
        return self.form != "constraint" or cost <= self.target


class Observation(NamedTuple):
    """The evaluation of a sample that a strategy learns from: reward, accuracy and cost.

    ``accuracy`` is None for a network that was not trained because it costs more than a constraint allows.
    """

    sample: Sample
    reward: float
    accuracy: float | None
    cost: float


def front(accuracies: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto front, from the cheapest to the most expensive.

    A network is on the front if every more accurate network costs more. Of equal networks only the first is on it.

    Args:
        accuracies: Accuracy of each network.
        costs: Cost of each network.

    Example:
        >>> front([0.7, 0.8, 0.75], [1.0, 2.0, 3.0])
        [0, 1]
    """
    indices: list[int] = []
    best = -math.inf
    # By increasing cost, a network is on the front if it is more accurate than all cheaper ones.
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -accuracies[index], index)):
        if accuracies[index] > best:
            indices.append(index)
            best = accuracies[index]
    return indices
