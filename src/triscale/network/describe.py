"""Short descriptions of blocks and networks for tables."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from triscale.network.spec import Basic, Block, Bottleneck, Conv, MBConv, Network, Separable, Skip

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
        case MBConv():
            se = f" SE {block.se_ratio:g}" if block.se_ratio else ""
            return f"MBConv{block.expansion} k{block.kernel}{se} {block.activation}{_SKIPS_OF_RESIDUAL[block.skip]}"
        case Separable():
            return f"separable k{block.kernel} {block.activation}{_SKIPS[block.skip]}"
        case Bottleneck():
            return f"bottleneck k{block.kernel} {block.activation}"
        case Basic():
            return f"basic k{block.kernel} {block.activation}"
        case Conv():
            return f"conv k{block.kernel} {block.activation}{_SKIPS[block.skip]}"
        case _:
            assert_never(block)


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
        PartDescription("pool, linear" if head.width is None else "conv k1, pool, linear", 1, 1),
    )
