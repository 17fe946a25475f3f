"""The options for a block of a searched network as data, and the stage that a choice gives (Tan et al. 2019)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from triscale.network.spec import (
    Basic,
    Block,
    Bottleneck,
    Conv,
    FusedMBConv,
    Kernel,
    MBConv,
    Skip,
    Stage,
    UniversalBottleneck,
)
from triscale.record import Record, SparseRecord

Operation = Literal[
    "conv", "separable", "mbconv", "fused_mbconv", "universal", "convnext", "feed_forward", "basic", "bottleneck"
]
MOBILE: frozenset[Operation] = frozenset(
    {"conv", "separable", "mbconv", "fused_mbconv", "universal", "convnext", "feed_forward"}
)
RESIDUAL: frozenset[Operation] = frozenset({"basic", "bottleneck"})


class Options(SparseRecord):
    """The options for a block. A sample holds indices into these tuples, in the order of the fields.

    ``operations``: ``conv`` is a full convolution. ``separable`` is a depthwise and a linear 1x1 convolution (MnasNet's
    SepConv, an inverted bottleneck of expansion 1). ``mbconv`` is an inverted bottleneck with one of the
    ``expansions``, ``fused_mbconv`` EfficientNetV2's with a full convolution. ``universal``, ``convnext`` and
    ``feed_forward`` are MobileNetV4's: with one of the ``kernels`` after the expansion, with one before it, and without
    one; in a block with a stride, which needs a kernel, ``feed_forward`` is ``convnext``. ``basic`` and ``bottleneck``
    are the blocks of ResNets. ``se_ratios`` apply to separable, mbconv and fused_mbconv, ``skips`` to all but basic and
    bottleneck. ``widths`` are multipliers of the width of the skeleton's block, ``layers`` are added to its repeats.
    ``starts`` are sides of a kernel of ``universal`` before the expansion, 0 for none; they are left out of JSON if
    there is no other.
    """

    sparse: ClassVar[tuple[str, ...]] = ("starts",)

    operations: tuple[Operation, ...] = ("conv", "separable", "mbconv")
    kernels: tuple[Kernel, ...] = (3, 5)
    expansions: tuple[PositiveInt, ...] = (3, 6)
    se_ratios: tuple[float, ...] = (0.0, 0.25)
    skips: tuple[Skip, ...] = ("identity", "none", "pool")
    widths: tuple[float, ...] = (0.75, 1.0, 1.25)
    layers: tuple[int, ...] = (-1, 0, 1)
    starts: tuple[Literal[0, 3, 5, 7], ...] = (0,)

    @field_validator("*")
    @classmethod
    def _check_options(cls, options: tuple[object, ...]) -> tuple[object, ...]:
        if not options:
            raise ValueError("a choice without options leaves an empty space; give one or more")
        if len(set(options)) < len(options):
            raise ValueError(f"{options} contains an option twice; give each once")
        return options

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if any(not 0 <= ratio <= 1 for ratio in self.se_ratios):
            raise ValueError(f"a squeeze-excite ratio must be from 0 to 1, given {self.se_ratios}")
        if any(not 0 < factor <= 16 for factor in self.widths):
            raise ValueError(f"a width multiplier must be above 0 and at most 16, given {self.widths}")
        if any(not -32 <= change <= 32 for change in self.layers):
            raise ValueError(f"repeats must change by -32 to 32 layers, given {self.layers}")
        return self


MNASNET = Options()
"""The options of Tan et al. 2019. The paper does not state the expansions; 3 and 6 occur in the networks it found."""

MENUS: dict[str, Options] = {
    "mnasnet": MNASNET,
    "mbconv": Options(operations=("mbconv",), skips=("identity",)),
    "small": Options(operations=("mbconv",), skips=("identity",), se_ratios=(0.25,), widths=(1.0,)),
    "tiny": Options(operations=("mbconv",), skips=("identity",), se_ratios=(0.25,), widths=(1.0,), layers=(0,)),
    "resnet": Options(operations=("basic", "bottleneck"), skips=("identity",), expansions=(6,), se_ratios=(0.0,)),
    "efficientnet_v2": Options(operations=("fused_mbconv", "mbconv"), skips=("identity",), expansions=(1, 4, 6)),
    "mobilenet_v4": Options(
        operations=("fused_mbconv", "universal", "convnext", "feed_forward"),
        skips=("identity",),
        expansions=(2, 3, 4, 6),
        se_ratios=(0.0,),
        starts=(0, 3, 5),
    ),
}
"""Options by name: ``mbconv``, ``small`` and ``tiny`` are subsets of ``mnasnet``; ``resnet`` fits ResNet skeletons;
``efficientnet_v2`` has the choices of Tan & Le 2021, and ``mobilenet_v4`` the blocks of Qin et al. 2024."""


class Choices(Record):
    """A search space without its skeleton, as stored in a file: one set of options for all blocks, or one per block."""

    kind_name: ClassVar[str] = "choices"

    options: tuple[Options, ...] = Field(min_length=1)
    resolutions: tuple[PositiveInt, ...] = ()
    """Resolutions in pixels to choose from; if empty, the skeleton's."""


