"""The blocks that a stage repeats, as frozen data. No torch, no shapes, no arithmetic."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from triscale.record import Record, SparseRecord


class ActivationKind(StrEnum):
    """Elementwise activations. Interpreters of the operation tree must handle all of them, which mypy checks.

    Networks also accept the value: ``activation="silu"``.
    """

    RELU = "relu"
    RELU6 = "relu6"
    SILU = "silu"
    SIGMOID = "sigmoid"
    HARD_SWISH = "hard_swish"
    HARD_SIGMOID = "hard_sigmoid"


GATES = (ActivationKind.SIGMOID, ActivationKind.HARD_SIGMOID)
"""Activations that end squeeze-and-excitation; no block uses them otherwise."""


def _check_block_activation(kind: ActivationKind) -> ActivationKind:
    if kind in GATES:
        others = ", ".join(other.value for other in ActivationKind if other not in GATES)
        raise ValueError(f"{kind} is the gate of squeeze-and-excitation and no activation of a block; use {others}")
    return kind


Activation = Annotated[ActivationKind, AfterValidator(_check_block_activation)]
"""The activation after a convolution."""
Skip = Literal["identity", "none", "pool"]
"""What is added to a block's output if the widths are equal: its input if the stride is 1, nothing, or its input
after a 3x3 average pool at the block's stride."""


def _check_odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel has an odd side (1, 3, 5, 7 ...)")
    return kernel


def _whole_if_equal(ratio: float) -> float:
    return int(ratio) if ratio == int(ratio) else ratio


Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_check_odd)]
Expansion = Annotated[int | float, Field(gt=0), AfterValidator(_whole_if_equal)]
"""Ratio of a block's inner channels to its input's. A whole ratio is exact; for a fraction, the inner channels are
rounded to a multiple of 8, by the rule of :func:`triscale.network.channels.round_channels`."""


class SqueezeRule(Record):
    """How squeeze-and-excitation (Hu et al. 2018) deviates from that of EfficientNet.

    Attributes:
        of: What ``se_ratio`` refers to: the block's ``input``, or the ``map`` that is scaled.
        multiple: The squeezed channels are rounded to a multiple of this; 1 rounds them down.
        activation: Activation of the squeezed channels; by default the block's.
        gate: The function that ends in the scale of each channel.

    Example:
        >>> SqueezeRule(of="map", multiple=8, activation="relu", gate="hard_sigmoid").multiple  # MobileNetV3
        8
    """

    of: Literal["input", "map"] = "input"
    multiple: PositiveInt = 1
    activation: Activation | None = None
    gate: Literal[ActivationKind.SIGMOID, ActivationKind.HARD_SIGMOID] = ActivationKind.SIGMOID


class MBConv(SparseRecord):
    """Inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1 (MobileNetV2, MnasNet, EfficientNet).

    At expansion 1 the first convolution is omitted. The inner width of squeeze-and-excitation is ``se_ratio`` times the
    block's *input* width, unless ``se_rule`` says otherwise; 0 means none. Sources: https://arxiv.org/abs/1801.04381,
    https://arxiv.org/abs/1807.11626.

    Attributes:
        expansion: Ratio of the depthwise convolution's channels to the input's; see :data:`Expansion` for fractions.
        kernel: Side of the depthwise kernel, odd.
        se_ratio: Ratio of the squeezed channels to the input's, from 0 to 1.
        activation: After the expansion and the depthwise convolution; the projection is linear.
        skip: What is added to the output.
        se_rule: Another width, activation or gate of squeeze-and-excitation; left out of JSON if there is none.

    Example:
        >>> MBConv(expansion=6, kernel=5, se_ratio=0.25).activation.value
        'silu'
    """

    sparse: ClassVar[tuple[str, ...]] = ("se_rule",)

    kind: Literal["mbconv"] = "mbconv"
    expansion: Expansion = 6
    kernel: Kernel = 3
    se_ratio: float = Field(default=0.0, ge=0, le=1)
    activation: Activation = ActivationKind.SILU
    skip: Skip = "identity"
    se_rule: SqueezeRule | None = None


class FusedMBConv(SparseRecord):
    """Inverted bottleneck with one full convolution for expansion and filter, project 1x1 (EfficientNetV2, EdgeTPU).

    At expansion 1 the projection is omitted, and the block is one convolution with activation. Sources:
    https://arxiv.org/abs/2104.00298 (Figure 2), https://arxiv.org/abs/2003.02838.

    Attributes:
        expansion: Ratio of the convolution's output channels to the input's.
        kernel: Side of the kernel, odd.
        se_ratio: Ratio of the squeezed channels to the input's, from 0 to 1.
        activation: After the full convolution; the projection is linear.
        skip: What is added to the output.
        se_rule: Another width, activation or gate of squeeze-and-excitation; left out of JSON if there is none.

    Example:
        >>> FusedMBConv(expansion=4).kernel
        3
    """

    sparse: ClassVar[tuple[str, ...]] = ("se_rule",)

    kind: Literal["fused_mbconv"] = "fused_mbconv"
    expansion: Expansion = 4
    kernel: Kernel = 3
    se_ratio: float = Field(default=0.0, ge=0, le=1)
    activation: Activation = ActivationKind.SILU
    skip: Skip = "identity"
    se_rule: SqueezeRule | None = None


