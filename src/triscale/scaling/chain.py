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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from triscale.network.spec import Network, Stage, WidthRule
from triscale.scaling import apply
from triscale.scaling.law import Axis, ScalingLaw
from triscale.scaling.rounding import ScaleRounding, min_repeats_for, min_resolution_for, min_width_for, round_width

Dimension = tuple[str, int]
"""What a step changes: ``("width", -1)`` stem, ``("width", i)`` and ``("depth", i)`` stage i, ``("width", n)`` head."""

BEYOND = 1 + 1e-6
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

    def __init__(self, network: Network, law: ScalingLaw, max_phi: float) -> None:
        self.network = network
        self.multiple = apply.resolution_multiple(network, law.rounding)
        self.head: Dimension = ("width", len(network.stages))
        self._smallest: dict[Dimension, int] = {}
        steps: list[ScalingStep] = []
        for dimension, smallest, growth in self._dimensions(law):
            self._smallest[dimension] = smallest
            steps.extend(takewhile(lambda step: step.phi <= max_phi, growth))
        self.steps = sorted(steps)

    @classmethod
    def next_steps(cls, baseline: Network, law: ScalingLaw, network: Network) -> tuple[ScalingStep, ...]:
        """Return the next step of each dimension of a network that the law has scaled ``baseline`` to.

        Example:
            >>> from triscale.families import get
            >>> from triscale.scaling.law import EFFICIENTNET
            >>> b0 = get("efficientnet_b0")
            >>> [step.value for step in Chain.next_steps(b0, EFFICIENTNET, b0) if step.dimension == RESOLUTION]
            [240]
        """
        chain = cls(baseline, law, -math.inf)
        values = chain.values_of(network)
        found = (
            next((step for step in growth if step.value > values[dimension]), None)
            for dimension, _, growth in chain._dimensions(law)
        )
        return tuple(sorted(step for step in found if step is not None))

    def values_of(self, network: Network) -> dict[Dimension, int]:
        """Return the value of each dimension of a network with the baseline's stages."""
        values = {STEM: network.stem.width, RESOLUTION: network.resolution}
        for index, stage in enumerate(network.stages):
            values |= {("width", index): stage.width, ("depth", index): stage.repeats}
        return values if network.head.width is None else values | {self.head: network.head.width}

    def at(self, length: int, extra: Sequence[ScalingStep] = ()) -> Network:
        """Return the network after the first ``length`` steps, plus some later steps.

        Args:
            length: Number of steps from the start of the chain.
            extra: Later steps to take in addition.
        """
        return self._network(self._smallest, (*self.steps[:length], *extra))

    def after(self, network: Network, step: ScalingStep) -> Network:
        """Return a network of the law with one more step."""
        return self._network(self.values_of(network), (step,))

    def _network(self, start: Mapping[Dimension, int], steps: Sequence[ScalingStep]) -> Network:
        value = dict(start)
        for step in steps:
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

    def _dimensions(self, law: ScalingLaw) -> Iterator[tuple[Dimension, int, Iterator[ScalingStep]]]:
        """Yield each dimension with its smallest value and its steps."""
        network, rounding = self.network, law.rounding
        stem, head = network.stem, network.head
        yield self._width(law, STEM, stem.width, rounding.stem or stem.width_rule, 0.0)
        for index, (stage, place) in enumerate(zip(network.stages, apply.places_of(network), strict=True)):
            yield self._width(law, ("width", index), stage.width, stage.width_rule, place)
            yield self._depth(law, index, stage, place)
        if head.width is not None:
            yield self._width(law, self.head, head.width, rounding.head or head.width_rule, 1.0)
        yield self._resolution(law)

    def _width(
        self, law: ScalingLaw, dimension: Dimension, width: int, rule: WidthRule, place: float
    ) -> tuple[Dimension, int, Iterator[ScalingStep]]:
        floor, multiple = law.floor("width", place), law.rounding.width_multiple
        if rule == "fixed" or _is_constant(law, "width", place):
            return dimension, apply.scaled_width(width, rule, floor or 1.0, law.rounding), iter(())
        if rule == "never_narrower":
            smallest = round_width(width * max(1.0, floor), law.rounding)
        else:
            smallest = apply.scaled_width(width, rule, floor, law.rounding) if floor else multiple
        values = count((smallest // multiple + 1) * multiple, multiple)
        return dimension, smallest, _growth(law, "width", dimension, width, values, place, min_width_for)

    def _depth(
        self, law: ScalingLaw, index: int, stage: Stage, place: float
    ) -> tuple[Dimension, int, Iterator[ScalingStep]]:
        floor = law.floor("depth", place)
        dimension: Dimension = ("depth", index)
        if stage.depth_rule == "fixed" or _is_constant(law, "depth", place):
            return dimension, apply.scaled_repeats(stage, floor or 1.0, law.rounding), iter(())
        smallest = apply.scaled_repeats(stage, floor, law.rounding) if floor else 1
        values = count(smallest + 1)
        return dimension, smallest, _growth(law, "depth", dimension, stage.repeats, values, place, min_repeats_for)

    def _resolution(self, law: ScalingLaw) -> tuple[Dimension, int, Iterator[ScalingStep]]:
        network, rounding, floor = self.network, law.rounding, law.floor("resolution")
        lowest = apply.scaled_resolution(network, floor, rounding) if floor else apply.min_resolution(network, rounding)
        if _is_constant(law, "resolution", 0.0):
            return RESOLUTION, lowest, iter(())
        values: Iterator[int] = count((lowest // self.multiple + 1) * self.multiple, self.multiple)
        if (highest := apply.max_resolution(network, rounding)) is not None:
            # A baseline beyond the cap keeps its own side, which need not be a multiple.
            own = (highest,) if highest % self.multiple and highest > lowest else ()
            values = iter((*takewhile(lambda pixels: pixels <= highest, values), *own))
        return RESOLUTION, lowest, _growth(
            law, "resolution", RESOLUTION, network.resolution, values, 0.0,
            lambda pixels, _: min_resolution_for(
                -(-pixels // self.multiple) * self.multiple, self.multiple, rounding.resolution
            ),
        )  # fmt: skip


def _is_constant(law: ScalingLaw, axis: Axis, place: float) -> bool:
    """Return whether a law never changes a dimension beyond its smallest value."""
    floor = law.floor(axis, place)
    return bool(floor) and math.isinf(law.phi_for(axis, floor * BEYOND, place))


def _growth(
    law: ScalingLaw,
    axis: Axis,
    dimension: Dimension,
    baseline: int,
    values: Iterator[int],
    place: float,
    min_for: Callable[[int, ScaleRounding], float],
) -> Iterator[ScalingStep]:
    """Yield the steps of one dimension: the phi at which the scaled ``baseline`` is first rounded to each value."""
    for value in values:
        # baseline * multiplier(phi) = min_for(value), solved for phi.
        phi = law.phi_for(axis, min_for(value, law.rounding) / baseline, place)
        if math.isinf(phi):
            return
        yield ScalingStep(phi, dimension, value)
