"""The networks that a law gives, as one chain from the smallest to ever larger ones.

As phi grows, widths, repeats and resolution grow in single steps. Each step has the phi at which the law asks for it;
taken in that order they form a chain in which each network has everything that the one before has, so that cost grows
along it (but for projections of ResNet blocks, which a width can make superfluous). Between two networks of a chain no
smaller change follows the law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from triscale.network.spec import Network
from triscale.scaling import apply
from triscale.scaling.law import Law

Part = tuple[str, int]
"""What a step changes: ``("width", -1)`` stem, ``("width", i)`` and ``("depth", i)`` stage i, ``("width", n)`` head."""

RESOLUTION: Part = ("resolution", 0)
STEM: Part = ("width", -1)


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One part of the network grows to ``value`` at ``phi``."""

    phi: float
    part: Part
    value: int


class Chain:
    """All steps of a law for a network up to a largest phi."""

    def __init__(self, network: Network, law: Law, largest_phi: float) -> None:
        self.network = network
        self.multiple = apply.resolution_multiple(network)
        self.head: Part = ("width", len(network.stages))
        self._smallest: dict[Part, int] = {}
        steps: list[Step] = []
        for part, smallest, growth in self._parts(law):
            self._smallest[part] = smallest
            steps.extend(takewhile(lambda step: step.phi <= largest_phi, growth))
        self.steps = sorted(steps)

    def at(self, length: int, ahead: Sequence[Step] = ()) -> Network:
        """Return the network after the first ``length`` steps, and some of the steps beyond them."""
        value = dict(self._smallest)
        for step in (*self.steps[:length], *ahead):
            value[step.part] = step.value
        network = self.network
        head = network.head
        return network.replace(
            stem=network.stem.model_copy(update={"width": value[STEM]}),
            stages=tuple(
                stage.model_copy(update={"width": value["width", index], "repeats": value["depth", index]})
                for index, stage in enumerate(network.stages)
            ),
            head=head if head.width is None else head.model_copy(update={"width": value[self.head]}),
            resolution=value[RESOLUTION],
        )

    def _parts(self, law: Law) -> Iterator[tuple[Part, int, Iterator[Step]]]:
        """Yield each part with its smallest value and its steps."""
        network = self.network
        yield self._width(STEM, network.stem.width, network.stem.width_rule, law.beta)
        for index, stage in enumerate(network.stages):
            yield self._width(("width", index), stage.width, stage.width_rule, law.beta)
            depth = 1.0 if stage.depth_rule == "fixed" else law.alpha
            smallest = stage.repeats if depth == 1 else 1
            yield (
                ("depth", index),
                smallest,
                _growth(("depth", index), stage.repeats, depth, count(smallest + 1), apply.repeats_reaching),
            )
        if network.head.width is not None:
            yield self._width(self.head, network.head.width, network.head.width_rule, law.beta)
        lowest = apply.smallest_resolution(network) if law.gamma > 1 else network.resolution
        yield (
            RESOLUTION,
            lowest,
            _growth(
                RESOLUTION,
                network.resolution,
                law.gamma,
                count(lowest + self.multiple, self.multiple),
                lambda pixels: apply.resolution_reaching(pixels, self.multiple),
            ),
        )

    def _width(self, part: Part, width: int, rule: str, beta: float) -> tuple[Part, int, Iterator[Step]]:
        if rule == "fixed" or beta == 1:
            return part, width, iter(())
        smallest = apply.round_width(width) if rule == "never_narrower" else apply.WIDTH_MULTIPLE
        values = count(smallest + apply.WIDTH_MULTIPLE, apply.WIDTH_MULTIPLE)
        return part, smallest, _growth(part, width, beta, values, apply.width_reaching)


def _growth(
    part: Part, baseline: int, base: float, values: Iterator[int], reaching: Callable[[int], float]
) -> Iterator[Step]:
    """Yield the steps of one part: the phi at which ``baseline * base^phi`` is first rounded to each value."""
    if base == 1:
        return
    for value in values:
        yield Step(math.log(reaching(value) / baseline) / math.log(base), part, value)