class UniversalBottleneck(Record):
    """Universal inverted bottleneck: depthwise, expand 1x1, depthwise, project 1x1 (MobileNetV4).

    Each of the two depthwise convolutions may be missing, which gives four blocks: the inverted bottleneck (``kernel``
    alone), ConvNext's block (``start`` alone), both, and a feed-forward block. The stride is that of the convolution
    of ``kernel``, else of ``start``. Source: https://arxiv.org/abs/2404.10518.

    Attributes:
        expansion: Ratio of the inner channels to the input's.
        start: Side of the kernel before the expansion, without activation; None means that there is none.
        kernel: Side of the kernel after the expansion; None means that there is none.
        activation: After the expansion and the second depthwise convolution; the projection is linear.
        skip: What is added to the output.

    Example:
        >>> UniversalBottleneck(start=5, kernel=None).expansion
        4
    """

    kind: Literal["universal"] = "universal"
    expansion: Expansion = 4
    start: Kernel | None = None
    kernel: Kernel | None = 3
    activation: Activation = ActivationKind.RELU
    skip: Skip = "identity"


class Separable(Record):
    """Depthwise convolution, then 1x1, each with batch norm and activation (MobileNetV1).

    Source: https://arxiv.org/abs/1704.04861.

    Example:
        >>> Separable(kernel=5).skip
        'none'
    """

    kind: Literal["separable"] = "separable"
    kernel: Kernel = 3
    activation: Activation = ActivationKind.RELU
    skip: Skip = "none"


class Bottleneck(SparseRecord):
    """Reduce 1x1, convolve (with the stride), restore 1x1, add the input, activate (ResNet-50, ResNeXt, RegNet).

    Sources: https://arxiv.org/abs/1512.03385, with the stride in the 3x3 convolution as in torchvision; groups:
    https://arxiv.org/abs/1611.05431; squeeze-and-excitation: https://arxiv.org/abs/2003.13678 (in the middle),
    https://arxiv.org/abs/1709.01507 (at the end); pooled shortcut: https://arxiv.org/abs/1812.01187 (Figure 2c).

    Attributes:
        kernel: Side of the kernel in the middle, odd.
        reduction: Ratio of the output's channels to those of the middle convolution; for a fraction, these are rounded
            to the nearest number, for a whole ratio down.
        activation: After each convolution but the last, and after the addition.
        groups: Groups of the middle convolution, whose channels are rounded to a multiple of them. This and the
            following fields are left out of JSON at their defaults.
        group_width: Channels of each group, instead of the number of groups.
        se_ratio: Ratio of the squeezed channels to the block's input, from 0 to 1; 0 means none.
        se_rule: Another width, activation or gate of squeeze-and-excitation.
        se_at: Whether it scales the map after the ``middle`` convolution or after the last, at the ``end``.
        shortcut: Projection of the input where shapes differ: a ``strided`` 1x1 convolution, or a 2x2 average pool and
            a 1x1 convolution (``pooled``).

    Example:
        >>> Bottleneck(reduction=1, group_width=16, se_ratio=0.25).reduction  # RegNetY-600MF
        1
    """

    sparse: ClassVar[tuple[str, ...]] = ("groups", "group_width", "se_ratio", "se_rule", "se_at", "shortcut")

    kind: Literal["bottleneck"] = "bottleneck"
    kernel: Kernel = 3
    reduction: Expansion = 4
    activation: Activation = ActivationKind.RELU
    groups: PositiveInt = 1
    group_width: PositiveInt | None = None
    se_ratio: float = Field(default=0.0, ge=0, le=1)
    se_rule: SqueezeRule | None = None
    se_at: Literal["middle", "end"] = "middle"
    shortcut: Literal["strided", "pooled"] = "strided"

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.groups > 1 and self.group_width is not None:
            raise ValueError(f"groups={self.groups} and group_width={self.group_width} exclude each other; give one")
        return self


class Basic(Record):
    """Two convolutions, add the input, activate (ResNet-18 and -34).

    Source: https://arxiv.org/abs/1512.03385. The first convolution has the stride.

    Example:
        >>> Basic(kernel=5).activation.value
        'relu'
    """

    kind: Literal["basic"] = "basic"
    kernel: Kernel = 3
    activation: Activation = ActivationKind.RELU


class Conv(Record):
    """One full convolution with batch norm and activation.

    Example:
        >>> Conv(kernel=1, activation="silu").kernel
        1
    """

    kind: Literal["conv"] = "conv"
    kernel: Kernel = 3
    activation: Activation = ActivationKind.RELU
    skip: Skip = "none"


Block = Annotated[
    MBConv | FusedMBConv | UniversalBottleneck | Separable | Bottleneck | Basic | Conv, Field(discriminator="kind")
]
