"""A network as frozen data: stem, stages of repeated blocks, head. No torch, no shapes, no arithmetic."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from triscale.network.blocks import (
    Activation,
    ActivationKind,
    Basic,
    Block,
    Bottleneck,
    Conv,
    FusedMBConv,
    Kernel,
    MBConv,
    Separable,
    Skip,
    SqueezeRule,
    UniversalBottleneck,
)
from triscale.network.input_size import SQUARE, AspectRatio, ImageShape, SizedRecord
from triscale.notebook import html_table
from triscale.record import Record, SparseRecord, digest

__all__ = [
    "Activation",
    "ActivationKind",
    "Basic",
    "BatchNorm",
    "Block",
    "Bottleneck",
    "Conv",
    "DepthRule",
    "FusedMBConv",
    "Head",
    "Kernel",
    "MBConv",
    "Network",
    "Padding",
    "Separable",
    "Skip",
    "SqueezeRule",
    "Stage",
    "Stem",
    "UniversalBottleneck",
    "WidthRule",
]


Padding = Literal["same", "symmetric"]
"""``same``: as in TensorFlow, with extra padding at the bottom and right; ``symmetric``: as in PyTorch."""
WidthRule = Literal["scaled", "fixed", "never_narrower"]
"""How a width multiplier applies: multiply, ignore it, or multiply by at least 1."""
DepthRule = Literal["scaled", "fixed"]

RGB = 3


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


class Head(SparseRecord):
    """Optional 1x1 convolution, global average pool, optional wide layer, dropout, linear classifier.

    Attributes:
        width: Output channels of the convolution; None means that there is no convolution.
        activation: After the convolution and the wide layer.
        width_rule: How a width multiplier applies to the convolution.
        wide: Output channels of a linear layer with activation between the pool and the classifier (MobileNetV3); None
            means that there is none. It does not scale. Left out of JSON at the default, as is ``wide_norm``.
        wide_norm: Whether the wide layer has batch norm (MobileNetV4) instead of a bias.

    Example:
        >>> Head(width=1280).activation.value
        'silu'
    """

    sparse: ClassVar[tuple[str, ...]] = ("wide", "wide_norm")

    width: PositiveInt | None = None
    activation: Activation = ActivationKind.SILU
    width_rule: WidthRule = "scaled"
    wide: PositiveInt | None = None
    wide_norm: bool = False


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

    @model_validator(mode="after")
    def _check_strides(self) -> Self:
        for number, stage in enumerate(self.stages):
            block = stage.block
            if stage.stride > 1 and isinstance(block, UniversalBottleneck) and not (block.start or block.kernel):
                raise ValueError(
                    f"stage {number} has stride {stage.stride}, and a universal block without kernels has none; give "
                    "it a start or a kernel, or stride 1"
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
            (f"stage {number}", _block_cell(stage.block), stage.width, stage.repeats, stage.stride)
            for number, stage in enumerate(self.stages)
        ]
        parts = ("conv 1x1, " if self.head.width else "", "pool, ", "wide linear, " if self.head.wide else "", "linear")
        rows.append(("head", "".join(parts), self.head.width or "", 1, 1))
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


def _block_cell(block: Block) -> str:
    """Return kind and kernels of a block."""
    kernels = [block.start, block.kernel] if isinstance(block, UniversalBottleneck) else [block.kernel]
    return " ".join([block.kind, *(f"{kernel}x{kernel}" for kernel in kernels if kernel)])
