"""A network as frozen data: stem, stages of repeated blocks, head. No torch, no shapes, no arithmetic."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from triscale.network.input_size import SQUARE, AspectRatio, ImageShape, SizedRecord
from triscale.notebook import html_table
from triscale.record import Record, digest


class ActivationKind(StrEnum):
    """Elementwise activations. Interpreters of the operation tree must handle all of them, which mypy checks.

    Networks also accept the value: ``activation="silu"``.
    """

    RELU = "relu"
    RELU6 = "relu6"
    SILU = "silu"
    SIGMOID = "sigmoid"


def _check_block_activation(kind: ActivationKind) -> ActivationKind:
    if kind is ActivationKind.SIGMOID:
        others = ", ".join(other.value for other in ActivationKind if other is not kind)
        raise ValueError(f"sigmoid is the gate of squeeze-and-excitation and no activation of a block; use {others}")
    return kind


Activation = Annotated[ActivationKind, AfterValidator(_check_block_activation)]
"""The activation after a convolution."""
Padding = Literal["same", "symmetric"]
"""``same``: as in TensorFlow, with extra padding at the bottom and right; ``symmetric``: as in PyTorch."""
WidthRule = Literal["scaled", "fixed", "never_narrower"]
"""How a width multiplier applies: multiply, ignore it, or multiply by at least 1."""
DepthRule = Literal["scaled", "fixed"]
Skip = Literal["identity", "none", "pool"]
"""What is added to a block's output if the widths are equal: its input if the stride is 1, nothing, or its input
after a 3x3 average pool at the block's stride."""


def _check_odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel has an odd side (1, 3, 5, 7 ...)")
    return kernel


RGB = 3

Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_check_odd)]


class MBConv(Record):
    """Inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1 (MobileNetV2, MnasNet, EfficientNet).

    At expansion 1 the first convolution is omitted. The inner width of squeeze-and-excitation is ``se_ratio`` times the
    block's *input* width; 0 means none. Sources: https://arxiv.org/abs/1801.04381, https://arxiv.org/abs/1807.11626.

    Attributes:
        expansion: Ratio of the depthwise convolution's channels to the input's.
        kernel: Side of the depthwise kernel, odd.
        se_ratio: Ratio of the squeezed channels to the input's, from 0 to 1.
        activation: After the expansion and the depthwise convolution; the projection is linear.
        skip: What is added to the output.

    Example:
        >>> MBConv(expansion=6, kernel=5, se_ratio=0.25).activation.value
        'silu'
    """

    kind: Literal["mbconv"] = "mbconv"
    expansion: PositiveInt = 6
    kernel: Kernel = 3
    se_ratio: float = Field(default=0.0, ge=0, le=1)
    activation: Activation = ActivationKind.SILU
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


class Bottleneck(Record):
    """Reduce 1x1, convolve (with the stride), restore 1x1, add the input, activate (ResNet-50 and deeper).

    Source: https://arxiv.org/abs/1512.03385, with the stride in the 3x3 convolution as in torchvision. ``reduction`` is
    the ratio of the output's channels to those of the middle convolution.

    Example:
        >>> Bottleneck().reduction
        4
    """

    kind: Literal["bottleneck"] = "bottleneck"
    kernel: Kernel = 3
    reduction: PositiveInt = 4
    activation: Activation = ActivationKind.RELU


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


Block = Annotated[MBConv | Separable | Bottleneck | Basic | Conv, Field(discriminator="kind")]


class BatchNorm(Record):
    """Batch normalization; ``momentum`` is the weight of the new batch, PyTorch's convention.

    Example:
        >>> BatchNorm(momentum=0.1).eps
        0.001
    """

    eps: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.01, gt=0, le=1)


class Stem(Record):
    """The first convolution, and for ResNets a 3x3 max pool of stride 2 after it.

    Attributes:
        width: Output channels.
        kernel: Side of the kernel, odd.
        stride: Stride of the convolution.
        activation: After the convolution.
        max_pool: Whether the max pool follows.
        width_rule: How a width multiplier applies.

    Example:
        >>> Stem(width=32).stride
        2
    """

    width: PositiveInt
    kernel: Kernel = 3
    stride: PositiveInt = 2
    activation: Activation = ActivationKind.SILU
    max_pool: bool = False
    width_rule: WidthRule = "scaled"


class Stage(Record):
    """A repeated block; the first repeat has the stride.

    Attributes:
        block: The block.
        width: Output channels.
        repeats: How often the block is repeated.
        stride: Stride of the first repeat; the others have stride 1.
        width_rule: How a width multiplier applies.
        depth_rule: How a depth multiplier applies.

    Example:
        >>> Stage(block=MBConv(expansion=1), width=16, repeats=1).stride
        1
    """

    block: Block
    width: PositiveInt
    repeats: PositiveInt
    stride: PositiveInt = 1
    width_rule: WidthRule = "scaled"
    depth_rule: DepthRule = "scaled"


