"""Short descriptions of blocks and networks for tables."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from triscale.network.spec import (
    Basic,
    Block,
    Bottleneck,
    Conv,
    FusedMBConv,
    MBConv,
    Network,
    Separable,
    Skip,
    UniversalBottleneck,
)

_SKIPS: dict[Skip, str] = {"none": "", "identity": " + input", "pool": " + pooled input"}
_SKIPS_OF_RESIDUAL: dict[Skip, str] = {"none": " no skip", "identity": "", "pool": " + pooled input"}
"""Suffixes that describe a block's skip connection; its default has none."""


def describe_block(block: Block) -> str:
    """Describe a block in the usual notation.

    Example:
        >>> describe_block(MBConv(expansion=6, kernel=5, se_ratio=0.25))
        'MBConv6 k5 SE 0.25 silu'
    """
    match block:
        case MBConv() | FusedMBConv():
            name = "MBConv" if isinstance(block, MBConv) else "fused MBConv"
            skip = _SKIPS_OF_RESIDUAL[block.skip]
            return f"{name}{block.expansion:g} k{block.kernel}{_se(block)} {block.activation}{skip}"
        case UniversalBottleneck():
            kernels = "".join(f" {at} k{side}" for at, side in (("start", block.start), ("", block.kernel)) if side)
            skip = _SKIPS_OF_RESIDUAL[block.skip]
            return f"universal{block.expansion:g}{kernels.replace('  ', ' ')} {block.activation}{skip}"
        case Separable():
            return f"separable k{block.kernel} {block.activation}{_SKIPS[block.skip]}"
        case Bottleneck():
            groups = f" groups {block.groups}" if block.groups > 1 else ""
            width = f" group width {block.group_width}" if block.group_width else ""
            return f"bottleneck k{block.kernel}{groups}{width}{_se(block)} {block.activation}"
        case Basic():
            return f"basic k{block.kernel} {block.activation}"
        case Conv():
            return f"conv k{block.kernel} {block.activation}{_SKIPS[block.skip]}"
        case _:
            assert_never(block)


def _se(block: MBConv | FusedMBConv | Bottleneck) -> str:
    return f" SE {block.se_ratio:g}" if block.se_ratio else ""


class PartDescription(NamedTuple):
    """Description of the stem, a stage or the head."""

    block: str
    repeats: int
    stride: int


def describe_parts(network: Network) -> tuple[PartDescription, ...]:
    """Describe stem, stages and head, in the order of :attr:`triscale.network.cost.Cost.stages`."""
    stem, head = network.stem, network.head
    pool = " + max pool" if stem.max_pool else ""
    return (
        PartDescription(f"conv k{stem.kernel}{pool}", 1, stem.stride * (2 if stem.max_pool else 1)),
        *(PartDescription(describe_block(stage.block), stage.repeats, stage.stride) for stage in network.stages),
        PartDescription(f"{'conv k1, ' if head.width else ''}pool, {'wide linear, ' if head.wide else ''}linear", 1, 1),
    )
