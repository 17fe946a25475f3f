"""The space of a baseline search as data: the options for each block of a skeleton (Tan et al. 2019, section 4.1).

The space is factorized and hierarchical: each block of a skeleton has its own choices, and all layers of a block are
the same. A choice is a list of options in a fixed order, so that a sample (a point of the space) is a tuple of indices.
Samples are easy to draw at random, to mutate and to count, and an RNN controller emits one token per choice.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import product
from typing import ClassVar, NamedTuple, Protocol, Self

from pydantic import ValidationError, model_validator

from triscale.errors import SearchError
from triscale.families.mobilenet import V2
from triscale.network.cost import count_network
from triscale.network.spec import Network, Stage
from triscale.record import Record
from triscale.scaling.budget import cost_value, format_cost
from triscale.search.baseline.options import MENUS, MOBILE, NAMES, RESIDUAL, Choices, Options, stage_of

Sample = tuple[int, ...]
"""One index for each choice of a space."""


class Random(Protocol):
    """A random generator: :class:`random.Random` or :class:`numpy.random.Generator`."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


class Choice(NamedTuple):
    """One position of a sample: the block (None for the resolution), what is chosen, and the options."""

    block: int | None
    name: str
    options: tuple[object, ...]


class Space(Record):
    """Choices around a skeleton network, which gives strides, activations, and the widths and repeats to change.

    Example:
        >>> import random
        >>> space = mnasnet()
        >>> sample = space.sample(random.Random(0))
        >>> space.find(space.network(sample)) is not None
        True
    """

    kind_name: ClassVar[str] = "space"

    name: str
    skeleton: Network
    choices: Choices

    @model_validator(mode="after")
    def _check_skeleton(self) -> Self:
        options, stages = self.choices.options, self.skeleton.stages
        if len(options) not in (1, len(stages)):
            raise ValueError(
                f"the space has options for {len(options)} blocks, and {self.skeleton.name} has {len(stages)}; give "
                "one set for all, or one for each"
            )
        for number, (stage, of_block) in enumerate(zip(stages, self._of_blocks, strict=True)):
            group = RESIDUAL if stage.block.kind in RESIDUAL else MOBILE
            if not set(of_block.operations) <= group:
                raise ValueError(
                    f"stage {number} of {self.skeleton.name} has {stage.block.kind} blocks, for which the space has no "
                    f"options: it has {', '.join(of_block.operations)}; give a space with "
                    f"{' or '.join(sorted(group))}, or another skeleton"
                )
        for resolution in self.choices.resolutions:
            self.skeleton.replace(resolution=resolution)
        if len(set(self.choices.resolutions)) < len(self.choices.resolutions):
            raise ValueError(f"the resolutions {self.choices.resolutions} contain one twice; give each once")
        return self

    @cached_property
    def free_choices(self) -> tuple[Choice, ...]:
        """The choices of a sample in order; a list with a single option is no choice."""
        of_blocks = (
            Choice(number, name, getattr(options, name))
            for number, options in enumerate(self._of_blocks)
            for name in NAMES
        )
        choices = (*of_blocks, Choice(None, "resolution", self.choices.resolutions))
        return tuple(choice for choice in choices if len(choice.options) > 1)

    @property
    def size(self) -> int:
        """Number of samples; different samples may give the same network."""
        return math.prod(len(choice.options) for choice in self.free_choices)

    def sample(self, rng: Random) -> Sample:
        """Draw a random sample, every option of a choice with equal probability.

        Args:
            rng: A :class:`random.Random` or :class:`numpy.random.Generator`.
        """
        return tuple(int(rng.random() * len(choice.options)) for choice in self.free_choices)

    def mutate(self, sample: Sample, rng: Random) -> Sample:
        """Return a sample with one random choice changed to another random option, both with equal probability."""
        self.check(sample)
        if not self.free_choices:
            return sample
        position = int(rng.random() * len(self.free_choices))
        count = len(self.free_choices[position].options)
        # Adding 1 to count - 1 modulo count reaches every option but the current one.
        option = (sample[position] + 1 + int(rng.random() * (count - 1))) % count
        return (*sample[:position], option, *sample[position + 1 :])

    def check(self, sample: Sample) -> None:
        """Check that a tuple of indices is a sample of this space.

        Raises:
            SearchError: The number of indices is wrong, or an index is out of range.
        """
        if len(sample) != len(self.free_choices):
            raise SearchError(f"a sample of {self.name} has {len(self.free_choices)} indices, given {len(sample)}")
        for choice, index in zip(self.free_choices, sample, strict=True):
            if not 0 <= index < len(choice.options):
                raise SearchError(
                    f"{_title(choice)} has {len(choice.options)} options, numbered from 0; {index} is out of range"
                )

    def network(self, sample: Sample) -> Network:
        """Return the network of a sample, named after its structure.

        Raises:
            SearchError: It is not a sample of this space.
        """
        stages, resolution = self.stages(sample)
        # All parts are valid by themselves, and every resolution was tried; validating again takes most of the time.
        unnamed = self.skeleton.replace(stages=stages, resolution=resolution)
        return unnamed.replace(name=f"{self.name}-{unnamed.structure[:8]}")

    def stages(self, sample: Sample) -> tuple[tuple[Stage, ...], int]:
        """Return the stages and the resolution of a sample, which are equal for samples that give the same network.

        Raises:
            SearchError: It is not a sample of this space.
        """
        self.check(sample)
        chosen = iter(sample)
        stages = tuple(
            self._stage(number, tuple(next(chosen) if len(getattr(options, name)) > 1 else 0 for name in NAMES))
            for number, options in enumerate(self._of_blocks)
        )
        resolutions = self.choices.resolutions or (self.skeleton.resolution,)
        return stages, resolutions[next(chosen) if len(resolutions) > 1 else 0]

    def find(self, network: Network) -> Sample | None:
        """Return a sample that gives the structure of a network, or None if there is none.

        Blocks are compared without their activations, which are the skeleton's.
        """
        if len(network.stages) != len(self.skeleton.stages):
            return None
        indices: list[int] = []
        for number, (options, stage_to_find) in enumerate(zip(self._of_blocks, network.stages, strict=True)):
            for point in product(*(range(len(getattr(options, name))) for name in NAMES)):
                stage = self._stage(number, point)
                styled = stage.block.replace(activation=stage_to_find.block.activation)
                if (styled, stage.width, stage.repeats, stage.stride) == (
                    stage_to_find.block,
                    stage_to_find.width,
                    stage_to_find.repeats,
                    stage_to_find.stride,
                ):
                    indices += [at for at, name in zip(point, NAMES, strict=True) if len(getattr(options, name)) > 1]
                    break
            else:
                return None
        resolutions = self.choices.resolutions or (self.skeleton.resolution,)
        if network.resolution not in resolutions:
            return None
        return (*indices, *((resolutions.index(network.resolution),) if len(resolutions) > 1 else ()))

    def smallest(self, cost: str = "macs") -> Network:
        """Return the cheapest network by ``macs`` or ``params``."""
        return self._extreme(cost, -1)

    def largest(self, cost: str = "macs") -> Network:
        """Return the most expensive network by ``macs`` or ``params``."""
        return self._extreme(cost, 1)

    def check_target(self, cost: str, target: float) -> None:
        """Check that a target is within the cost range of the space.

        Raises:
            SearchError: The target is below the cheapest network or above the most expensive one.
        """
        low, high = (cost_value(count_network(network), cost) for network in (self.smallest(cost), self.largest(cost)))
        if not low <= target <= high:
            extreme, nearest = ("smallest", low) if target < low else ("largest", high)
            raise SearchError(
                f"no network of the space {self.name} costs {format_cost(cost, target)}: the {extreme} has "
                f"{format_cost(cost, nearest)}; give a target from {format_cost(cost, low)} to "
                f"{format_cost(cost, high)}, or another skeleton or resolution"
            )

    @cached_property
    def _of_blocks(self) -> tuple[Options, ...]:
        options = self.choices.options
        return options if len(options) > 1 else options * len(self.skeleton.stages)

    def _stage(self, number: int, point: tuple[int, ...]) -> Stage:
        return stage_of(self.skeleton.stages[number], self._of_blocks[number], point)

    def _extreme(self, cost: str, sign: int) -> Network:
        """Hill-climb from one corner of the space: costs are monotonic in width, depth and resolution."""
        at = 0 if sign < 0 else -1
        sample = tuple(
            sorted(range(len(choice.options)), key=lambda index: choice.options[index])[at]  # type: ignore[arg-type,return-value]
            if choice.name not in ("operations", "skips")
            else 0
            for choice in self.free_choices
        )
        best = sign * cost_value(count_network(self.network(sample)), cost)
        improved = True
        while improved:
            improved = False
            for position, choice in enumerate(self.free_choices):
                for option in range(len(choice.options)):
                    changed = (*sample[:position], option, *sample[position + 1 :])
                    value = sign * cost_value(count_network(self.network(changed)), cost)
                    if value > best:
                        sample, best, improved = changed, value, True
        return self.network(sample)