class Head(Record):
    """Optional 1x1 convolution, global average pool, dropout, linear classifier.

    Attributes:
        width: Output channels of the convolution; None means that there is no convolution.
        activation: After the convolution.
        width_rule: How a width multiplier applies.

    Example:
        >>> Head(width=1280).activation.value
        'silu'
    """

    width: PositiveInt | None = None
    activation: Activation = ActivationKind.SILU
    width_rule: WidthRule = "scaled"


class Network(SizedRecord):
    """A convolutional image classifier as data.

    The input is ``in_channels`` x height x width, the output ``classes`` logits.

    Attributes:
        name: Name for reports and files.
        stem: The first convolution.
        stages: The repeated blocks, in order.
        head: The layers after the last stage.
        resolution: Side of the input image in pixels; its height if it is not square. Scaling changes it.
        aspect_ratio: Width to height of the input image, two whole numbers; scaling keeps it. It is left out of JSON if
            the image is square.
        in_channels: Channels of the input image; left out of JSON if there are three.
        classes: Number of outputs.
        dropout: Rate of dropout before the classifier.
        drop_path: Rate of stochastic depth: residual block i of N, from 0, is dropped at rate ``drop_path * i / N``.
        padding: Convention for padding.
        norm: Parameters of every batch normalization.

    Example:
        >>> network = Network(
        ...     name="small",
        ...     stem=Stem(width=16),
        ...     stages=(Stage(block=MBConv(), width=24, repeats=2, stride=2),),
        ...     resolution=64,
        ...     classes=10,
        ... )
        >>> network.total_stride, network.num_blocks
        (4, 2)
    """

    kind_name: ClassVar[str] = "network"
    sparse: ClassVar[tuple[str, ...]] = ("aspect_ratio", "in_channels")

    name: str = Field(min_length=1)
    stem: Stem
    stages: tuple[Stage, ...] = Field(min_length=1)
    head: Head = Head()
    resolution: PositiveInt
    aspect_ratio: AspectRatio = SQUARE
    in_channels: PositiveInt = RGB
    classes: PositiveInt = 1000
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    padding: Padding = "same"
    norm: BatchNorm = BatchNorm()

    @model_validator(mode="after")
    def _check_resolution(self) -> Self:
        if self.size.shorter * 2 < self.total_stride:
            raise ValueError(
                f"a resolution of {self.size} px is too small for a network whose strides multiply to "
                f"{self.total_stride}; use at least {self.total_stride // 2} px or smaller strides"
            )
        return self

    @property
    def input_shape(self) -> ImageShape:
        """Channels, height and width of the input image."""
        return self.size.shape(self.in_channels)

    @property
    def total_stride(self) -> int:
        """Side of the input divided by the side of the last feature map."""
        total = self.stem.stride * (2 if self.stem.max_pool else 1)
        for stage in self.stages:
            total *= stage.stride
        return total

    @property
    def num_blocks(self) -> int:
        """Number of blocks in all stages."""
        return sum(stage.repeats for stage in self.stages)

    def __repr__(self) -> str:
        """Return name, resolution, blocks and classes."""
        return f"Network({self.name!r}, {self.size} px, {self.num_blocks} blocks, {self.classes} classes)"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the stages as a table, for notebooks."""
        rows: list[tuple[object, ...]] = [("stem", f"conv {self.stem.kernel}x{self.stem.kernel}", self.stem.width, 1,
                                           self.stem.stride)]  # fmt: skip
        rows += [
            (f"stage {number}", f"{stage.block.kind} {stage.block.kernel}x{stage.block.kernel}", stage.width,
             stage.repeats, stage.stride)
            for number, stage in enumerate(self.stages)
        ]  # fmt: skip
        rows.append(("head", "pool, linear" if self.head.width is None else "conv 1x1, pool, linear",
                     self.head.width or "", 1, 1))  # fmt: skip
        return html_table(("part", "block", "width", "repeats", "stride"), rows, repr(self))

    @property
    def structure(self) -> str:
        """Digest of everything except the name: equal for networks that compute the same."""
        data = self.model_dump(mode="json", exclude={"name"})
        for stage, dumped in zip(self.stages, data["stages"], strict=True):
            # A default skip is left out of the digest, which keeps the digests from before the field existed.
            usual = type(stage.block).model_fields.get("skip")
            if usual is not None and dumped["block"]["skip"] == usual.default:
                del dumped["block"]["skip"]
        return digest(data)
