"""Accuracy as a formula of depth, width and resolution, with a known best candidate, and noise.

Sizes are measured independently of the package. One of the three kinds has a form that the package fits, one nearly,
and one (the bottleneck) has neither form.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from triscale.network.spec import Network
from triscale.search.coefficients.grid import Candidates
from triscale.search.study.trial import Job, Score

NOISE = 0.004
"""Standard deviation between seeds."""
TIE = 0.003
"""An accuracy difference that three seeds cannot resolve: their means differ by 0.0033 at random."""

COST = np.array([1.0, 2.0, 2.0])
Error = Callable[[np.ndarray], float]


def sum_of_powers(random: np.random.Generator) -> Error:
    """Each dimension reduces the error independently."""
    floor, shares = random.uniform(0.03, 0.15), random.dirichlet([3, 3, 3]) * random.uniform(0.15, 0.35)
    exponents = random.uniform(0.15, 0.6, 3) * COST
    return lambda octaves: floor + float(shares @ 2.0 ** (-octaves * exponents))


def bowl(random: np.random.Generator) -> Error:
    """Error falls with cost and rises with the distance from a straight line of best balance."""
    start, slope, best = random.uniform(0.15, 0.4), random.uniform(0.12, 0.25), random.dirichlet([3, 3, 3])
    spread = random.normal(size=(2, 2)) * 0.2
    curve = spread @ spread.T + np.eye(2) * 0.08
    offset = random.normal(size=3) * 0.15
    across = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])

    def error(octaves: np.ndarray) -> float:
        cost = octaves * COST
        aside = across @ (cost - cost.sum() * best - offset)
        return start * math.exp(-slope * cost.sum() * math.log(2) + aside @ curve @ aside)

    return error


def bottleneck(random: np.random.Generator) -> Error:
    """The dimension that is smallest for its weight holds the others back (constant elasticity of substitution)."""
    floor, height = random.uniform(0.02, 0.1), random.uniform(0.15, 0.3)
    weights, exponents = random.dirichlet([4, 4, 4]), random.uniform(0.25, 0.6) * COST
    power = random.uniform(1, 4)
    return lambda octaves: floor + height * float(weights @ 2.0 ** (-octaves * exponents * power)) ** (1 / power)


KINDS = (sum_of_powers, bowl, bottleneck)


class Surface:
    """A random surface for a baseline, and a training on it: with checkpoints, a learning curve and seeds."""

    def __init__(self, baseline: Network, number: int) -> None:
        self.baseline, self.number = baseline, number
        self.error = KINDS[number % len(KINDS)](np.random.default_rng(number))
        self.reached: dict[str, int] = {}

    def octaves(self, network: Network) -> np.ndarray:
        """Measure a network: blocks, root mean square of the widths' ratios, pixels."""
        old, new = self.baseline, network
        ratios = [(b.width / a.width) ** 2 for a, b in zip(old.stages, new.stages, strict=True)]
        depth, width = new.num_blocks / old.num_blocks, math.sqrt(sum(ratios) / len(ratios))
        return np.log2([depth, width, new.resolution / old.resolution])

    def truth(self, network: Network) -> float:
        """Accuracy after a full proxy, without noise."""
        return 1 - self.error(self.octaves(network))

    def loss(self, candidates: Candidates, network: Network) -> float:
        """Return the accuracy loss of a choice relative to the best candidate."""
        return max(self.truth(candidate.network) for candidate in candidates.candidates) - self.truth(network)

    def train(self, jobs: Sequence[Job]) -> list[Score]:
        """Evaluate jobs; one must begin where the last of its key ended. Deep networks learn more slowly."""
        return [self._train(job) for job in jobs]

    def _train(self, job: Job) -> Score:
        assert isinstance(job.network, Network)
        assert self.reached.get(job.key, 0) == job.start
        self.reached[job.key] = job.stop
        words = f"{self.number} {job.key} {job.stop}"
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big"))
        octaves = self.octaves(job.network)
        behind = (1 + 0.2 * octaves[0]) * (1 / job.stop - 1 / 9) * 0.5
        return Score(min(1.0, max(0.0, 1 - self.error(octaves) * (1 + behind) + random.normal(0, NOISE))), 0.005)
