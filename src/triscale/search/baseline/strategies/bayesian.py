"""Bayesian optimization: a Gaussian process predicts accuracy, and the most promising networks are proposed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from triscale.network.cost import count_network
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.space import Sample, Space
from triscale.search.baseline.strategies.gaussian_process import GaussianProcess, one_hot
from triscale.search.baseline.strategies.strategy import propose
from triscale.search.shape import Array

FEWEST = 3
"""Trained networks for a first prediction, where a constraint refuses most."""
INITIAL = 10
"""Random samples before the first prediction; with 16 and 30 the results on Accel-NASBench were worse."""
ENUMERATED = 4096
"""Spaces up to this size are searched completely for the greatest expected improvement."""
STARTS = 100
"""Random samples from which a local search for the greatest expected improvement begins, besides the best so far."""
ROUNDS = 12
BEAM = 8
CANDIDATES = 1500
"""Samples of greatest expected improvement among which a batch is chosen."""
TRIES = 100
"""Random samples that are tried before a network is proposed twice."""
SPREAD = 8
"""Samples of a batch differ in at least one in so many choices: near-copies teach little about each other."""


class KnownCost(NamedTuple):
    """What is known about a network before it is trained.

    Attributes:
        structure: Equal for samples that give the same network.
        costs: Its cost by name, as in an objective.
        features: Numbers that accuracy may grow with, such as the logarithm of MACs.
    """

    structure: str
    costs: dict[str, float]
    features: tuple[float, ...]


def figures_of(space: Space) -> Callable[[Sample], KnownCost]:
    """Return a function that counts the network of a sample."""

    def figures(sample: Sample) -> KnownCost:
        network = space.network(sample)
        counts = count_network(network)
        features = (*np.log([counts.macs, counts.params, counts.activations]).tolist(), float(network.num_blocks))
        return KnownCost(network.structure, {"macs": counts.macs, "params": counts.params}, features)

    return figures


class Bayesian:
    """Bayesian optimization with batches.

    The process models accuracy from the choices, their pairs, and the logarithms of MACs, parameters and activations,
    and the depth. Cost is known before the training, so a prediction of accuracy is one of the reward. A batch is
    chosen one by one by expected improvement (Jones et al. 1998), each time as if the samples chosen before had been
    evaluated and had given what was predicted (Ginsbourger et al. 2010). No network is proposed twice.

    Args:
        space: The search space.
        seed: Seed of all random numbers.
        objective: The objective that the rewards come from.
        pool: The only samples to propose; None for all of the space.
        figures: Returns what is known about the network of a sample; by default its cost is counted.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        objective: SearchObjective,
        *,
        pool: Sequence[Sample] | None = None,
        figures: Callable[[Sample], KnownCost] | None = None,
    ) -> None:
        self._space, self._random, self._objective = space, random.Random(seed), objective
        self._sizes = tuple(len(choice.options) for choice in space.free_choices)
        self._pool = pool
        if pool is None and space.size <= ENUMERATED:
            self._pool = list(product(*map(range, self._sizes)))
        self._count = figures or figures_of(space)
        self._known: dict[Sample, KnownCost] = {}
        self._proposed: set[Sample] = set()
        self._structures: set[str] = set()
        self._observed: list[Observation] = []
        self._process = GaussianProcess(len(self._sizes))
        self._center: tuple[Array, Array] | None = None

    def ask(self, count: int) -> list[Sample]:
        """Propose random samples at first, then those of the greatest expected improvement."""
        trained = [observation for observation in self._observed if observation.accuracy is not None]
        batch: list[Sample] = []
        enough = len(self._observed) >= min(INITIAL, self._space.size) and len(trained) >= FEWEST
        if count and self._sizes and enough:
            batch = self._improving(trained, count)
        while len(batch) < count:
            batch.append(self._propose(self._new_random()))
        return batch

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Keep the observations for the next prediction."""
        self._observed.extend(outcomes)

    def _propose(self, sample: Sample) -> Sample:
        self._proposed.add(sample)
        self._structures.add(self._figures(sample).structure)
        return sample

    def _new_random(self) -> Sample:
        """Return a random new sample that the objective admits, or else the cheapest of those tried."""
        tried: list[Sample] = []
        for _ in range(TRIES):
            sample = self._any_sample()
            if self._is_new(sample):
                if not self._refuses or self._objective.admits(float(self._costs([sample])[0])):
                    return sample
                tried.append(sample)
        if tried:
            return tried[int(self._costs(tried).argmin())]
        if self._pool is not None:
            return next((sample for sample in self._pool if self._is_new(sample)), self._pool[0])
        return propose(self._space, set(self._proposed), self._space.sample(self._random), self._mutate)

    def _mutate(self, sample: Sample) -> Sample:
        return self._space.mutate(sample, self._random)

    def _is_new(self, sample: Sample) -> bool:
        return sample not in self._proposed and self._figures(sample).structure not in self._structures

    def _figures(self, sample: Sample) -> KnownCost:
        if sample not in self._known:
            self._known[sample] = self._count(sample)
        return self._known[sample]

    def _inputs(self, samples: Sequence[Sample]) -> tuple[Array, Array]:
        """Return centered choices and standardized features."""
        if self._center is None:
            some = [self._figures(self._any_sample()).features for _ in range(300)]
            deviation = np.std(some, axis=0)
            self._center = np.mean(some, axis=0), np.where(deviation > 0, deviation, 1.0)
        mean, deviation = self._center
        features = np.array([self._figures(sample).features for sample in samples])
        return one_hot(np.array(samples), self._sizes), (features - mean) / deviation

    def _any_sample(self) -> Sample:
        return self._space.sample(self._random) if self._pool is None else self._random.choice(self._pool)

    def _improving(self, trained: Sequence[Observation], count: int) -> list[Sample]:
        """Return new samples of great expected improvement; fewer if there are none."""
        samples = [observation.sample for observation in trained]
        self._process.fit(*self._inputs(samples), np.array([observation.accuracy for observation in trained]))
        rewards = self._process.predict(*self._inputs(samples)).mean * self._weights(samples)
        best = float(rewards.max())

        def improvement(among: Sequence[Sample]) -> Array:
            predicted, weight = self._process.predict(*self._inputs(among)), self._weights(among)
            return expected_improvement(predicted.mean * weight, predicted.deviation * weight, best)

        candidates = self._candidates(samples, rewards, improvement)
        return [self._propose(sample) for sample in self._batch(candidates, best, count)]

    @property
    def _refuses(self) -> bool:
        """Whether the objective refuses some networks, and their costs are known or can be predicted."""
        return self._objective.form == "constraint" and (
            self._objective.cost != "latency" or len(self._observed) >= INITIAL
        )

    def _costs(self, samples: Sequence[Sample]) -> Array:
        """Return the costs of samples; latency is predicted from that of the samples so far."""
        name = self._objective.cost
        if name != "latency":
            return np.array([self._figures(sample).costs[name] for sample in samples])

        def design(some: Sequence[Sample]) -> Array:
            return np.column_stack([np.ones(len(some)), self._inputs(some)[1]])

        observed = design([observation.sample for observation in self._observed])
        times = np.log([observation.cost for observation in self._observed])
        line = np.linalg.solve(observed.T @ observed + 0.01 * np.eye(observed.shape[1]), observed.T @ times)
        result: Array = np.exp(design(samples) @ line)
        return result

    def _weights(self, samples: Sequence[Sample]) -> Array:
        """Return the rewards of an accuracy of 1; 0 for what the objective does not admit."""
        objective = self._objective
        costs = self._costs(samples).tolist()
        return np.array([objective.reward(1.0, cost) if objective.admits(cost) else 0.0 for cost in costs])

    def _candidates(
        self, samples: Sequence[Sample], rewards: Array, improvement: Callable[[Sequence[Sample]], Array]
    ) -> list[Sample]:
        """Return new samples in the order of their expected improvement, the greatest first."""
        if self._pool is not None:
            new = [sample for sample in self._pool if self._is_new(sample)]
            return [new[index] for index in np.argsort(-improvement(new), kind="stable")[:CANDIDATES]] if new else []
        best = [samples[index] for index in np.argsort(-rewards, kind="stable")[:BEAM]]
        starts = list(dict.fromkeys([*best, *(self._space.sample(self._random) for _ in range(STARTS))]))
        values = dict(zip(starts, improvement(starts).tolist(), strict=True))
        beam = [*best[:3], *sorted(starts, key=values.__getitem__, reverse=True)[: BEAM - 3]]
        for _ in range(ROUNDS):
            around = list(dict.fromkeys(near for sample in beam for near in self._neighbors(sample)))
            new = [sample for sample in around if sample not in values]
            if not new:
                break
            values |= dict(zip(new, improvement(new).tolist(), strict=True))
            following = sorted(values, key=values.__getitem__, reverse=True)[:BEAM]
            if set(following) <= set(beam):
                break
            beam = following
        ordered = sorted(values, key=values.__getitem__, reverse=True)
        return [sample for sample in ordered if self._is_new(sample)][:CANDIDATES]

    def _neighbors(self, sample: Sample) -> list[Sample]:
        return [
            (*sample[:place], option, *sample[place + 1 :])
            for place, size in enumerate(self._sizes)
            for option in range(size)
            if option != sample[place]
        ]

    def _batch(self, candidates: Sequence[Sample], best: float, count: int) -> list[Sample]:
        if not candidates:
            return []
        predicted, weight = self._process.predict(*self._inputs(candidates)), self._weights(candidates)
        if (weight > 0).any():
            candidates = [sample for sample, value in zip(candidates, weight, strict=True) if value > 0]
            predicted, weight = self._process.predict(*self._inputs(candidates)), weight[weight > 0]
        points = np.array(candidates)
        least = max(1, len(self._sizes) // SPREAD)
        free, far = np.ones(len(points), dtype=bool), np.ones(len(points), dtype=bool)
        structures = [self._figures(sample).structure for sample in candidates]
        conditioned = self._process.conditioning(*self._inputs(candidates))
        chosen: list[Sample] = []
        deviation: NDArray[np.float64] = predicted.deviation
        while len(chosen) < count and free.any():
            value = expected_improvement(predicted.mean * weight, deviation * weight, best)
            among = free & far if (free & far).any() else free
            index = int(np.where(among, value, -np.inf).argmax())
            chosen.append(candidates[index])
            free &= np.array([structure != structures[index] for structure in structures])
            far &= (points != points[index]).sum(axis=1) >= least
            deviation = conditioned(index)
        return chosen


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the expectation of how much normal variables exceed ``best``, counted as 0 where they do not.

    Args:
        mean: Their means.
        deviation: Their standard deviations.
        best: The value to exceed.

    Example:
        >>> expected_improvement(np.array([0.0]), np.array([1.0]), 0.0).round(4).tolist()
        [0.3989]
    """
    positive = np.maximum(deviation, 1e-12)
    scaled = (mean - best) / positive
    density = np.exp(-(scaled**2) / 2) / np.sqrt(2 * np.pi)
    result: Array = positive * (scaled * ndtr(scaled) + density)
    return result
