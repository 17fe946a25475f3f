"""The networks of a law as a chain of single steps, from the smallest network to larger ones.

As phi grows, each rounded width, number of repeats and the resolution grow in steps. Sorted by the phi at which the law
takes them, the steps form a chain. Every network of the chain contains the previous one, so the cost grows along it
(except for the projection of a ResNet block, which disappears when its input and output get the same width). No
smaller change than one step follows the law::

    phi       0.00        0.13           0.21           0.26
    network   baseline -> stage 3: 48 -> stem: 40 ->    resolution: 240 -> ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from triscale.network.spec import Network
from triscale.scaling import apply
from triscale.scaling.law import Law

Dimension = tuple[str, int]
"""What a step changes: ``("width", -1)`` stem, ``("width", i)`` and ``("depth", i)`` stage i, ``("width", n)`` head."""

RESOLUTION: Dimension = ("resolution", 0)
STEM: Dimension = ("width", -1)


@dataclass(frozen=True, slots=True, order=True)
class ScalingStep:
    """One dimension of the network grows to ``value`` at ``phi``."""

    phi: float
    dimension: Dimension
    value: int


class Chain:
    """All steps of a law for a network up to a maximum phi.

    Args:
        network: The baseline.
        law: The scaling law.
        max_phi: The last step to include.

    Attributes:
        network: The baseline.
        steps: The steps, sorted by phi.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> chain = Chain(get("efficientnet_b0"), EFFICIENTNET, max_phi=0.5)
        >>> chain.at(0).head.width, chain.at(len(chain.steps)).head.width
        (8, 1344)
    """

    def __init__(self, network: Network, law: Law, max_phi: float) -> None:
        self.network = network
        self.multiple = apply.resolution_multiple(network)
        self.head: Dimension = ("width", len(network.stages))
        self._smallest: dict[Dimension, int] = {}
        steps: list[ScalingStep] = []
        for dimension, smallest, growth in self._dimensions(law):
            self._smallest[dimension] = smallest
            steps.extend(takewhile(lambda step: step.phi <= max_phi, growth))
        self.steps = sorted(steps)

    def at(self, length: int, extra: Sequence[ScalingStep] = ()) -> Network:
        """Return the network after the first ``length`` steps, plus some later steps.

        Args:
            length: Number of steps from the start of the chain.
            extra: Later steps to take in addition.
        """
        value = dict(self._smallest)
        for step in (*self.steps[:length], *extra):
            value[step.dimension] = step.value
        network = self.network
        head = network.head
        return network.replace(
            stem=network.stem.replace(width=value[STEM]),
            stages=tuple(
                stage.replace(width=value["width", index], repeats=value["depth", index])
                for index, stage in enumerate(network.stages)
            ),
            head=head if head.width is None else head.replace(width=value[self.head]),
            resolution=value[RESOLUTION],
        )

    def _dimensions(self, law: Law) -> Iterator[tuple[Dimension, int, Iterator[ScalingStep]]]:
        """Yield each dimension with its smallest value and its steps."""
        network = self.network
        yield self._width(STEM, network.stem.width, network.stem.width_rule, law.beta)
        for index, stage in enumerate(network.stages):
            yield self._width(("width", index), stage.width, stage.width_rule, law.beta)
            depth = 1.0 if stage.depth_rule == "fixed" else law.alpha
            smallest = stage.repeats if depth == 1 else 1
            yield (
                ("depth", index),
                smallest,
                _growth(("depth", index), stage.repeats, depth, count(smallest + 1), apply.min_repeats_for),
            )
        if network.head.width is not None:
            yield self._width(self.head, network.head.width, network.head.width_rule, law.beta)
        lowest = apply.min_resolution(network) if law.gamma > 1 else network.resolution
        yield (
            RESOLUTION,
            lowest,
            _growth(
                RESOLUTION,
                network.resolution,
                law.gamma,
                count(lowest + self.multiple, self.multiple),
                lambda pixels: apply.min_resolution_for(pixels, self.multiple),
            ),
        )

    def _width(
        self, dimension: Dimension, width: int, rule: str, beta: float
    ) -> tuple[Dimension, int, Iterator[ScalingStep]]:
        if rule == "fixed" or beta == 1:
            return dimension, width, iter(())
        smallest = apply.round_width(width) if rule == "never_narrower" else apply.WIDTH_MULTIPLE
        values = count(smallest + apply.WIDTH_MULTIPLE, apply.WIDTH_MULTIPLE)
        return dimension, smallest, _growth(dimension, width, beta, values, apply.min_width_for)


def _growth(
    dimension: Dimension, baseline: int, base: float, values: Iterator[int], min_for: Callable[[int], float]
) -> Iterator[ScalingStep]:
    """Yield the steps of one dimension: the phi at which ``baseline * base^phi`` is first rounded to each value."""
    if base == 1:
        return
    for value in values:
        # baseline * base^phi = min_for(value), solved for phi.
        yield ScalingStep(math.log(min_for(value) / baseline) / math.log(base), dimension, value)
