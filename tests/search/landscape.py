"""Accuracy as a formula over the space of a baseline search, with a proxy's noise.

The error is a floor and a power law of the exact MACs, times the exponential of what the choices add: an effect of each
option, and of each pair of options of some pairs of choices. Samples that are the same network have the same accuracy.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from triscale.network.cost import count_network
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.space import Sample, Space

FLOOR, HEIGHT, POWER = 0.08, 0.32, 0.15
"""Error at infinite cost, additional error at the reference cost, and exponent of its decrease with cost."""
REFERENCE_MACS = 300e6
EFFECTS, INTERACTIONS = 0.08, 0.04
"""Standard deviations over all samples of the logarithm of the error above the floor, for both kinds of effects."""
PAIRS = 60
IMAGES = 2000
"""Number of images of an observed accuracy."""


class Ground:
    """Data shared by all landscapes over a space: which samples are the same network, and its cost."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._blocks = [
            [place for place, choice in enumerate(space.free_choices) if choice.block == block]
            for block in range(len(space.skeleton.stages))
        ]
        self._first = [self._first_alike(block) for block in range(len(self._blocks))]
        self._macs: dict[Sample, int] = {}

    def canonical(self, sample: Sample) -> Sample:
        """Return the first sample that is the same network."""
        indices = list(sample)
        for places, first in zip(self._blocks, self._first, strict=True):
            for place, index in zip(places, first[tuple(sample[place] for place in places)], strict=True):
                indices[place] = index
        return tuple(indices)

    def macs(self, sample: Sample) -> int:
        """Return the exact MACs."""
        sample = self.canonical(sample)
        if sample not in self._macs:
            self._macs[sample] = count_network(self.space.network(sample)).macs
        return self._macs[sample]

    def _first_alike(self, block: int) -> dict[Sample, Sample]:
        places, result, first = self._blocks[block], {}, {}
        for point in product(*(range(len(self.space.free_choices[place].options)) for place in places)):
            sample = [0] * len(self.space.free_choices)
            for place, index in zip(places, point, strict=True):
                sample[place] = index
            stage = self.space.network(tuple(sample)).stages[block]
            result[point] = first.setdefault(stage, point)
        return result


class Landscape:
    """A random landscape over the space of a ground; its number is the seed."""

    def __init__(self, ground: Ground, number: int) -> None:
        self.ground, self.number = ground, number
        random = np.random.default_rng(number)
        counts = [len(choice.options) for choice in ground.space.free_choices]
        self._effects = [_scaled(random.normal(size=count), EFFECTS / math.sqrt(len(counts))) for count in counts]
        pairs = [tuple(sorted(random.choice(len(counts), 2, replace=False))) for _ in range(PAIRS)]
        self._pairs = [
            (int(a), int(b), _scaled(random.normal(size=(counts[a], counts[b])), INTERACTIONS / math.sqrt(PAIRS)))
            for a, b in pairs
        ]

    def truth(self, sample: Sample) -> float:
        """Return the accuracy without noise."""
        sample = self.ground.canonical(sample)
        effect = sum(effects[index] for effects, index in zip(self._effects, sample, strict=True))
        effect += sum(table[sample[a], sample[b]] for a, b, table in self._pairs)
        share = self.ground.macs(sample) / REFERENCE_MACS
        return 1 - min(1.0, FLOOR + HEIGHT * share**-POWER * math.exp(effect))

    def observed(self, sample: Sample) -> float:
        """Return the noisy accuracy of a proxy, deterministic for each network."""
        random = np.random.default_rng([self.number, *self.ground.canonical(sample)])
        return float(random.binomial(IMAGES, self.truth(sample)) / IMAGES)

    def observe(self, sample: Sample, objective: SearchObjective) -> Observation:
        """Return the observation of a sample."""
        macs = self.ground.macs(sample)
        accuracy = self.observed(sample) if objective.admits(macs) else None
        return Observation(sample, objective.reward(accuracy or 0.0, macs), accuracy, macs)

    def reward(self, sample: Sample, objective: SearchObjective) -> float:
        """Return the reward without noise."""
        return objective.reward(self.truth(sample), self.ground.macs(sample))


def _scaled(effects: np.ndarray, deviation: float) -> np.ndarray:
    return deviation * (effects - effects.mean()) / effects.std()
