"""Networks in the few words that tables have room for."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from triscale.network.spec import Basic, Block, Bottleneck, Conv, MBConv, Network, Separable, Skip

_SKIPS: dict[Skip, str] = {"none": "", "identity": " + input", "pool": " + pooled input"}
_SKIPS_OF_RESIDUAL: dict[Skip, str] = {"none": " no skip", "identity": "", "pool": " + pooled input"}
"""What is said of a block's way around; what is usual for it is not."""


def describe_block(block: Block) -> str:
    """Return a block as the field writes it: ``MBConv6 k5 SE 0.25 silu``."""
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
    """What stem, a stage or head is made of."""

    block: str
    repeats: int
    stride: int


def describe_parts(network: Network) -> tuple[PartDescription, ...]:
    """Return stem, stages and head in the order of :attr:`triscale.network.cost.Cost.stages`."""
    stem, head = network.stem, network.head
    pool = " + max pool" if stem.max_pool else ""
    return (
        PartDescription(f"conv k{stem.kernel}{pool}", 1, stem.stride * (2 if stem.max_pool else 1)),
        *(PartDescription(describe_block(stage.block), stage.repeats, stage.stride) for stage in network.stages),
        PartDescription("pool, linear" if head.width is None else "conv k1, pool, linear", 1, 1),
    )