NAMES = tuple(Options.model_fields)
"""What is chosen for a block, in the order of a sample's indices."""


def round_to_width(width: float) -> int:
    """Round a width to the nearest multiple of 8 below 64, of 16 from 64 on; ties round down, and the minimum is 8.

    The paper gives no rule. With this one, 1.25 times MobileNetV2's 96 and 160 gives 112 and 192 as in MnasNet and
    EfficientNet-B0, so that these networks are in the space.

    Example:
        >>> [round_to_width(1.25 * width) for width in (96, 160)]
        [112, 192]
    """
    multiple = 8 if width < 64 else 16
    return max(8, math.ceil(width / multiple - 0.5) * multiple)


@lru_cache(maxsize=65536)
def stage_of(of_skeleton: Stage, options: Options, point: tuple[int, ...]) -> Stage:
    """Return a stage of a skeleton with the chosen block; cached, since a search asks for the same stages often.

    Args:
        of_skeleton: The skeleton's stage, which gives stride, activation, and the width and repeats to change.
        options: The options for its block.
        point: An index into each of the options, in the order of :data:`NAMES`.
    """
    chosen = {name: getattr(options, name)[index] for name, index in zip(NAMES, point, strict=True)}
    factor, operation = chosen["widths"], chosen["operations"]
    return Stage(
        block=_cached_block(
            "convnext" if operation == "feed_forward" and of_skeleton.stride > 1 else operation,
            chosen["kernels"],
            chosen["expansions"],
            chosen["se_ratios"],
            chosen["skips"],
            chosen["starts"],
            of_skeleton.block.activation,
        ),
        width=of_skeleton.width if factor == 1 else round_to_width(of_skeleton.width * factor),
        repeats=max(1, of_skeleton.repeats + chosen["layers"]),
        stride=of_skeleton.stride,
        width_rule=of_skeleton.width_rule,
        depth_rule=of_skeleton.depth_rule,
    )


@lru_cache(maxsize=65536)
def _cached_block(
    operation: Operation, kernel: int, expansion: int, se_ratio: float, skip: Skip, start: int, activation: str
) -> Block:
    common = {"kernel": kernel, "activation": activation}
    universal = {"expansion": expansion, "activation": activation, "skip": skip}
    match operation:
        case "conv":
            return Conv.model_validate(common | {"skip": skip})
        case "separable":
            return MBConv.model_validate(common | {"expansion": 1, "se_ratio": se_ratio, "skip": skip})
        case "mbconv":
            return MBConv.model_validate(common | {"expansion": expansion, "se_ratio": se_ratio, "skip": skip})
        case "fused_mbconv":
            return FusedMBConv.model_validate(common | {"expansion": expansion, "se_ratio": se_ratio, "skip": skip})
        case "universal":
            return UniversalBottleneck.model_validate(universal | {"start": start or None, "kernel": kernel})
        case "convnext":
            return UniversalBottleneck.model_validate(universal | {"start": kernel, "kernel": None})
        case "feed_forward":
            return UniversalBottleneck.model_validate(universal | {"start": None, "kernel": None})
        case "basic":
            return Basic.model_validate(common)
        case "bottleneck":
            return Bottleneck.model_validate(common)
