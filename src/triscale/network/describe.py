"""Networks in the few words that tables have room for."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from triscale.network.spec import Basic, Block, Bottleneck, Conv, MBConv, Network, Separable, Skip

_SKIPS: dict[Skip, str] = {"none": "", "identity": " + input", "pool": " + pooled input"}
_SKIPS_OF_RESIDUAL: dict[Skip, str] = {"none": " no skip", "identity": "", "pool": " + pooled input"}
"""What is said of a block's way around; what is usual for it is not."""


def block_in_words(block: Block) -> str:
    """Return a block as the field writes it: ``MBConv6 k5 SE 0.25 silu``."""
    match block:
        case MBConv():
            gate = f" SE {block.se_ratio:g}" if block.se_ratio else ""
            return f"MBConv{block.expansion} k{block.kernel}{gate} {block.activation}{_SKIPS_OF_RESIDUAL[block.skip]}"
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


class PartInWords(NamedTuple):
    """What stem, a stage or head is made of."""

    block: str
    repeats: int
    stride: int


def parts_in_words(network: Network) -> tuple[PartInWords, ...]:
    """Return stem, stages and head in the order of :attr:`triscale.network.cost.Cost.stages`."""
    stem, head = network.stem, network.head
    pool = " + max pool" if stem.max_pool else ""
    return (
        PartInWords(f"conv k{stem.kernel}{pool}", 1, stem.stride * (2 if stem.max_pool else 1)),
        *(PartInWords(block_in_words(stage.block), stage.repeats, stage.stride) for stage in network.stages),
        PartInWords("pool, linear" if head.width is None else "conv k1, pool, linear", 1, 1),
    )