def mnasnet(skeleton: Network = V2) -> Space:
    """Return the space of Tan et al. 2019 around MobileNetV2, or around another network of mobile blocks.

    Example:
        >>> mnasnet().name
        'mnasnet'
    """
    return around(skeleton, "mnasnet")


def around(skeleton: Network, menu: str, resolutions: tuple[int, ...] = ()) -> Space:
    """Return the space with one of :data:`MENUS` around a skeleton.

    Raises:
        SearchError: The name is unknown, or its options do not fit the skeleton.
    """
    if menu not in MENUS:
        raise SearchError(f'there is no space "{menu}"; the names are {", ".join(MENUS)}, or give a JSON file')
    return make_space(menu, skeleton, Choices(options=(MENUS[menu],), resolutions=resolutions))


def make_space(name: str, skeleton: Network, choices: Choices) -> Space:
    """Return the space of choices around a skeleton.

    Raises:
        SearchError: The options do not fit the skeleton's blocks or their number, or a resolution is too small for the
            skeleton's strides.
    """
    try:
        return Space.model_validate({"name": name, "skeleton": skeleton, "choices": choices})
    except ValidationError as error:
        raise SearchError(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from error


def _title(choice: Choice) -> str:
    return choice.name if choice.block is None else f"{choice.name} of block {choice.block}"
