"""The space of a baseline search as data: what each block of a skeleton may be (Tan et al. 2019, section 4.1).

The space is factorized and hierarchical: the blocks of a skeleton are chosen for one by one, and all layers of a block
are alike. Every choice is a number of options in a fixed order, so that a point of the space, a sample, is a tuple of
indices: it can be drawn, changed in one place, counted, and emitted by a controller as one token for each choice.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from itertools import product
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from triscale.errors import SearchError
from triscale.families.mobilenet import V2
from triscale.network.cost import totals
from triscale.network.spec import Basic, Block, Bottleneck, Conv, Kernel, MBConv, Network, Skip, Stage
from triscale.record import Record
from triscale.scaling.budget import amount, figure

Operation = Literal["conv", "separable", "mbconv", "basic", "bottleneck"]
Sample = tuple[int, ...]
"""One index for each choice of a space."""

_LIGHT: frozenset[str] = frozenset({"conv", "separable", "mbconv"})
_RESIDUAL: frozenset[str] = frozenset({"basic", "bottleneck"})


class Random(Protocol):
    """What samples are drawn with: :class:`random.Random` or a generator of numpy."""

    def random(self) -> float:
        """Return a number from 0 to below 1."""


class Options(Record):
    """What a block may be, each in the order in which a sample counts.

    ``operations``: ``conv`` is a full convolution, ``separable`` a depthwise and a linear 1x1 convolution (MnasNet's
    SepConv, an inverted bottleneck of expansion 1), ``mbconv`` an inverted bottleneck of one of the ``expansions``,
    ``basic`` and ``bottleneck`` the blocks of ResNets. ``se_ratios`` hold for separable and mbconv, ``skips`` for these
    and conv. ``widths`` multiply that of the skeleton's block, ``layers`` are added to its repeats.
    """

    operations: tuple[Operation, ...] = ("conv", "separable", "mbconv")
    kernels: tuple[Kernel, ...] = (3, 5)
    expansions: tuple[PositiveInt, ...] = (3, 6)
    se_ratios: tuple[float, ...] = (0.0, 0.25)
    skips: tuple[Skip, ...] = ("identity", "none", "pool")
    widths: tuple[float, ...] = (0.75, 1.0, 1.25)
    layers: tuple[int, ...] = (-1, 0, 1)

    @field_validator("*")
    @classmethod
    def _check_options(cls, options: tuple[object, ...]) -> tuple[object, ...]:
        if not options:
            raise ValueError("no option at all leaves an empty space; give one or more")
        if len(set(options)) < len(options):
            raise ValueError(f"{options} names an option twice; each is one")
        return options

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if any(not 0 <= ratio <= 1 for ratio in self.se_ratios):
            raise ValueError(f"a squeeze-excite ratio is a share from 0 to 1, given {self.se_ratios}")
        if any(not 0 < factor <= 16 for factor in self.widths):
            raise ValueError(f"a width multiplier is above 0 and at most 16, given {self.widths}")
        if any(not -32 <= change <= 32 for change in self.layers):
            raise ValueError(f"repeats change by -32 to 32 layers, given {self.layers}")
        return self


MNASNET = Options()
"""The options of Tan et al. 2019. That expansions are 3 or 6 is inferred from the networks that they found."""

MENUS: dict[str, Options] = {
    "mnasnet": MNASNET,
    "mbconv": Options(operations=("mbconv",), skips=("identity",)),
    "small": Options(operations=("mbconv",), skips=("identity",), se_ratios=(0.25,), widths=(1.0,)),
    "tiny": Options(operations=("mbconv",), skips=("identity",), se_ratios=(0.25,), widths=(1.0,), layers=(0,)),
    "resnet": Options(operations=("basic", "bottleneck"), skips=("identity",), expansions=(6,), se_ratios=(0.0,)),
}
"""Options by name; those below ``mnasnet`` are parts of it for small machines, ``resnet`` is for ResNet skeletons."""


class Choices(Record):
    """A space without its skeleton, as a file holds it: options for all blocks alike, or for each one."""

    kind_name: ClassVar[str] = "choices"

    options: tuple[Options, ...] = Field(min_length=1)
    resolutions: tuple[PositiveInt, ...] = ()
    """Sides in pixels to choose from; none means that of the skeleton."""


class Choice(NamedTuple):
    """One place of a sample: of which block (none for the resolution), what is chosen, among what."""

    block: int | None
    name: str
    options: tuple[object, ...]


class Space(Record):
    """Choices around a skeleton, which gives strides, activations, widths and repeats to begin with."""

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
            group = _RESIDUAL if stage.block.kind in _RESIDUAL else _LIGHT
            if not set(of_block.operations) <= group:
                raise ValueError(
                    f"stage {number} of {self.skeleton.name} has {stage.block.kind} blocks, for which the space has no "
                    f"options: it has {', '.join(of_block.operations)}; give a space with "
                    f"{' or '.join(sorted(group))}, or another skeleton"
                )
        for resolution in self.choices.resolutions:
            self.skeleton.replace(resolution=resolution)
        if len(set(self.choices.resolutions)) < len(self.choices.resolutions):
            raise ValueError(f"the resolutions {self.choices.resolutions} name one twice")
        return self

    @cached_property
    def places(self) -> tuple[Choice, ...]:
        """What a sample chooses, in its order; where there is but one option nothing is chosen."""
        of_blocks = (
            Choice(number, name, getattr(options, name))
            for number, options in enumerate(self._of_blocks)
            for name in _NAMES
        )
        found = (*of_blocks, Choice(None, "resolution", self.choices.resolutions))
        return tuple(choice for choice in found if len(choice.options) > 1)

    @property
    def size(self) -> int:
        """How many samples there are; some of them are the same network."""
        return math.prod(len(choice.options) for choice in self.places)

    def sample(self, rng: Random) -> Sample:
        """Draw a sample, every option of a choice with equal probability.

        Args:
            rng: a :class:`random.Random` or a generator of numpy.
        """
        return tuple(int(rng.random() * len(choice.options)) for choice in self.places)

    def mutate(self, sample: Sample, rng: Random) -> Sample:
        """Return a sample that differs in one choice, drawn with equal probability, as does its new option."""
        self.check(sample)
        if not self.places:
            return sample
        place = int(rng.random() * len(self.places))
        count = len(self.places[place].options)
        option = (sample[place] + 1 + int(rng.random() * (count - 1))) % count
        return (*sample[:place], option, *sample[place + 1 :])

    def check(self, sample: Sample) -> None:
        """Refuse what is no sample of this space.

        Raises:
            SearchError: another number of indices, or one beyond the options of its choice.
        """
        if len(sample) != len(self.places):
            raise SearchError(f"a sample of {self.name} has {len(self.places)} indices, given {len(sample)}")
        for choice, index in zip(self.places, sample, strict=True):
            if not 0 <= index < len(choice.options):
                raise SearchError(
                    f"{_title(choice)} has {len(choice.options)} options, counted from 0; {index} is none of them"
                )

    def network(self, sample: Sample) -> Network:
        """Return the network of a sample, named after its structure.

        Raises:
            SearchError: it is no sample of this space.
        """
        self.check(sample)
        chosen = iter(sample)
        stages = tuple(
            self._stage(number, tuple(next(chosen) if len(getattr(options, name)) > 1 else 0 for name in _NAMES))
            for number, options in enumerate(self._of_blocks)
        )
        resolutions = self.choices.resolutions or (self.skeleton.resolution,)
        resolution = resolutions[next(chosen) if len(resolutions) > 1 else 0]
        # All parts are valid by themselves, and every resolution was tried; validating again takes most of the time.
        unnamed = self.skeleton.model_copy(update={"stages": stages, "resolution": resolution})
        return unnamed.model_copy(update={"name": f"{self.name}-{unnamed.structure[:8]}"})

    def find(self, network: Network) -> Sample | None:
        """Return a sample whose network has the structure of another one, if there is one.

        Blocks are compared without their activations, which are the skeleton's.
        """
        if len(network.stages) != len(self.skeleton.stages):
            return None
        indices: list[int] = []
        for number, (options, wanted) in enumerate(zip(self._of_blocks, network.stages, strict=True)):
            for point in product(*(range(len(getattr(options, name))) for name in _NAMES)):
                stage = self._stage(number, point)
                styled = stage.block.model_copy(update={"activation": wanted.block.activation})
                if (styled, stage.width, stage.repeats, stage.stride) == (
                    wanted.block,
                    wanted.width,
                    wanted.repeats,
                    wanted.stride,
                ):
                    indices += [at for at, name in zip(point, _NAMES, strict=True) if len(getattr(options, name)) > 1]
                    break
            else:
                return None
        resolutions = self.choices.resolutions or (self.skeleton.resolution,)
        if network.resolution not in resolutions:
            return None
        return (*indices, *((resolutions.index(network.resolution),) if len(resolutions) > 1 else ()))

    def smallest(self, cost: str = "macs") -> Network:
        """Return the network of the least cost (``macs`` or ``params``)."""
        return self._extreme(cost, -1)

    def largest(self, cost: str = "macs") -> Network:
        """Return the network of the greatest cost (``macs`` or ``params``)."""
        return self._extreme(cost, 1)

    def check_target(self, cost: str, target: float) -> None:
        """Refuse a target that no network of the space can meet.

        Raises:
            SearchError: the target is below the cheapest network or above the dearest; the message says which.
        """
        low, high = (figure(totals(network), cost) for network in (self.smallest(cost), self.largest(cost)))
        if not low <= target <= high:
            said, nearest = ("least", low) if target < low else ("most", high)
            raise SearchError(
                f"no network of the space {self.name} costs {amount(cost, target)}: the nearest has "
                f"{amount(cost, nearest)}, the {said} of all; give a target from {amount(cost, low)} to "
                f"{amount(cost, high)}, or another skeleton or resolution"
            )

    @cached_property
    def _of_blocks(self) -> tuple[Options, ...]:
        options = self.choices.options
        return options if len(options) > 1 else options * len(self.skeleton.stages)

    def _stage(self, number: int, point: tuple[int, ...]) -> Stage:
        return _stage(self.skeleton.stages[number], self._of_blocks[number], point)

    def _extreme(self, cost: str, sign: int) -> Network:
        """Follow single choices from the end of all until none helps: costs grow with width, depth and side."""
        at = 0 if sign < 0 else -1
        sample = tuple(
            sorted(range(len(choice.options)), key=lambda index: choice.options[index])[at]  # type: ignore[arg-type,return-value]
            if choice.name not in ("operations", "skips")
            else 0
            for choice in self.places
        )
        best = sign * figure(totals(self.network(sample)), cost)
        improved = True
        while improved:
            improved = False
            for place, choice in enumerate(self.places):
                for option in range(len(choice.options)):
                    changed = (*sample[:place], option, *sample[place + 1 :])
                    found = sign * figure(totals(self.network(changed)), cost)
                    if found > best:
                        sample, best, improved = changed, found, True
        return self.network(sample)


_NAMES = tuple(Options.model_fields)


def mnasnet(skeleton: Network = V2) -> Space:
    """Return the space of Tan et al. 2019 around MobileNetV2, or around another network of light blocks."""
    return around(skeleton, "mnasnet")


def around(skeleton: Network, menu: str, resolutions: tuple[int, ...] = ()) -> Space:
    """Return a space of one of :data:`MENUS` around a skeleton.

    Raises:
        SearchError: an unknown name, or options that do not go with the skeleton.
    """
    if menu not in MENUS:
        raise SearchError(f'there is no space "{menu}"; the names are {", ".join(MENUS)}, or give a JSON file of one')
    return make_space(menu, skeleton, Choices(options=(MENUS[menu],), resolutions=resolutions))


def make_space(name: str, skeleton: Network, choices: Choices) -> Space:
    """Return the space of choices around a skeleton.

    Raises:
        SearchError: options that do not go with the skeleton's blocks, for another number of blocks, or a resolution
            that is too small for its strides.
    """
    try:
        return Space(name=name, skeleton=skeleton, choices=choices)
    except ValidationError as error:
        raise SearchError(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from error


def round_to_width(width: float) -> int:
    """Return the nearest multiple of 8 up to 64 and of 16 from there on; ties go down, and the least is 8.

    The paper gives no rule. With this one 1.25 times the 96 and 160 of MobileNetV2 are the 112 and 192 of MnasNet and
    EfficientNet-B0, which are so points of the space.
    """
    multiple = 8 if width < 64 else 16
    return max(8, math.ceil(width / multiple - 0.5) * multiple)


@lru_cache(maxsize=65536)
def _cached_block(
    operation: Operation, kernel: int, expansion: int, se_ratio: float, skip: Skip, activation: str
) -> Block:
    common = {"kernel": kernel, "activation": activation}
    match operation:
        case "conv":
            return Conv.model_validate(common | {"skip": skip})
        case "separable":
            return MBConv.model_validate(common | {"expansion": 1, "se_ratio": se_ratio, "skip": skip})
        case "mbconv":
            return MBConv.model_validate(common | {"expansion": expansion, "se_ratio": se_ratio, "skip": skip})
        case "basic":
            return Basic.model_validate(common)
        case "bottleneck":
            return Bottleneck.model_validate(common)


@lru_cache(maxsize=65536)
def _stage(of_skeleton: Stage, options: Options, point: tuple[int, ...]) -> Stage:
    """Return a stage of the skeleton with what is chosen for its block; remembered, since a search asks often."""
    chosen = {name: getattr(options, name)[index] for name, index in zip(_NAMES, point, strict=True)}
    factor = chosen["widths"]
    return Stage(
        block=_cached_block(
            chosen["operations"],
            chosen["kernels"],
            chosen["expansions"],
            chosen["se_ratios"],
            chosen["skips"],
            of_skeleton.block.activation,
        ),
        width=of_skeleton.width if factor == 1 else round_to_width(of_skeleton.width * factor),
        repeats=max(1, of_skeleton.repeats + chosen["layers"]),
        stride=of_skeleton.stride,
        width_rule=of_skeleton.width_rule,
        depth_rule=of_skeleton.depth_rule,
    )


def _title(choice: Choice) -> str:
    return choice.name if choice.block is None else f"{choice.name} of block {choice.block}"
